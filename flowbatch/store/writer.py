"""The store's one writer: a turn's rows in one transaction, durable before the turn goes on.

The engine's task is the only caller. Each call is one function on the connection's own thread, so calls never interleave within
a transaction, whatever becomes of the caller.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import anyio
from msgspec.structs import replace
from pydantic_core import to_json

from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.places import is_of_run
from flowbatch.model.queues import DECAY_MS_MAX
from flowbatch.model.rows import EndedJob, EnvironmentRow, Loaded, QueueRow, Writes
from flowbatch.store import access, collection, loading, plans, queries, sinks, statements
from flowbatch.store.bulk import Bulk
from flowbatch.store.connection import DEADLINE_S, Connection, connect, shielded, transaction
from flowbatch.store.lives import open_work

Result = TypeVar("Result")

RUNS: Final = Bulk(statements.PUT_RUNS, 12, enums=(2, 4, 5))
RUN_PLANS: Final = Bulk(statements.PUT_RUN_PLANS, 5)
JOBS: Final = Bulk(statements.PUT_JOBS, 18, enums=(4, 5, 9, 10, 11))
JOB_PLANS: Final = Bulk(statements.PUT_JOB_PLANS, 6)
JOB_TOKENS: Final = Bulk(statements.PUT_JOB_TOKENS, 2)
TASKS: Final = Bulk(statements.PUT_TASKS, 19, enums=(2, 9, 16, 18))
ATTEMPTS: Final = Bulk(statements.PUT_ATTEMPTS, 10, enums=(9,))
TOKENS: Final = Bulk(statements.PUT_TOKENS, 7, enums=(1,))
DEFINITIONS: Final = Bulk(statements.PUT_DEFINITIONS, 8, enums=(2,))
MEMBERS: Final = Bulk(statements.PUT_MEMBERS, 16, enums=(4, 6, 15))
IMAGES: Final = Bulk(statements.PUT_IMAGES, 5)
USAGE: Final = Bulk(statements.PUT_USAGE, 5)
HEADS: Final = Bulk(statements.PUT_HEADS, 4)
USAGE_KEPT_MS: Final = DECAY_MS_MAX + 86_400_000
EVENTS: Final = Bulk(statements.PUT_EVENTS, 11, enums=(1, 6))


class SqliteStore:
    """`ports.Store` on one SQLite file. The caller holds the state folder's lock."""

    checkpoint_commits = 1_000
    checkpoint_changes = 60_000  # rows; whichever comes first keeps the log at some 20 MB

    def __init__(
        self, connection: Connection, path: Path, instance: str, *, boot_id: str, pid: int, now: Millis
    ) -> None:
        self.path = path
        self.instance = instance  # names this state folder, for ever
        self._connection = connection
        self._life = (boot_id, pid, now)
        self._commits = 0  # since the last checkpoint
        self._changes = 0  # of the connection, at the last checkpoint

    @classmethod
    async def open(cls, path: Path, *, boot_id: str, pid: int, now: Millis) -> Self:
        """Makes or migrates the store where needed. Raises StoreDamaged or StoreTooNew with nothing touched."""
        connection = await connect(path)
        try:
            instance = await shielded(connection, str(path), read_instance)
        except BaseException:
            with anyio.move_on_after(DEADLINE_S, shield=True):
                await connection.close()
            raise
        return cls(connection, path, instance, boot_id=boot_id, pid=pid, now=now)

    async def load(self) -> Loaded:
        boot_id, pid, now = self._life
        return await self._run(partial(transaction, body=partial(begin_life, boot_id=boot_id, pid=pid, now=now)))

    async def load_run(self, run: RunId) -> Loaded | None:
        """Only a run that has ended: an open one is with the engine already."""
        boot_id, _pid, _now = self._life
        return await self._run(partial(transaction, body=partial(read_ended, boot_id=boot_id, run=run)))

    async def ended_jobs(self, ids: Sequence[JobId]) -> list[EndedJob]:
        return await self._run(partial(transaction, body=partial(read_jobs, ids=ids)))

    async def commit(self, writes: Writes) -> None:
        """The writes must not change until this returns."""
        if writes:
            await self._run(partial(transaction, body=partial(write, writes=writes)))
            self._connection.call_later(self._checkpoint)

    def _checkpoint(self, db: sqlite3.Connection) -> None:
        """Beside the turn's effects: SQLite's own, within a COMMIT, let the tasks of that turn wait 10 to 30 ms for their launch.

        What a checkpoint could not move stays in the log, whole and durable; a disk that is full or broken shows in the next commit.
        """
        self._commits += 1
        if self._commits < self.checkpoint_commits and db.total_changes - self._changes < self.checkpoint_changes:
            return
        self._commits, self._changes = 0, db.total_changes
        with suppress(sqlite3.Error):
            db.execute(statements.CHECKPOINT).fetchone()

    async def collect(self, before: Millis) -> int:
        """A run is dropped in many transactions, other commits fit between them; it shows nowhere from the first on."""
        numbers = await self._run(partial(collection.collectable, before=before))
        for number in numbers:
            for step in await self._run(partial(collection.steps, run=number)):
                await self._run(partial(transaction, body=step))
        alone = await self._run(partial(collection.collectable_jobs, before=before))
        for job, job_id in alone:
            await self._run(partial(transaction, body=partial(collection.drop_alone, job=job, job_id=job_id)))
        if numbers or alone:
            await self._run(collection.shrink)
        return len(numbers) + len(alone)

    async def close(self) -> None:
        """Checkpoints; the log file is gone afterwards. Also when cancelled: an open thread would keep the process."""
        with anyio.move_on_after(DEADLINE_S, shield=True):
            await self._connection.close()

    async def _run(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        return await shielded(self._connection, str(self.path), function)


def read_instance(db: sqlite3.Connection) -> str:
    (instance,) = db.execute(statements.INSTANCE).fetchone()
    return str(instance)


def begin_life(db: sqlite3.Connection, boot_id: str, pid: int, now: Millis) -> Loaded:
    db.execute(statements.BEGIN_LIFE, (boot_id, pid, now))
    db.execute(statements.DROP_OLD_USAGE, (now - USAGE_KEPT_MS,))
    sinks_open = [key for (key,) in db.execute(queries.OPEN_SINKS).fetchall()]
    (any_sink,) = db.execute(queries.ANY_SINK).fetchone()
    return replace(open_work(db, boot_id), sinks=sinks_open, any_sink=bool(any_sink))


def read_ended(db: sqlite3.Connection, boot_id: str, run: RunId) -> Loaded | None:
    found = db.execute(statements.ENDED_RUN, (run,)).fetchone()
    if found is None:
        return None
    loaded = loading.loaded(db, boot_id, found)
    own = {plan.id for _row, plan in loaded.jobs}
    needed = dict.fromkeys(need.job for _row, plan in loaded.jobs for need in plan.spec.needs if need.job not in own)
    return replace(loaded, ended=read_jobs(db, list(needed)))


def read_jobs(db: sqlite3.Connection, ids: Sequence[JobId]) -> list[EndedJob]:
    if not ids:
        return []
    from flowbatch.store.ended import ended_job  # seldom: few runs need jobs of others

    def rows(sql: str, *parameters: object) -> list[tuple[object, ...]]:
        return db.execute(sql, parameters).fetchall()

    return [found for each in ids if (found := ended_job(rows, each)) is not None]


def write(db: sqlite3.Connection, writes: Writes) -> None:
    """Parents before children, as the foreign keys have it; reopened tasks before their rows are replaced."""
    if writes.reopened:
        db.execute(statements.KEEP_REOPENED, (to_json(writes.reopened).decode(),))
    RUNS.write(db, list(writes.runs.values()))
    RUN_PLANS.write(
        db, [(no, plan.workflow, plan.file, plans.run_json(plan), plan.source) for no, plan in writes.new_runs]
    )
    places = {no: (plan.spec.queue, plan.spec.share or "") for no, _run, plan in writes.new_jobs}  # a stored job's stay
    JOBS.write(db, [(*row, *places.get(no, ("", ""))) for no, row in writes.jobs.items()])
    JOB_PLANS.write(
        db,
        [
            (no, plan.spec.key, plan.spec.size, plans.job_json(plan), plan.spec.queue, plan.spec.definition)
            for no, _run, plan in writes.new_jobs
        ],
    )
    needed = [(token, no) for no, _run, plan in writes.new_jobs for token, _count in plan.spec.tokens]
    JOB_TOKENS.write(db, [(token, no) for token, no in needed if not is_of_run(token)])
    TASKS.write(db, list(writes.tasks.values()))
    ATTEMPTS.write(db, writes.attempts)
    MEMBERS.write(db, list(writes.members.values()))
    IMAGES.write(db, writes.images)
    sinks.write(db, writes)
    EVENTS.write(db, writes.events)
    for name, token in writes.tokens.items():
        if token is None:
            db.execute(statements.DROP_TOKEN, (name,))
    for (name, once), at in writes.token_updates.items():
        if at is None:
            db.execute(statements.DROP_TOKEN_UPDATE, (name, once))
        else:
            db.execute(statements.PUT_TOKEN_UPDATE, (name, once, at))
    tokens = [token for token in writes.tokens.values() if token is not None]
    if tokens:
        TOKENS.write(db, [(*row[:5], to_json(dict(row.tags)).decode(), *row[6:]) for row in tokens])
    if writes.definitions:
        DEFINITIONS.write(db, [(*row[:5], to_json(dict(row.tags)).decode(), *row[6:]) for row in writes.definitions])
    for name, revision, at in writes.deregistered:
        db.execute(statements.DEREGISTER, (at, name, revision))
    for name, environment in writes.environments.items():
        if environment is None:
            db.execute(statements.DELETE_ENVIRONMENT, (name,))
        else:
            db.execute(statements.PUT_ENVIRONMENT, place_columns(environment))
    for name, queue in writes.queues.items():
        if queue is None:
            db.execute(statements.DELETE_QUEUE, (name,))
        else:
            db.execute(statements.PUT_QUEUE, place_columns(queue))
    for name, policy in writes.scheduling.items():
        if policy is None:
            db.execute(statements.DELETE_SCHEDULING_POLICY, (name,))
        else:
            db.execute(statements.PUT_SCHEDULING_POLICY, (name, plans.policy_json(policy.policy)))
    for shelf in writes.shelves.values():
        db.execute(statements.PUT_SHELF, (*shelf[:-1], json.dumps(shelf.queued)))
    if writes.keys or writes.policies or writes.tags or writes.audit or writes.audit_pruned is not None:
        access.write(db, writes)
    if writes.usage or writes.heads:
        write_shares(db, writes)


def place_columns(row: EnvironmentRow | QueueRow) -> tuple[str | int | None, ...]:
    name, spec, declared, status, *rest = row
    return name, plans.place_json(spec), None if declared is None else plans.place_json(declared), status.value, *rest


def write_shares(db: sqlite3.Connection, writes: Writes) -> None:
    gone = [key for key, usage in writes.usage.items() if usage is None]
    if gone:
        db.execute(statements.DROP_USAGE, (to_json(gone).decode(),))
    USAGE.write(db, [row for row in writes.usage.values() if row is not None])
    left = [queue for queue, head in writes.heads.items() if head is None]
    if left:
        db.execute(statements.DROP_HEADS, (to_json(left).decode(),))
    HEADS.write(db, [row for row in writes.heads.values() if row is not None])
