"""What a run came to: counts, and its failures grouped, with the last lines of one example each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flowbatch.cli.output import clean, duration_text, status_text
from flowbatch.core.state import Job, Run
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.store.reader import Reader

def print_summary(run, reader, logs): ...

def run_object(run: Run) -> dict[str, Any]:
    """`run --json`: one object."""
    return {
        "run": run.id,
        "workflow": run.plan.workflow,
        "status": run.status.name,
        "jobs": {job.spec.key: job_object(job) for job in run.jobs},
        "started_at": run.created_at,
        "stopped_at": run.stopped_at,
    }


def job_object(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "status": job.status.name,
        "status_reason": job.status_reason,
        "counts": {status.name: job.counts[status] for status in Status},
        "array": job.spec.size,
    }
