"""A job that has ended, as those who need it must know it: read by the engine's own connection and by readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import Stage
from flowbatch.model.rows import EndedJob
from flowbatch.store import queries, server_queries, views

Rows = Callable[..., Iterable[Sequence[Any]]]  # (sql, *parameters)


def ended_job(rows: Rows, job_id: JobId | str) -> EndedJob | None:
    """None where there is none of that id, or it is open. Inside a transaction."""
    for row in rows(queries.JOB_BY_ID, job_id):
        job = views.job_view(row, {})
        if not job.row.status.terminal:
            return None
        cells = bytearray([job.row.rest]) * job.tasks
        for index, status in rows(server_queries.STATUSES_OF_JOB, job.no):
            cells[index] = status
        return EndedJob(job.id, job.name, job.row.status, job.size, bytes(cells), job.row.stage is Stage.FINALLY)
    return None
