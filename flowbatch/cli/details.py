"""What `show --json` prints: every field of a run, a job, a task or an attempt under a stable key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowbatch.cli.check import job_object as spec_object
from flowbatch.cli.members import member_object
from flowbatch.cli.rows import child_object, job_object, run_object
from flowbatch.model.ids import JobId

if TYPE_CHECKING:
    from flowbatch.cli.context import Place
    from flowbatch.cli.logsource import LogSource
    from flowbatch.cli.records import Records
    from flowbatch.model.jobspec import JobSpec
    from flowbatch.store.results import AttemptView, JobView, RunView, TaskView

Object = dict[str, object]


def run_details(place: Place, reader: Records, run: RunView) -> Object:
    plan = reader.plan(run)
    return {
        "kind": "run",
        **run_object(run, interrupted=place.is_interrupted(run)),
        "stage": run.row.stage.value,
        "finally_at": run.row.finally_at,
        "cancelled": run.row.cancelled,
        "params": dict(plan.params),
        "jobs": [
            {
                **job_object(job, reader.task(job) if job.size is None else None),
                "array": job.size,
                "counts": counts_object(job),
            }
            for job in reader.jobs(run)
        ],
    }


def job_details(reader: Records, run: RunView | None, job: JobView) -> Object:
    """An array as a whole. A single is its own task: `task_details`."""
    return {
        "kind": "job",
        **job_object(job, None),
        **whereabouts(run, job),
        "counts": counts_object(job),
        "spec": spec_object(reader.job_plan(job), names_of(reader, run)),
    }


def task_details(
    reader: Records, run: RunView | None, job: JobView, task: TaskView, attempts: Sequence[AttemptView], logs: LogSource
) -> Object:
    plan = reader.job_plan(job)
    return {
        "kind": "job" if task.index is None else "child",
        **(job_object(job, task) if task.index is None else child_object(task)),
        **whereabouts(run, job),
        "reason": task.reason,
        "environment": task.environment,
        "node": task.node,
        "members": [member_object(each, logs) for each in reader.members(job, task.index or 0)],
        "not_before": task.not_before,
        "items": list(items_of(plan.spec, task.index)),
        "history": [attempt_object(each, logs) for each in attempts],
        "spec": spec_object(plan, names_of(reader, run)),
    }


def items_of(spec: JobSpec, index: int | None) -> tuple[str | dict[str, str], ...]:
    """What a child is given: one item, or a chunk of them."""
    return () if index is None else spec.items[index * spec.chunk : (index + 1) * spec.chunk]


def attempt_object(attempt: AttemptView, logs: LogSource) -> Object:
    return {
        "kind": "attempt",
        "id": attempt.key.id,
        "attempt": attempt.key.attempt,
        "environment": attempt.environment,
        "started_at": attempt.started_at,
        "stopped_at": attempt.stopped_at,
        "exit_code": attempt.exit_code,
        "reason": attempt.reason,
        "status_reason": attempt.status_reason,
        "image": attempt.image,
        "log": logs.path(attempt.key),
        "truncated": attempt.truncated or logs.is_cut(attempt.key),
    }


def whereabouts(run: RunView | None, job: JobView) -> Object:
    return {
        "run": None if run is None else run.id,
        "workflow": None if run is None else run.workflow,
        "array": job.size,
        "generation": job.row.generation,
        "skipped": job.row.skipped,
    }


def names_of(reader: Records, run: RunView | None) -> dict[JobId, str]:
    return {} if run is None else {each.id: each.name for each in reader.jobs(run)}


def counts_object(job: JobView) -> dict[str, int] | None:
    """Of an array's children; statuses that occur."""
    return None if job.size is None else {status.name: count for status, count in job.counts.items()}
