"""Which events a sink wants, and in which order they must reach it."""

from __future__ import annotations

from functools import lru_cache

from flowbatch.model.events import EventKind, EventRow, LoggedEvent, kind_of
from flowbatch.model.globs import matches as glob_matches
from flowbatch.model.jobspec import title_of
from flowbatch.model.notify import Arrays, Filter
from flowbatch.model.status import Status

matches = lru_cache(4096)(glob_matches)  # there are few kinds, and few globs


class Sieve:
    """Of one sink. What it thinks of a kind of events is kept: there are few."""

    def __init__(self, filter_: Filter, sink: str) -> None:
        """`sink`: whose filter it is; what became of its own deliveries is told to others."""
        self._filter = filter_
        self._own = f'"{sink}"'
        self._particular = bool(filter_.workflows or filter_.queues or filter_.tags)
        self._kinds: dict[tuple[int, int, bool, bool], bool] = {}

    def wants(self, event: LoggedEvent) -> bool:
        row = event.row
        if row.kind is EventKind.SINK and self._own in (row.detail or ""):
            return False
        asked = (row.kind, row.status, is_parent(event), is_failed_attempt(row))
        found = self._kinds.get(asked)
        if found is None:
            found = self._kinds[asked] = wanted_kind(self._filter, event)
        return found and (not self._particular or wanted_place(self._filter, event))


def wanted_place(filter_: Filter, event: LoggedEvent) -> bool:
    """By its workflow, queue and tags."""
    if not any_glob(filter_.workflows, "" if event.run is None else event.run.workflow):
        return False
    if filter_.queues and (event.job is None or not any_glob(filter_.queues, title_of(event.job.spec.queue))):
        return False
    tags = {} if event.job is None else dict(event.job.spec.tags)
    return all(name in tags and matches(glob, tags[name]) for name, glob in filter_.tags)


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
    if row.status != Status.RUNNABLE or not row.attempt or row.status_reason is None:
        return False
    return row.kind in (EventKind.JOB, EventKind.CHILD)


def stream_of(row: EventRow) -> tuple[int, int]:
    """Events of one stream go out one by one, in order: those of a job (a child is one), or of a run."""
    if row.job is not None:
        return row.job, -1 if row.idx is None else row.idx
    return -1 if row.run is None else -1 - row.run, -2
