"""One at a time of each name."""

from __future__ import annotations

import anyio


class Turns:
    """Who comes while another of its name is under way waits. Every `enter` that returns has its `leave`."""

    def __init__(self) -> None:
        self._under_way: dict[str, anyio.Event | None] = {}  # with an event where somebody waits, which is seldom

    async def enter(self, name: str) -> None:
        while name in self._under_way:
            left = self._under_way[name] = self._under_way[name] or anyio.Event()
            await left.wait()
        self._under_way[name] = None

    def leave(self, name: str) -> None:
        waited_for = self._under_way.pop(name)
        if waited_for is not None:
            waited_for.set()
