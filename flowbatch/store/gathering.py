"""A store whose turns need not survive anything: `run --dry-run` writes what thousands of them came to in one transaction.

Virtual time makes a turn of every second of the play; a transaction each took three quarters of a dry run's time, for rows that
are thrown away with their folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.rows import EndedJob, Loaded, Writes
from flowbatch.store.writer import SqliteStore

ROWS_KEPT: Final = 20_000  # in memory, of tasks, attempts and events


class GatheringStore:
    """`ports.Store` but for its promise: what is committed is on disk only once the store has been closed, or read."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._kept = Writes()

    async def load(self) -> Loaded:
        return await self._store.load()

    async def load_run(self, run: RunId) -> Loaded | None:
        await self._flush()
        return await self._store.load_run(run)

    async def ended_jobs(self, ids: Sequence[JobId]) -> list[EndedJob]:
        await self._flush()
        return await self._store.ended_jobs(ids)

    async def commit(self, writes: Writes) -> None:
        if writes.reopened:
            await self._flush()  # they are copied from what the store has
        kept = self._kept
        kept.absorb(writes)
        if len(kept.tasks) + len(kept.attempts) + len(kept.events) > ROWS_KEPT:
            await self._flush()

    async def collect(self, before: Millis) -> int:
        await self._flush()
        return await self._store.collect(before)

    async def close(self) -> None:
        try:
            await self._flush()
        finally:
            await self._store.close()

    async def _flush(self) -> None:
        kept, self._kept = self._kept, Writes()
        await self._store.commit(kept)
