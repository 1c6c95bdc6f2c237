"""The `flowbatch` command: errors become one message and an exit code (semantics.md 14)."""

from __future__ import annotations

import gc
import os
import sys


def main() -> None:
    tune()
    keep_first_descriptors()
    try:
        from flowbatch.cli.main import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules come in
        code = 130
    leave(code)


def tune() -> None:
    """The interpreter, for an engine. Benchmarks do it too, so that they measure what runs."""
    # Starting makes tens of thousands of objects that stay: collecting among them only costs time.
    gc.set_threshold(100_000, 20, 20)
    # The store's thread waits for the interpreter up to this long at each step of a commit, and a turn waits for the commit.
    sys.setswitchinterval(0.0005)


def keep_first_descriptors() -> None:
    """Where 0, 1 or 2 are closed, no file of ours may become one of them: what is meant for an output would go into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def leave(code: int) -> None:
    """Ends the process without taking the interpreter apart, which costs a tenth of a short run and frees what goes anyway."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)  # what could not be written is told as Python tells it
    os._exit(code)


if __name__ == "__main__":
    main()
