from __future__ import annotations

import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from flowbatch.clock import SystemClock, VirtualClock, WallClock
from flowbatch.model.ids import Millis


async def test_virtual_time_moves_from_deadline_to_deadline() -> None:
    clock = VirtualClock(100)
    woken: list[tuple[str, int]] = []

    async def sleeper(name: str, at: int) -> None:
        await clock.sleep_until(Millis(at))
        woken.append((name, clock.now()))

    async with anyio.create_task_group() as tasks:
        for name, at in (("late", 900), ("early", 300), ("past", 50)):
            tasks.start_soon(sleeper, name, at)
        await clock.wait(anyio.Event(), Millis(500))
        assert clock.now() == 500
        assert woken == [("past", 100), ("early", 300)]
        await clock.wait(anyio.Event(), Millis(901))
    assert woken[-1] == ("late", 900)


async def test_virtual_time_stands_still_while_there_is_something_to_do() -> None:
    clock = VirtualClock()
    event = anyio.Event()
    event.set()
    await clock.wait(event, Millis(1_000))
    assert clock.now() == 0


async def test_virtual_time_stands_until_it_may_go() -> None:
    """A start that waits for a real disk must not find that hours have passed."""
    clock = VirtualClock(100)
    clock.stand()

    async def later() -> None:
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert clock.now() == 100
        clock.go()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later)
        await clock.wait(anyio.Event(), Millis(500))
    assert clock.now() == 500


async def test_an_event_ends_a_wait_at_the_time_of_its_setting() -> None:
    clock = VirtualClock()
    event = anyio.Event()

    async def setter() -> None:
        await clock.sleep_until(Millis(70))
        event.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(setter)
        await clock.wait(event, Millis(1_000))
    assert clock.now() == 70


async def test_a_wait_without_deadline_is_moved_by_a_later_sleeper() -> None:
    clock = VirtualClock()
    event, go = anyio.Event(), anyio.Event()

    async def from_outside() -> None:
        await go.wait()
        await clock.sleep_until(Millis(40))
        event.set()

    async def real_io() -> None:
        await anyio.to_thread.run_sync(lambda: None)
        go.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(from_outside)
        tasks.start_soon(real_io)
        await clock.wait(event, None)
    assert clock.now() == 40


async def test_a_cancelled_sleeper_leaves_no_deadline_behind() -> None:
    clock = VirtualClock()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(clock.sleep_until, Millis(10))
            await anyio.lowlevel.checkpoint()
            scope.cancel()
    await clock.wait(anyio.Event(), Millis(500))
    assert clock.now() == 500


async def test_the_systems_clock_waits_until_a_moment_or_an_event() -> None:
    clock = SystemClock()
    before = clock.now()
    await clock.wait(anyio.Event(), Millis(before + 20))
    await clock.sleep_until(Millis(before + 30))
    assert clock.now() >= before + 29
    event = anyio.Event()
    event.set()
    await clock.wait(event, None)


def test_a_clock_that_is_set_moves_nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour forward, two back: the engine's time goes on as if nothing had been (F29)."""
    real, jump_ns = time.time_ns, 0
    monkeypatch.setattr(time, "time_ns", lambda: real() + jump_ns)
    clock, wall = SystemClock(), WallClock()
    begun = clock.now()
    assert abs(wall.now() - begun) < 1_000
    seen = [begun]
    for jump_ns in (3600 * 10**9, -7200 * 10**9, 0):
        seen.append(clock.now())
        assert abs(wall.now() - (begun + jump_ns // 1_000_000)) < 10_000
    assert seen == sorted(seen)
    assert seen[-1] - begun < 10_000
