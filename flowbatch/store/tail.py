"""The event log as dispatchers read it: page by page behind a cursor, with what was pinned of each job and run.

On a thread and a connection of its own, read-only, so that a receiver which catches up with a million events keeps neither the event
loop nor the writer. What new jobs are is remembered from the turn that made them: most events are told without a look at their plans.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import anyio
import anyio.to_thread

from flowbatch.model.events import JobFacts, LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import RunFacts
from flowbatch.model.notify import Parked, SinkRow, SinkStatus, Trouble
from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus
from flowbatch.ports import Page, StoredSink
from flowbatch.store import loading, plans, queries
from flowbatch.store.connection import DEADLINE_S, Connection, shielded
from flowbatch.store.session import connect
from flowbatch.store.sinks import notify_of

Result = TypeVar("Result")
FACTS_KEPT: Final = 4_096  # jobs, and runs
SPAN: Final = 20_000  # events of other runs that a page walks past
COLUMNS: Final = 12


class EventTail:
    """`ports.EventLog` on one SQLite file."""

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self._path = str(path)
        self._jobs: dict[int, JobFacts | None] = {}
        self._runs: dict[int, RunFacts | None] = {}

    @classmethod
    async def open(cls, path: Path) -> Self:
        db = await anyio.to_thread.run_sync(partial(connect, path, one_thread=False))
        connection = Connection(lambda: db, 64)
        with anyio.CancelScope(shield=True):  # hands over what is open already
            await connection
        return cls(connection, path)

    async def close(self) -> None:
        with anyio.move_on_after(DEADLINE_S, shield=True):
            await self._connection.close()

    def pin(self, writes: Writes) -> None:
        """What a durable turn has made."""
        for no, plan in writes.new_runs:
            keep(self._runs, no, RunFacts(plan.id, plan.workflow, writes.runs[no].created_at))
        for no, run, job in writes.new_jobs:
            facts = self._runs.get(run) if run is not None else None
            if run is None or facts is not None:
                keep(self._jobs, no, JobFacts(job.id, job.spec, writes.jobs[no].created_at, facts))

    async def open_sinks(self, run: int | None = None) -> list[str]:
        sql, values = (queries.OPEN_SINKS, ()) if run is None else (queries.SINKS_OF_RUN, (run,))
        return [key for (key,) in await self._call(lambda db: db.execute(sql, values).fetchall())]

    async def sink(self, key: str) -> StoredSink | None:
        return await self._call(partial(read_sink, key=key))

    async def parked(self, key: str) -> list[tuple[Parked, LoggedEvent | None]]:
        return await self._call(partial(self._read_parked, key=key))

    async def page(self, after: int, limit: int, *, until: int | None = None, run: int | None = None) -> Page:
        return await self._call(partial(self._read_page, after=after, limit=limit, until=until, run=run))

    async def _call(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        return await shielded(self._connection, self._path, function)

    # --- on its thread

    def _read_page(self, db: sqlite3.Connection, after: int, limit: int, until: int | None, run: int | None) -> Page:
        (last,) = db.execute(queries.LAST_SEQ).fetchone()
        end = last if until is None else min(until, last)
        top = end if run is None else min(end, after + SPAN)
        if top <= after:
            return Page([], after, False, [])
        if run is None:
            rows = db.execute(queries.LOGGED, (after, top, limit)).fetchall()
        else:
            rows = db.execute(queries.LOGGED_OF_RUN, (after, top, run, limit)).fetchall()
        to = rows[-1][0] if len(rows) == limit else top
        gaps = missing(after, to, [row[0] for row in rows]) if run is None else []
        return Page([self._told(db, row) for row in rows], to, to < end, gaps)

    def _read_parked(self, db: sqlite3.Connection, key: str) -> list[tuple[Parked, LoggedEvent | None]]:
        found: list[tuple[Parked, LoggedEvent | None]] = []
        for row in db.execute(queries.PARKED, (key,)).fetchall():
            event = db.execute(queries.LOGGED, (row[0] - 1, row[0], 1)).fetchone()
            found.append((Parked(*row), None if event is None else self._told(db, event)))
        return found

    def _told(self, db: sqlite3.Connection, row: loading.Columns) -> LoggedEvent:
        seq, *columns = row
        event = loading.event_row(columns)
        run = None if event.run is None else self._run_facts(db, event.run)
        return LoggedEvent(seq, event, run, None if event.job is None else self._job_facts(db, event.job))

    def _run_facts(self, db: sqlite3.Connection, no: int) -> RunFacts | None:
        if no not in self._runs:
            row = db.execute(queries.RUN_FACTS, (no,)).fetchone()
            keep(self._runs, no, None if row is None else RunFacts(*row))
        return self._runs.get(no)

    def _job_facts(self, db: sqlite3.Connection, no: int) -> JobFacts | None:
        if no not in self._jobs:
            row = db.execute(queries.JOB_FACTS, (no,)).fetchone()
            facts = None
            if row is not None:
                job_id, plan, created_at, run = row
                spec = loading.whole(plans.job_plan, plan).spec
                facts = JobFacts(job_id, spec, created_at, None if run is None else self._run_facts(db, run))
            keep(self._jobs, no, facts)
        return self._jobs.get(no)


def keep(kept: dict[int, Result], no: int, facts: Result) -> None:
    if len(kept) >= FACTS_KEPT:
        kept.pop(next(iter(kept)), None)
    kept[no] = facts


def missing(after: int, to: int, numbers: list[int]) -> list[tuple[int, int]]:
    """The closed ranges between (after, to] that are not there: the log has no holes but those that collecting leaves."""
    found, expected = [], after + 1
    for number in (*numbers, to + 1):
        if number > expected:
            found.append((expected, number - 1))
        expected = number + 1
    return found


def read_sink(db: sqlite3.Connection, key: str) -> StoredSink | None:
    row = db.execute(queries.SINK, (key,)).fetchone()
    return None if row is None else stored_sink(db, row)


def stored_sink(db: sqlite3.Connection, row: loading.Columns) -> StoredSink:
    key, run, notify, status, _why, cursor, until, created_at, since, tries, error, first, last, *_counts = row
    return StoredSink(
        SinkRow(key, run, notify_of(notify), created_at, until),
        SinkStatus(status),
        cursor,
        None if since is None else Trouble(Millis(since), tries, error),
        None if first is None else (first, last),
        None if run is None or until is not None else run_over(db, run),
    )


def run_over(db: sqlite3.Connection, run: int) -> int | None:
    rows = db.execute(queries.RUN_BY_NO, (run,)).fetchall()
    if rows and rows[0][2] == RunStatus.RUNNING:
        return None
    (last,) = db.execute(queries.LAST_OF_RUN, (run,)).fetchone()
    return int(last or 0)
