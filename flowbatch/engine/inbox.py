"""Where stimuli wait for the next turn. Facts always find room: they are bounded by the live attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import anyio

from flowbatch.model.stimuli import Stimulus


class Inbox:
    """Belongs to one event loop; `post` may be called from any callback on it."""

    def __init__(self) -> None:
        self._waiting: deque[Stimulus] = deque()
        self.event = anyio.Event()

    def post(self, stimuli: Iterable[Stimulus]) -> None:
        self._waiting.extend(stimuli)
        if self._waiting:
            self.event.set()

    def take(self, most: int) -> list[Stimulus]:
        """Up to `most` stimuli in order of arrival; the event stays set while more are waiting."""
        if len(self._waiting) <= most:
            taken = list(self._waiting)
            self._waiting.clear()
            if self.event.is_set():
                self.event = anyio.Event()
            return taken
        return [self._waiting.popleft() for _ in range(most)]

    def __len__(self) -> int:
        return len(self._waiting)
