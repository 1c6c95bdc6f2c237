"""Time: the machine's, or one that only moves when there is nothing left to do."""

from __future__ import annotations

import heapq
import time

import anyio
from anyio.lowlevel import checkpoint

from flowbatch.model.ids import Millis

_FOREVER_MS = 2**62
_SETTLE_ROUNDS = 6  # a call from one task to the next takes one round of the event loop, a cancellation two


class WallClock:
    """What the machine says the time is: it may jump when somebody sets it. For calendars and signatures."""

    def now(self) -> Millis:
        return Millis(time.time_ns() // 1_000_000)

    async def wait(self, event: anyio.Event, until: Millis | None) -> None:
        if event.is_set():
            return
        if until is None:
            await event.wait()
            return
        with anyio.move_on_after(max(until - self.now(), 0) / 1000):
            await event.wait()

    async def sleep_until(self, at: Millis) -> None:
        await anyio.sleep(max(at - self.now(), 0) / 1000)


class SystemClock(WallClock):
    """The wall's time when it was made, and since then what has passed, a suspended machine's sleep included: it never goes back and
    never jumps, whatever is done to the wall's. So timeouts last what they say, and an end is after its beginning."""

    def __init__(self) -> None:
        self._anchor_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> Millis:
        return Millis((self._anchor_ns + time.clock_gettime_ns(time.CLOCK_BOOTTIME)) // 1_000_000)


class VirtualClock:
    """Moves to the next deadline at once when everything waits: for tests and dry runs.

    A task in `wait` (the engine) drives: while its event is unset and nothing else can run, the earliest deadline of any
    waiter or sleeper is taken as now. While the driver is busy elsewhere, say in a commit, time stands still, so whatever it
    started sleeps as it would on a machine of infinite speed. Tasks in `sleep_until` never move time themselves.
    """

    def __init__(self, now: int = 0) -> None:
        self._now = now
        self._sleepers: list[tuple[int, int, anyio.Event]] = []
        self._untils: list[int] = []
        self._count = 0
        self._arrival = anyio.Event()  # a sleeper came: a driver that had no deadline to move to has one now
        self._stands = False

    def now(self) -> Millis:
        return Millis(self._now)

    def stand(self) -> None:
        """Until `go`: what waits for something of the real world must not find that hours have passed meanwhile."""
        self._stands = True

    def go(self) -> None:
        self._stands = False
        self._arrival.set()

    async def sleep_until(self, at: Millis) -> None:
        if at <= self._now:
            await checkpoint()
            return
        woken = anyio.Event()
        self._count += 1
        entry = (int(at), self._count, woken)
        heapq.heappush(self._sleepers, entry)
        self._arrival.set()
        try:
            await woken.wait()
        finally:
            if not woken.is_set():  # cancelled: time must not stop at a deadline that nobody waits for
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    async def wait(self, event: anyio.Event, until: Millis | None) -> None:
        deadline = _FOREVER_MS if until is None else int(until)
        self._untils.append(deadline)
        try:
            while not event.is_set() and self._now < deadline:
                await self._settle(event)
                if event.is_set() or self._now >= deadline:
                    break
                target = min(self._untils)
                if self._sleepers:
                    target = min(target, self._sleepers[0][0])
                if target < _FOREVER_MS and not self._stands:
                    self._move_to(target)
                else:
                    await self._either(event)
        finally:
            self._untils.remove(deadline)

    def _move_to(self, now: int) -> None:
        self._now = max(self._now, now)
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

    async def _settle(self, event: anyio.Event) -> None:
        """Lets whoever can run do so, until it waits as well."""
        for _ in range(_SETTLE_ROUNDS):
            await checkpoint()
            if event.is_set():
                return

    async def _either(self, event: anyio.Event) -> None:
        """Only the event itself, or a new sleeper, can bring anything now."""
        self._arrival = arrival = anyio.Event()

        async def until_arrival() -> None:
            await arrival.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(until_arrival, name="clock-arrival")
            await event.wait()
            group.cancel_scope.cancel()
