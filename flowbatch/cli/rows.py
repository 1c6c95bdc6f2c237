"""Runs, jobs and tasks of the store as objects for programs and as cells for people: one shape for every verb that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flowbatch.cli.output import duration_text
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.store.results import JobView, RunView, TaskView

REASON_MAX: Final = 60  # characters of a reason in a table


def run_object(run: RunView, *, interrupted: bool) -> dict[str, object]:
    row = run.row
    return {
        "id": run.id,
        "workflow": run.workflow,
        "file": run.file,
        "status": run.status.name,
        "interrupted": interrupted,
        "status_reason": row.status_reason,
        "generation": row.generation,
        "created_at": row.created_at,
        "deadline_at": row.deadline_at,
        "stopped_at": row.stopped_at,
    }


def job_object(job: JobView, task: TaskView | None) -> dict[str, object]:
    """A job as `jobs` lists it; `task` is a single's own, None for the parent of an array, which has no attempts."""
    row = job.row
    return {
        "id": job.id,
        "job": job.name,
        "index": None,
        "status": job.status.name,
        "status_reason": row.status_reason,
        "exit_code": None if task is None else task.exit_code,
        "attempts": 0 if task is None else task.attempts,
        "created_at": row.created_at,
        "started_at": row.started_at if task is None else task.started_at,
        "stopped_at": row.stopped_at,
    }


def child_object(task: TaskView) -> dict[str, object]:
    return {
        "id": task.id,
        "job": task.job,
        "index": task.index,
        "status": task.status.name,
        "status_reason": task.status_reason,
        "exit_code": task.exit_code,
        "attempts": task.attempts,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "stopped_at": task.stopped_at,
    }


def counts_text(counts: dict[Status, int]) -> str:
    """`4 RUNNABLE, 3 RUNNING, 3 SUCCEEDED`."""
    return ", ".join(f"{count} {status.name}" for status, count in counts.items() if count)


def took_text(started_at: int | None, stopped_at: int | None) -> str:
    return duration_text(None if started_at is None or stopped_at is None else max(stopped_at - started_at, 0))


def shortened(text: str, limit: int = REASON_MAX) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def task_reason(task: TaskView) -> str:
    """The container's reason where there is one; that a task has exited says nothing beside its exit code."""
    from flowbatch.core.ending import EXITED

    if task.reason:
        return task.reason
    return "" if task.status_reason == EXITED and task.exit_code is not None else task.status_reason or ""
