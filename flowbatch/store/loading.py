"""Rows as they come from SQLite, made into what the core reads."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Final, TypeVar

from pydantic_core import from_json

from flowbatch.errors import StoreDamaged
from flowbatch.model.definition import DefinitionRow, KnownRevision
from flowbatch.model.ending import EndClass, Halt
from flowbatch.model.events import EventKind, EventRow
from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan, Stage
from flowbatch.model.places import PlaceStatus
from flowbatch.model.queues import FairShare
from flowbatch.model.rows import (
    AttemptRow,
    EnvironmentRow,
    HeadRow,
    JobRow,
    Loaded,
    MemberRow,
    PlainTasks,
    QueueRow,
    RunRow,
    SchedulingPolicyRow,
    TaskRow,
    UsageRow,
)
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.tokens import TokenKind, TokenRow
from flowbatch.store import plans, statements

Plan = TypeVar("Plan", JobPlan, RunPlan, Environment, Queue, FairShare)
Columns = Sequence[Any]  # one row, as sqlite3 gives it; the schema's STRICT and CHECKs are what types it

STATUSES: Final = tuple(Status)  # indexing costs a tenth of calling the enum
HALTS: Final = tuple(Halt)
EVENT_KINDS: Final = {kind.value: kind for kind in EventKind}


def run_row(row: Columns) -> RunRow:
    no, run_id, status, stage, stop, cancelled, *rest = row
    return RunRow(no, run_id, RunStatus(status), Stage(stage), Halt(stop), bool(cancelled), *rest)


def job_row(row: Columns) -> JobRow:
    no, job_id, run, stage, status, rest, rest_reason, rest_at, generation, cancelled, terminated, skipped, *last = row
    return JobRow(
        no, job_id, run, Stage(stage), STATUSES[status], STATUSES[rest], rest_reason, rest_at, generation,
        bool(cancelled), bool(terminated), bool(skipped), *last,
    )  # fmt: skip


def task_row(row: Columns) -> TaskRow:
    values = list(row)
    values[2], values[9], values[16] = STATUSES[values[2]], HALTS[values[9]], bool(values[16])
    values[18] = bool(values[18])
    return TaskRow(*values)


def task_rows(columns: Columns) -> Iterator[TaskRow]:
    """From a JSON array a column. Thousands of rows at the start of a life: no step of this loop is Python's."""
    values = [from_json(column) for column in columns]
    values[2] = map(STATUSES.__getitem__, values[2])
    values[9] = map(HALTS.__getitem__, values[9])
    values[16], values[18] = map(bool, values[16]), map(bool, values[18])
    return map(tuple.__new__, repeat(TaskRow), zip(*values, strict=True))


def attempt_row(row: Columns) -> AttemptRow:
    values = list(row)
    values[9] = bool(values[9])
    return AttemptRow(*values)


def member_row(row: Columns) -> MemberRow:
    values = list(row)
    values[4], values[6], values[15] = STATUSES[values[4]], bool(values[6]), bool(values[15])
    values[11] = None if values[11] is None else EndClass(values[11])
    return MemberRow(*values)


def event_row(row: Columns) -> EventRow:
    at, kind, *rest = row
    return EventRow(at, EVENT_KINDS[kind], *rest)


def definition_row(row: Columns) -> DefinitionRow:
    name, revision, active, body, digest, tags, registered_at, deregistered_at = row
    return DefinitionRow(name, revision, bool(active), body, digest, pairs(tags), registered_at, deregistered_at)


def token_row(row: Columns) -> TokenRow:
    name, kind, total, declared, run, tags, created_at = row
    return TokenRow(name, TokenKind(kind), total, declared, run, pairs(tags), created_at)


def pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(value)) for key, value in from_json(text).items())


def known_revisions(db: sqlite3.Connection) -> list[KnownRevision]:
    names, revisions, active, digests = map(from_json, db.execute(statements.DEFINITIONS).fetchone())
    return list(map(KnownRevision, names, revisions, map(bool, active), digests))


def loaded(db: sqlite3.Connection, boot_id: str, numbers: Iterable[int], *, alone: bool = False) -> Loaded:
    """The runs of these numbers with all that the engine needs of them; `alone`: and the open jobs without a run. Inside a transaction."""
    life, same_boot_since, next_run, next_job = db.execute(statements.LIVES, (boot_id,)).fetchone()
    runs: list[tuple[RunRow, RunPlan]] = []
    jobs: list[tuple[JobRow, JobPlan]] = []
    tasks: list[TaskRow] = []
    plain: list[PlainTasks] = []
    members: list[MemberRow] = []
    tokens: list[TokenRow] = []
    with no_collector():
        for number in numbers:
            tokens += map(token_row, db.execute(statements.TOKENS_OF_RUN, (number,)).fetchall())
            for *run, plan in db.execute(statements.RUN, (number,)).fetchall():
                runs.append((run_row(run), whole(plans.run_plan, plan)))
            for *job, plan in db.execute(statements.JOBS_OF_RUN, (number,)).fetchall():
                jobs.append((job_row(job), whole(plans.job_plan, plan)))
                if jobs[-1][1].spec.members is not None:
                    members += map(member_row, db.execute(statements.MEMBERS_OF_LIVE_TASKS, (job[0],)).fetchall())
                tasks += task_rows(db.execute(statements.TASKS_OF_JOB, (job[0],)).fetchone())
                plain.append(
                    PlainTasks(job[0], *map(from_json, db.execute(statements.PLAIN_TASKS, (job[0],)).fetchone()))
                )
        if alone:
            for *job, plan in db.execute(statements.JOBS_ALONE).fetchall():
                jobs.append((job_row(job), whole(plans.job_plan, plan)))
                if jobs[-1][1].spec.members is not None:
                    members += map(member_row, db.execute(statements.MEMBERS_OF_LIVE_TASKS, (job[0],)).fetchall())
            tasks += task_rows(db.execute(statements.TASKS_ALONE).fetchone())
    return Loaded(
        life, same_boot_since, next_run, next_job, runs, jobs, tasks, members=members, tokens=tokens, plain=plain
    )


def environment_row(row: Columns) -> EnvironmentRow:
    name, spec, declared, status, *rest = row
    before = None if declared is None else whole(plans.environment, declared)
    return EnvironmentRow(name, whole(plans.environment, spec), before, PlaceStatus(status), *rest)


def queue_row(row: Columns) -> QueueRow:
    name, spec, declared, status = row
    before = None if declared is None else whole(plans.queue, declared)
    return QueueRow(name, whole(plans.queue, spec), before, PlaceStatus(status))


def scheduling(db: sqlite3.Connection) -> list[SchedulingPolicyRow]:
    rows = db.execute(statements.SCHEDULING_POLICIES).fetchall()
    return [SchedulingPolicyRow(name, whole(plans.policy, policy)) for name, policy in rows]


def usage(db: sqlite3.Connection) -> list[UsageRow]:
    """Of all shares of all queues."""
    with no_collector():
        return [UsageRow(*row) for row in db.execute(statements.USAGE).fetchall()]


def heads(db: sqlite3.Connection) -> list[HeadRow]:
    return [HeadRow(*row) for row in db.execute(statements.HEADS).fetchall()]


def whole(read: Callable[[str], Plan], text: str) -> Plan:
    try:
        return read(text)
    except ValueError as error:  # pydantic's
        raise StoreDamaged(f"the store holds a plan that cannot be read: {error}") from error


@contextmanager
def no_collector() -> Iterator[None]:
    """The garbage collector would walk all rows again for each few thousand new ones: half of the time of a load."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
