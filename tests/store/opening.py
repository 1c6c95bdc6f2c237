"""A store in a test: opened and closed in the test's own body."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, TypeVar

from flowbatch.model.ids import Millis
from flowbatch.model.rows import Loaded, TaskRow
from flowbatch.store import loading
from flowbatch.store.writer import SqliteStore
from tests.store.rows import T0

Result = TypeVar("Result")


@asynccontextmanager
async def a_store(folder: Path, *, boot_id: str = "boot-a", now: Millis = T0) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(folder / "flowbatch.db", boot_id=boot_id, pid=4711, now=now)
    try:
        yield store
    finally:
        await store.close()


async def inside(store: SqliteStore, function: Callable[[sqlite3.Connection], Result]) -> Result:
    """Runs on the writer's own connection: the way to a fault that only it can have."""
    return await store._connection.call(function)


def query(folder: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """A statement from outside, as another program would make it: foreign keys are not looked at."""
    with closing(sqlite3.connect(folder / "flowbatch.db", isolation_level=None)) as db:
        return db.execute(sql, parameters).fetchall()


def stored_tasks(folder: Path) -> list[TaskRow]:
    """All of them, whole: a load brings only so much as a life needs."""
    return [loading.task_row(row) for row in query(folder, "SELECT * FROM task ORDER BY job, idx")]


def plain_of(loaded: Loaded) -> dict[tuple[int, int], tuple[int, int]]:
    """Index → status and attempt."""
    return {
        (each.job, idx): (status, attempt)
        for each in loaded.plain
        for idx, status, attempt in zip(each.indices, each.statuses, each.attempts, strict=True)
    }
