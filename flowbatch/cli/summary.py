"""How a run ended: its figures, for people and for programs. All of it is in memory."""

from __future__ import annotations

from typing import Any

import click

from flowbatch.cli.output import clean, counted, duration_text, status_text
from flowbatch.cli.shown import ShownJob, ShownRun
from flowbatch.model.status import Status


def print_summary(run: ShownRun) -> None:
    tasks = sum(job.tasks for job in run.jobs)
    took = duration_text(max((run.stopped_at or run.created_at) - run.created_at, 0))
    click.echo(
        f"\nRun {run.id[:8]} of {clean(run.workflow)}: {status_text(run.status.name)} in {took}, "
        f"{counted(len(run.jobs), 'job')}, {counted(tasks, 'task')}."
    )


def has_failures(run: ShownRun) -> bool:
    """Tolerated ones count."""
    return any(job.counts[Status.FAILED] for job in run.jobs)


def run_object(run: ShownRun) -> dict[str, Any]:
    """`run --json`: one object."""
    return {
        "run": run.id,
        "workflow": run.workflow,
        "status": run.status.name,
        "jobs": {job.key: job_object(job) for job in run.jobs},
        "started_at": run.created_at,
        "stopped_at": run.stopped_at,
    }


def job_object(job: ShownJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status.name,
        "status_reason": job.status_reason,
        "counts": {status.name: job.counts[status] for status in Status},
        "array": job.size,
    }
