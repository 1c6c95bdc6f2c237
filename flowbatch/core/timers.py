"""Deadlines as values: the core says when it must be woken, the shell wakes it."""

from __future__ import annotations

import heapq
from enum import IntEnum
from typing import NamedTuple

from msgspec import Struct, field

from flowbatch.model.ids import Millis


class TimerKind(IntEnum):
    TIMEOUT = 1  # of an attempt: (job id, index, attempt)
    BACKOFF = 2  # of a retry: (job id, index, attempts so far)
    DEADLINE = 3  # of a run: (run id, generation)
    FINALLY = 4  # of a run's finally stage: (run id, generation)
    DEPENDENCY = 5  # a container's startTimeout: (job id, index, attempt)
    LIMIT = 6  # of a blocked head of a queue: (queue, job number)
    SCALE_DOWN = 7  # of an environment whose demand has fallen: (name)
    REPLACE = 8  # of an environment that is being updated: what still runs on what it replaces ends (name)
    RESERVE = 9  # of nobody in particular: somebody has waited long enough for a reservation


class Timer(NamedTuple):
    at: Millis
    kind: TimerKind
    subject: tuple[str, int, int]


class Timers(Struct):
    """A heap that is never searched: a timer whose subject has moved on is dropped when it comes up."""

    heap: list[Timer] = field(default_factory=list)

    def add(self, at: Millis, kind: TimerKind, subject: tuple[str, int, int]) -> None:
        heapq.heappush(self.heap, Timer(at, kind, subject))

    def due(self, now: Millis) -> Timer | None:
        """Takes the next timer that has come, or None."""
        if self.heap and self.heap[0].at <= now:
            return heapq.heappop(self.heap)
        return None

    def next_deadline(self) -> Millis | None:
        return self.heap[0].at if self.heap else None
