"""The `flowbatch` command: errors become one message and an exit code (semantics.md 14)."""

from __future__ import annotations

import sys


def main() -> None:
    from flowbatch.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
