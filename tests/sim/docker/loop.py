"""An event loop whose time moves when nothing else can, and a clock that says it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from flowbatch.clock import SystemClock
from flowbatch.model.ids import Millis

EPOCH_S = 1_000_000.0
STEP_S = 1e-6  # a smaller one could be lost in the sum
T = TypeVar("T")


class Standstill(AssertionError):
    """Nothing can run, and nobody waits for a moment that will come."""


class Patient(selectors.DefaultSelector):
    """Takes the time that it should wait as passed, unless a worker thread is at something."""

    now = EPOCH_S
    workers: anyio.CapacityLimiter | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.workers is not None and self.workers.borrowed_tokens:
            return super().select(0.01)
        if timeout is None:
            raise Standstill("nothing will ever happen any more")
        self.now += max(timeout, STEP_S)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.patient = Patient()
        super().__init__(self.patient)

    def time(self) -> float:
        return self.patient.now


class LoopClock(SystemClock):
    def now(self) -> Millis:
        return Millis(int(anyio.current_time() * 1000))


def play(function: Callable[[], Awaitable[T]]) -> T:
    async def main() -> T:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.patient.workers = anyio.to_thread.current_default_thread_limiter()
        return await function()

    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": VirtualLoop})
