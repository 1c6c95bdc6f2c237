"""Deadlines of tasks on the monotonic clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from flowbatch.backends.supervisor.task import Task

Due = Callable[[Task], None]


class Timers:
    """A task that has ended leaves its deadlines behind; they go when they come due, or when they outnumber the others."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Due, Task]] = []
        self._count = 0
        self._prune_at = 1024

    def add(self, at: float, due: Due, task: Task) -> None:
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, due, task))
        if len(self._heap) > self._prune_at:
            self._heap = [timer for timer in self._heap if not timer[3].over]
            heapq.heapify(self._heap)
            self._prune_at = max(1024, 2 * len(self._heap))

    def next_at(self) -> float | None:
        return self._heap[0][0] if self._heap else None

    def fire(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            _, _, due, task = heapq.heappop(self._heap)
            if not task.over:
                due(task)
