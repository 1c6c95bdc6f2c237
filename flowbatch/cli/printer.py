"""Writes to standard output on a thread of its own: a reader that stops reading must never stop the engine."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Final

import click

WAITING_MAX: Final = 10_000  # writes that wait for a slow reader; what comes on top is dropped and counted


class Printer:
    def __init__(self) -> None:
        self.dropped = 0
        self.dead = False  # nobody reads any more, or the disk is full: the run goes on unseen
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._work, name="printer", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        return self._queue.empty()

    def put(self, write: Callable[[], None]) -> None:
        if self.dead:
            return
        try:
            self._queue.put_nowait(write)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Waits until all is written: call it when no engine waits for us."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            if self.dead:
                continue
            try:
                write()
                if sys.stdout is not None:
                    sys.stdout.flush()
            except (OSError, ValueError):  # a broken pipe, a full disk; ValueError: a closed stream
                self.dead = True


def say_aside(text: str) -> None:
    """To standard error; where that is closed, broken or full, nobody hears it and the run goes on."""
    try:
        click.echo(text, err=True)
    except (OSError, ValueError):
        return


def give_up_output() -> None:
    """Standard output cannot be written: what Python still holds for it goes nowhere, and ends the process with no error."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
