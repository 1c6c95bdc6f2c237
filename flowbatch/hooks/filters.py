"""Which events a sink wants, and in which order they must reach it."""

from __future__ import annotations

from functools import lru_cache

from flowbatch.model.events import EventKind, EventRow, LoggedEvent, kind_of
from flowbatch.model.globs import matches as glob_matches
from flowbatch.model.jobspec import title_of
from flowbatch.model.notify import Arrays, Filter
from flowbatch.model.status import Status

matches = lru_cache(4096)(glob_matches)  # there are few kinds, and few globs


def wanted(filter_: Filter, event: LoggedEvent, sink: str) -> bool:
    """`sink`: whose filter it is; what became of its own deliveries is told to others."""
    row = event.row
    if row.kind is EventKind.SINK and f'"{sink}"' in (row.detail or ""):
        return False
    if not any_glob(filter_.workflows, "" if event.run is None else event.run.workflow):
        return False
    if filter_.queues and (event.job is None or not any_glob(filter_.queues, title_of(event.job.spec.queue))):
        return False
    if filter_.tags:
        tags = {} if event.job is None else dict(event.job.spec.tags)
        if not all(name in tags and matches(glob, tags[name]) for name, glob in filter_.tags):
            return False
    return wanted_kind(filter_, event)


def wanted_kind(filter_: Filter, event: LoggedEvent) -> bool:
    row, globs = event.row, filter_.events or ("*",)
    kinds = [kind_of(row)]
    if not filter_.final and is_failed_attempt(row):
        kinds.append(kinds[0].replace(".runnable", ".failed"))
    if row.kind is EventKind.CHILD:
        if filter_.arrays is Arrays.PARENTS:
            return any(glob.startswith("child.") and matches(glob, kind) for glob in globs for kind in kinds)
        kinds += [kind.replace("child.", "job.", 1) for kind in kinds]  # a child is a job too
    elif filter_.arrays is Arrays.CHILDREN and row.kind is EventKind.JOB and is_parent(event):
        return False
    return any(matches(glob, kind) for glob in globs for kind in kinds)


def any_glob(globs: tuple[str, ...], text: str) -> bool:
    return not globs or any(matches(glob, text) for glob in globs)


def is_parent(event: LoggedEvent) -> bool:
    return event.job is not None and event.job.spec.size is not None


def is_failed_attempt(row: EventRow) -> bool:
    """An attempt ended, and another one follows."""
    job = row.kind in (EventKind.JOB, EventKind.CHILD)
    return job and row.status == Status.RUNNABLE and bool(row.attempt) and row.status_reason is not None


def stream_of(row: EventRow) -> tuple[int, int]:
    """Events of one stream go out one by one, in order: those of a job (a child is one), or of a run."""
    if row.job is not None:
        return row.job, -1 if row.idx is None else row.idx
    return -1 if row.run is None else -1 - row.run, -2
