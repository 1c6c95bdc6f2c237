"""A store that is full, fails or is cancelled under a working engine: reliability.md F25, F26, F28, I2."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest

from flowbatch.cli.main import first_of_ours
from flowbatch.errors import FlowbatchError, InternalError, StoreDamaged, StoreFull
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.rows import EndedJob, Loaded, Writes
from flowbatch.model.stimuli import SubmitRun
from flowbatch.ports import Store
from flowbatch.store.health import Health
from flowbatch.store.writer import SqliteStore
from tests.engine.rig import Rig, planned

TRIES = 4
WIDE = """
environments: {here: {backend: fake, vcpus: 3}}
jobs: {wide: {array: 400, command: [pretend], x-fake: {duration: 100ms}}}
"""


class Faulty:
    """A store whose commits go through `fault`, which may raise instead."""

    def __init__(self, store: Store, fault: Callable[[Store, Writes], object]) -> None:
        self.store = store
        self.fault = fault

    async def load(self) -> Loaded:
        return await self.store.load()

    async def load_run(self, run: RunId) -> Loaded | None:
        return await self.store.load_run(run)

    async def ended_jobs(self, ids: Sequence[JobId]) -> list[EndedJob]:
        return await self.store.ended_jobs(ids)

    async def commit(self, writes: Writes) -> None:
        self.fault(self.store, writes)
        await self.store.commit(writes)

    async def collect(self, before: Millis) -> int:
        return await self.store.collect(before)

    async def close(self) -> None:
        await self.store.close()


class NoRoom:
    """The nth commit finds the disk full, several times over."""

    def __init__(self, rig: Rig, at: int) -> None:
        self.rig = rig
        self.at = at
        self.commits = 0
        self.tried: list[int] = []
        self.asked: list[Writes] = []
        self.full = anyio.Event()
        self.room = anyio.Event()

    def __call__(self, store: Store, writes: Writes) -> None:
        if self.tried and not self.room.is_set():
            self.refuse(writes)
        else:
            self.commits += 1
            if self.commits == self.at:
                self.refuse(writes)

    def refuse(self, writes: Writes) -> None:
        self.asked.append(writes)
        if len(self.tried) == TRIES:
            self.room.set()
            return
        self.tried.append(self.rig.clock.now())
        self.full.set()
        raise StoreFull("no room on the disk")


@pytest.mark.slow
async def test_a_full_disk_stops_the_line_at_every_commit(folders: Iterator[Path]) -> None:
    free = Rig(next(folders), planned())
    counted = NoRoom(free, 0)
    async with free.engine(store=partial(Faulty, fault=counted)) as engine:
        await free.to_the_end(engine)
    expected = free.result()
    assert counted.commits > 25
    for number in range(1, counted.commits + 1, 2):
        rig = Rig(next(folders), planned())
        no_room = NoRoom(rig, number)
        async with rig.engine(store=partial(Faulty, fault=no_room)) as engine:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(drive_while_full, rig, no_room)
                await rig.to_the_end(engine)
            assert engine.full_since is None
        assert rig.result() == expected
        first = no_room.tried[0]
        assert no_room.tried == [first + 1000 * n for n in range(TRIES)]  # each second
        assert all(writes is no_room.asked[0] for writes in no_room.asked)  # the same turn, nothing decided meanwhile


async def drive_while_full(rig: Rig, no_room: NoRoom) -> None:
    """A stopped line waits for the clock: somebody has to move it."""
    await no_room.full.wait()
    await rig.clock.wait(no_room.room, None)


class Watched(Faulty):
    """Says when SQLite itself has refused."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, lambda store, writes: None)
        self.full = anyio.Event()

    async def commit(self, writes: Writes) -> None:
        try:
            await super().commit(writes)
        except StoreFull:
            self.full.set()
            raise

    async def limit(self, pages: str) -> None:
        assert isinstance(self.store, SqliteStore)
        await self.store._connection.call(lambda db: db.execute(f"PRAGMA max_page_count = {pages}").fetchall())


@pytest.mark.slow
async def test_with_a_disk_that_is_really_full(folders: Iterator[Path]) -> None:
    """What runs ends and is heard of later; nothing starts, though slots come free."""
    rig = Rig(next(folders), planned(WIDE))
    stores: list[Watched] = []

    def watched(store: Store) -> Store:
        stores.append(Watched(store))
        return stores[0]

    async with rig.engine(store=watched) as engine, anyio.create_task_group() as tasks:
        await engine.ask(lambda ticket: SubmitRun(ticket, rig.plan))
        await stores[0].limit("1")  # SQLite takes it for: as many as there are
        tasks.start_soon(rig.to_the_end, engine)
        await stores[0].full.wait()
        assert engine.full_since is not None
        before = rig.backend.starts.copy()
        await rig.clock.wait(anyio.Event(), Millis(rig.clock.now() + 10_000))
        assert engine.full_since is not None
        assert rig.backend.starts == before
        assert len(before) < 400
        await stores[0].limit("1000000")
        await rig.clock.wait(anyio.Event(), Millis(rig.clock.now() + 1_000))
    assert len(rig.result()) == 400


@pytest.mark.parametrize("error", [StoreDamaged("the store is damaged"), InternalError("a bug")])
async def test_any_other_error_ends_the_engine_loudly(folders: Iterator[Path], error: FlowbatchError) -> None:
    rig = Rig(next(folders), planned())
    calls = 0

    def fails(store: Store, writes: Writes) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise error

    with pytest.raises(BaseExceptionGroup) as raised:
        async with rig.engine(store=partial(Faulty, fault=fails)) as engine:
            await rig.to_the_end(engine)
    assert first_of_ours(raised.value) is error
    assert calls == 7, "an engine whose memory is ahead of the disk goes on"
    async with rig.engine() as engine:
        await rig.to_the_end(engine)
    rig.result()


class Axe:
    """Cancels the engine so many rounds of the event loop after its nth commit has begun."""

    def __init__(self, at: int, rounds: int) -> None:
        self.at = at
        self.rounds = rounds
        self.commits = 0
        self.scope = anyio.CancelScope()

    def __call__(self, store: Store, writes: Writes) -> None:
        self.commits += 1
        if self.commits == self.at:
            self.fall(self.rounds)

    def fall(self, rounds: int) -> None:
        if rounds:
            asyncio.get_running_loop().call_soon(self.fall, rounds - 1)
        else:
            self.scope.cancel()


@pytest.mark.slow
async def test_an_engine_cancelled_at_every_commit_leaves_whole_turns(folders: Iterator[Path]) -> None:
    free, never = Rig(next(folders), planned()), Axe(0, 0)
    async with free.engine(store=partial(Faulty, fault=never)) as engine:
        await free.to_the_end(engine)
    expected = free.result()
    for number in range(1, never.commits + 1, 2):
        rig, axe = Rig(next(folders), planned()), Axe(number, number // 2 % 4)
        with axe.scope:
            async with rig.engine(store=partial(Faulty, fault=axe)) as engine:
                await rig.to_the_end(engine)
        assert axe.scope.cancelled_caught, number
        async with rig.engine() as engine:
            await rig.to_the_end(engine)
        assert rig.result() == expected
        with Health(rig.folder / "flowbatch.db") as health:
            assert health.damage() == []
            assert health.violations() == []
