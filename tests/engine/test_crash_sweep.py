"""An engine that dies at every point of its work, and one that goes on: reliability.md F01 to F06, I1, I4, I7.

The points: before each commit, after it with no effect performed, and before each single call to the backend. The successor
works on the same store and the same backend, sometimes after the world went on alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

import anyio
import pytest

from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.rows import EndedJob, Loaded, Writes
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Observation
from flowbatch.ports import Backend, Capabilities, Finding, LaunchOrder, Report, Store
from tests.engine.rig import Rig, planned

ALONE_MS: Final = (0, 35, 5_000)  # how long nobody looks, in turn


class Crash(Exception):
    """The engine is gone at this very instant."""


class Fuse:
    """Blows at the nth call; 0: never."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0

    def burn(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            raise Crash(self.at)


class FusedStore:
    """The fuse burns before each commit, or after it."""

    def __init__(self, store: Store, fuse: Fuse, *, after: bool) -> None:
        self.store = store
        self.fuse = fuse
        self.after = after

    async def load(self) -> Loaded:
        return await self.store.load()

    async def load_run(self, run: RunId) -> Loaded | None:
        return await self.store.load_run(run)

    async def ended_jobs(self, ids: Sequence[JobId]) -> list[EndedJob]:
        return await self.store.ended_jobs(ids)

    async def commit(self, writes: Writes) -> None:
        if not self.after:
            self.fuse.burn()
        await self.store.commit(writes)
        if self.after:
            self.fuse.burn()

    async def collect(self, before: Millis) -> int:
        return await self.store.collect(before)

    async def close(self) -> None:
        await self.store.close()


class FusedBackend:
    """The fuse burns before each order, stop and forget is handed on: what went before it has been performed."""

    def __init__(self, backend: Backend, fuse: Fuse) -> None:
        self.backend = backend
        self.fuse = fuse

    @property
    def name(self) -> str:
        return self.backend.name

    @property
    def caps(self) -> Capabilities:
        return self.backend.caps

    async def check(self) -> list[Finding]:
        return await self.backend.check()

    async def run(self, report: Report, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        await self.backend.run(report, task_status=task_status)

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        for order in orders:
            self.fuse.burn()
            self.backend.launch([order])

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        self.fuse.burn()
        self.backend.stop(key, grace_ms, why)

    def forget(self, keys: Sequence[AttemptKey]) -> None:
        for key in keys:
            self.fuse.burn()
            self.backend.forget([key])

    def waits_for(self, key: AttemptKey) -> str | None:
        return self.backend.waits_for(key)

    def watch_log(self, key: AttemptKey) -> None:
        self.backend.watch_log(key)

    async def census(self) -> list[Observation]:
        return await self.backend.census()


SEEDS: Final = 8
Result = dict[tuple[str, int], tuple[Status, int | None]]
POINTS: Final = ("before the commit", "after the commit", "amid the effects")


async def life(rig: Rig, point: str, fuse: Fuse, *, held: bool) -> bool:
    """True where the engine crashed."""
    crashed = False
    try:
        async with rig.engine(
            store=lambda store: store if point == POINTS[2] else FusedStore(store, fuse, after=point == POINTS[1]),
            backend=lambda backend: FusedBackend(backend, fuse) if point == POINTS[2] else backend,
            held=held,
        ) as engine:
            await rig.to_the_end(engine)
    except* Crash:
        crashed = True
    return crashed


async def crash_free(folder: Path, point: str) -> tuple[Result, int]:
    """How every task ends, and how often the fuse burns on the way."""
    rig, fuse = Rig(folder, planned()), Fuse(0)
    assert not await life(rig, point, fuse, held=False)
    return rig.result(), fuse.calls


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
async def test_one_crash_at_every_point(folders: Iterator[Path], point: str) -> None:
    expected, points = await crash_free(next(folders), point)
    assert points > 25
    for number in range(1, points + 1):
        rig = Rig(next(folders), planned())
        assert await life(rig, point, Fuse(number), held=False), number
        if alone_ms := ALONE_MS[number % len(ALONE_MS)]:
            await rig.backend.alone(rig.clock, alone_ms)
        assert not await life(rig, point, Fuse(0), held=number % 2 == 0)
        assert rig.result() == expected, f"crash {point} number {number}"


@pytest.mark.slow
async def test_crash_upon_crash(folders: Iterator[Path]) -> None:
    """Engines that die again and again, each after little work: the recovery itself is swept."""
    expected, _ = await crash_free(next(folders), POINTS[0])
    for seed in range(SEEDS):
        dice = Random(seed)
        rig = Rig(next(folders), planned())
        crashes = 0
        while await life(rig, dice.choice(POINTS), Fuse(dice.randint(1, 12)), held=crashes % 2 == 1):
            crashes += 1
            if alone_ms := dice.choice(ALONE_MS):
                await rig.backend.alone(rig.clock, alone_ms)
        assert crashes >= 2
        assert rig.result() == expected, f"seed {seed}, {crashes} crashes"
