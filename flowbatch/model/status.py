"""The seven statuses of AWS Batch and which may follow which.

A single, or a child of an array, walks

    SUBMITTED → PENDING → RUNNABLE → STARTING → RUNNING → SUCCEEDED | FAILED

and may go back from STARTING or RUNNING to RUNNABLE (a retry, or an interruption). Every live status may end FAILED (cancel,
terminate, a failed dependency). PENDING may end SUCCEEDED: a `when` that never fires is skipped. The parent of an array
is never RUNNABLE, STARTING or RUNNING. FAILED → PENDING is the one edge out of a terminal status, by an explicit retry
of the user, and starts a new generation of the job (semantics.md 8). With it `finally` runs again whole: its jobs alone go
SUCCEEDED → PENDING too, which is not among the TRANSITIONS, so that nothing but `core.reopening` can do it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Status(IntEnum):
    SUBMITTED = 0
    PENDING = 1
    RUNNABLE = 2
    STARTING = 3
    RUNNING = 4
    SUCCEEDED = 5
    FAILED = 6

    def __init__(self, value: int) -> None:
        self.waiting = value <= 2
        self.live = 3 <= value <= 4  # holds capacity
        self.terminal = value >= 5


class RunStatus(IntEnum):
    """Interrupted is not a status: it is a RUNNING run that no engine holds."""

    RUNNING = 0
    SUCCEEDED = 1
    FAILED = 2


# The members by names of their own, for what is done for every task: before Python 3.12 each look through the class goes by way of
# its metaclass, and takes five times as long.
SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED = Status

TRANSITIONS: Final[frozenset[tuple[Status, Status]]] = frozenset(
    {
        (SUBMITTED, PENDING),
        (SUBMITTED, RUNNABLE),
        (SUBMITTED, FAILED),
        (PENDING, RUNNABLE),
        (PENDING, SUCCEEDED),  # skipped; or an array, whose parent never leaves PENDING before
        (PENDING, FAILED),
        (RUNNABLE, STARTING),
        (RUNNABLE, FAILED),
        (STARTING, RUNNING),
        (STARTING, RUNNABLE),
        (STARTING, FAILED),
        (RUNNING, RUNNABLE),
        (RUNNING, SUCCEEDED),
        (RUNNING, FAILED),
        (FAILED, PENDING),  # only by an explicit retry
    }
)
