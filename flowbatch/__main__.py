"""The `flowbatch` command: errors become one message and an exit code (semantics.md 14)."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    # Starting makes tens of thousands of objects that stay: collecting among them only costs time.
    gc.set_threshold(50_000, 20, 20)
    # The store's thread waits for the interpreter up to this long at each step of a commit, and a turn waits for the commit.
    sys.setswitchinterval(0.0005)
    from flowbatch.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
