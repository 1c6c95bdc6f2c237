"""A full disk, another program's lock, a cancelled caller, a hanging disk (F25, F26, F28)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from flowbatch.errors import InternalError, StoreDamaged, StoreError, StoreFull
from flowbatch.model.rows import Writes
from flowbatch.store import connection, faults
from flowbatch.store.health import Health
from flowbatch.store.writer import SqliteStore
from tests.store import rows
from tests.store.opening import a_store, inside, query
from tests.store.rows import spec, submission, task_row


def a_turn(first: int, count: int = 600) -> Writes:
    return Writes(
        tasks={(100, i): task_row(100, i) for i in range(first, first + count)},
        events=[rows.child_event(1, 100, i) for i in range(first, first + count)],
    )


async def test_a_full_disk_stops_a_commit_and_nothing_else(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        [(pages,)] = await inside(store, lambda db: db.execute("PRAGMA page_count").fetchall())
        await inside(store, lambda db: db.execute(f"PRAGMA max_page_count = {pages + 5}"))
        writes = a_turn(0)
        for _ in range(2):
            with pytest.raises(StoreFull, match="no room"):
                await store.commit(writes)
            assert not await inside(store, lambda db: db.in_transaction)
            assert query(tmp_path, "SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM event)") == [(0, 2)]
        await inside(store, lambda db: db.execute("PRAGMA max_page_count = 1000000"))
        await store.commit(writes)
        assert len((await store.load()).tasks) == 600
    with Health(tmp_path / "flowbatch.db") as health:
        assert health.damage() == []


async def test_another_programs_lock_is_waited_for(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        await inside(store, lambda db: db.execute("PRAGMA busy_timeout = 1"))
        with closing(sqlite3.connect(tmp_path / "flowbatch.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match="locked"):
                await store.commit(a_turn(0))
            other.execute("ROLLBACK")
        await store.commit(a_turn(0))
        assert len((await store.load()).tasks) == 600


async def test_damage_met_on_the_way_is_called_damage(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        await store.commit(a_turn(0))
        await inside(store, lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
        [(page,)] = query(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'task'")
        with (tmp_path / "flowbatch.db").open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
        await inside(store, lambda db: db.execute("PRAGMA shrink_memory"))
        with pytest.raises(StoreDamaged, match="damaged"):
            await store.commit(a_turn(0))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StoreFull),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StoreFull),
        (sqlite3.SQLITE_IOERR_WRITE, StoreError),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreDamaged),
        (sqlite3.SQLITE_NOTADB, StoreDamaged),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreError),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, InternalError),
        (sqlite3.SQLITE_INTERRUPT, StoreError),
        (sqlite3.SQLITE_READONLY, StoreError),
    ],
)
def test_each_error_of_sqlite_means_one_thing(code: int, kind: type[Exception]) -> None:
    error = sqlite3.OperationalError("words")
    error.sqlite_errorcode = code
    assert type(faults.translated(error, "x.db")) is kind


@pytest.mark.parametrize("step", range(1, 4))
async def test_a_caller_cancelled_at_any_await_leaves_no_open_transaction(tmp_path: Path, step: int) -> None:
    """By a plain cancel, which no shield holds off: the turn is written whole, or not at all."""
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        task = asyncio.ensure_future(store.commit(a_turn(0)))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert not await inside(store, lambda db: db.in_transaction)
        assert query(tmp_path, "SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM event)") in (
            [(600, 602)],
            [(0, 2)],
        )
        await store.commit(a_turn(600))
        assert len((await store.load()).tasks) in (1200, 600)


async def test_a_commit_outlasts_the_scope_that_is_cancelled_around_it(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.commit(a_turn(0))
        assert len((await store.load()).tasks) == 600


async def test_a_disk_that_hangs_is_given_up_on(tmp_path: Path) -> None:
    hang = threading.Event()
    async with a_store(tmp_path) as store:
        with pytest.raises(StoreError, match="has not answered for"):
            await connection.shielded(store._connection, "x.db", lambda _: hang.wait(), deadline_s=0.01)
        hang.set()


async def test_what_cannot_be_bound_leaves_no_open_transaction(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=5000)))
        wrong = a_turn(0, 3)
        wrong.tasks[100, 1] = task_row(100, 1, reason="\ud800")
        with pytest.raises(UnicodeEncodeError):
            await store.commit(wrong)
        assert not await inside(store, lambda db: db.in_transaction)


async def test_a_store_is_closed_also_in_a_scope_that_is_cancelled(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with a_store(tmp_path):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == ["flowbatch.db"]


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "flowbatch.db", boot_id="b", pid=1, now=rows.T0)
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.load()
