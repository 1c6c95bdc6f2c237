"""Rows of the readers' queries, made into what they give."""

from __future__ import annotations

from typing import Final

from flowbatch.core.members import Layout
from flowbatch.model.event_ids import event_id
from flowbatch.model.ids import AttemptKey, JobId
from flowbatch.model.jobspec import title_of
from flowbatch.model.queues import BLOCKED
from flowbatch.model.rows import AttemptRow, MemberRow, TaskRow
from flowbatch.model.status import Status
from flowbatch.store import loading
from flowbatch.store.results import AttemptView, Event, FailureGroup, JobView, MemberView, RunView, TaskView

RUN_COLUMNS: Final = 12
JOB_COLUMNS: Final = 16


def place_of(row: TaskRow | AttemptRow) -> str | None:
    return None if row.environment is None else title_of(row.environment)


def run_view(row: loading.Columns) -> RunView:
    return RunView(loading.run_row(row[:RUN_COLUMNS]), *row[RUN_COLUMNS:])


def job_view(row: loading.Columns, counts: dict[int, dict[Status, int]]) -> JobView:
    job, (name, size) = loading.job_row(row[:JOB_COLUMNS]), row[JOB_COLUMNS:]
    found = dict(counts.get(job.no, {}))
    resting = (1 if size is None else size) - sum(found.values())
    if resting:
        found[job.rest] = found.get(job.rest, 0) + resting
    return JobView(job, name, size, dict(sorted(found.items())))


def task_view(job: JobView, index: int, row: TaskRow | None) -> TaskView:
    shown = None if job.size is None else index
    if row is None:
        reason = job.row.rest_reason
        if job.row.rest is Status.RUNNABLE and job.row.status_reason in BLOCKED:
            reason = job.row.status_reason  # of an array it is on the parent alone
        return TaskView(
            job.id, job.name, shown, job.row.rest, reason, None, None, 0, None, job.row.created_at, None,
            job.row.rest_at, None, False,
        )  # fmt: skip
    return TaskView(
        job.id, job.name, shown, row.status, row.status_reason, row.exit_code, row.reason, row.attempt, place_of(row),
        job.row.created_at, row.started_at, row.stopped_at, row.not_before,
        row.truncated, row.cancelled, row.node,
    )  # fmt: skip


def attempt_view(job_id: JobId, columns: loading.Columns) -> AttemptView:
    row = loading.attempt_row(columns)
    key = AttemptKey(job_id, row.idx, row.attempt)
    return AttemptView(
        key, place_of(row), row.started_at, row.stopped_at, row.exit_code, row.reason, row.status_reason,
        row.truncated,
    )  # fmt: skip


def last_attempt(job_id: JobId, row: TaskRow) -> AttemptView:
    key = AttemptKey(job_id, row.idx, row.attempt)
    return AttemptView(
        key, place_of(row), row.started_at, row.stopped_at, row.exit_code, row.reason, row.status_reason,
        row.truncated,
    )  # fmt: skip


def member_view(key: AttemptKey, layout: Layout, row: MemberRow | None, resting: Status) -> MemberView:
    """`resting`: how one stands that has no row."""
    node = layout.node_of[key.member]
    shown = None if layout.nodes is None else node
    label, main = layout.label(key.member), node == layout.main
    if row is None:
        return MemberView(key, label, shown, main, resting, None, None, None, None, None, None, False)
    return MemberView(
        key, label, shown, main, row.status, row.address, row.started_at, row.stopped_at, row.exit_code, row.reason,
        row.status_reason, row.truncated,
    )  # fmt: skip


def failure_group(job: JobView, row: loading.Columns) -> FailureGroup:
    _job, exit_code, reason, status_reason, count, index, attempt = row
    example = AttemptKey(job.id, index, attempt) if attempt else None
    return FailureGroup(job.id, job.name, job.size, exit_code, reason, status_reason, count, example)


def event(columns: loading.Columns, instance: str) -> Event:
    seq, *told, run_id, job_id, job = columns
    row = loading.event_row(told)
    return Event(seq, row, run_id, job_id, job, event_id(instance, seq, row.at))
