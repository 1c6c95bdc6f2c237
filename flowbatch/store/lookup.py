"""Addresses, held against what the store has."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from flowbatch.core.members import layout_of
from flowbatch.errors import InputError
from flowbatch.store import addresses, queries, views
from flowbatch.store.results import Found, JobView, RunView

if TYPE_CHECKING:
    from flowbatch.store.addresses import Address
    from flowbatch.store.reader import Reader

SHOWN: Final = 4  # of runs that share a prefix
LABELS_SHOWN: Final = 20
WORKFLOWS_MAX: Final = 1000
NAMED_MAX: Final = 10  # jobs that an answer lists


def resolve(source: Reader, text: str) -> Found:
    address = addresses.parse(text)
    if address.run is None:
        job = source.job(address.job or "")
        if job is None:
            raise InputError(f"{text!r}: no job has this id; `flowbatch jobs RUN --json` lists ids")
        return within(source, text, address, run_of(source, job), job)
    if addresses.UUID.fullmatch(address.run) and address.job is None and not source.has_run(address.run):
        job = source.job(address.run)
        if job is not None:
            return Found(run_of(source, job), job)
    found = run(source, address.run)
    if address.job is None:
        return Found(found)
    return within(source, text, address, found, job_of(source, found, address.job))


def run(source: Reader, name: str) -> RunView:
    """A workflow of exactly that name comes before a prefix: nobody names one after the first letters of an id."""
    if "/" in name:
        raise InputError(
            f"{name!r}: a run is needed here, {name.partition('/')[0]!r}; `flowbatch show {name}` shows a job"
        )
    [(number,)] = source.rows(queries.NEWEST_RUN_OF_WORKFLOW, name)
    if number is None and name == "last":
        [(number,)] = source.rows(queries.NEWEST_RUN)
        if number is None:
            raise InputError("'last': nothing has run here yet")
    if number is not None:
        return views.run_view(source.rows(queries.RUN_BY_NO, number)[0])
    return run_by_prefix(source, name)


def run_by_prefix(source: Reader, name: str) -> RunView:
    """A whole id is a prefix too."""
    prefix = name.lower()
    rows = source.rows(queries.RUNS_BY_PREFIX, prefix, prefix + "\uffff", SHOWN)
    if len(rows) == 1:
        return views.run_view(rows[0])
    if rows:
        ids = ", ".join(row[1] for row in rows[: SHOWN - 1]) + (", …" if len(rows) == SHOWN else "")
        raise InputError(f"{name!r}: several runs begin so: {ids}; give more of the id")
    names = [workflow for (workflow,) in source.rows(queries.WORKFLOWS, WORKFLOWS_MAX)]
    raise InputError(f"{name!r}: no run has this id or workflow{hint(name, [*names, 'last'])}")


def run_of(source: Reader, job: JobView) -> RunView | None:
    if job.row.run is None:
        return None
    rows = source.rows(queries.RUN_BY_NO, job.row.run)
    if not rows:
        raise InputError(f"{job.id!r}: its run is being deleted")
    return views.run_view(rows[0])


def job_of(source: Reader, found: RunView, name: str) -> JobView:
    jobs = source.jobs(found)
    for job in jobs:
        if name in (job.name, job.id):
            return job
    names = [job.name for job in jobs]
    few = f"; it has {', '.join(names)}" if len(names) <= NAMED_MAX else ""
    raise InputError(f"run {found.id[:8]} ({found.workflow}) has no job {name!r}{hint(name, names) or few}")


def within(source: Reader, text: str, address: Address, found: RunView | None, job: JobView) -> Found:
    """The children, the attempt and the node that are named lie within the job."""
    if job.size is None and (address.indices is not None or address.failed):
        raise InputError(f"{text!r}: {job.name} is a single job; leave out what follows the colon")
    for first, last in address.indices or ():
        if last >= job.tasks:
            beyond = first if first >= job.tasks else last
            have = f"0 to {job.tasks - 1}" if job.tasks else "none"
            raise InputError(f"{text!r}: {job.name} has no child {beyond}; its indices are {have}")
    result = Found(found, job, address.indices, address.failed, address.attempt)
    if address.attempt is not None and result.index is None:
        raise InputError(f"{text!r}: an attempt is that of one child: {job.name}:INDEX#{address.attempt}")
    if address.node is None:
        return result
    member = member_of(source, text, job, address.node)
    if result.index is None:
        raise InputError(f"{text!r}: a container is that of one child: {job.name}:INDEX@{address.node}")
    return replace(result, member=member)


def member_of(source: Reader, text: str, job: JobView, name: str) -> int:
    layout = layout_of(source.job_plan(job).spec)
    if layout is None:
        raise InputError(f"{text!r}: {job.name} has neither several nodes nor several containers; leave out @{name}")
    member = layout.named(name)
    if member is None:
        labels = [layout.label(each) for each in range(len(layout.parts)) if not layout.parts[each].holder]
        have = f"0 to {layout.nodes - 1}" if layout.nodes == len(labels) else ", ".join(labels[:LABELS_SHOWN])
        raise InputError(f"{text!r}: {job.name} has no node or container {name!r}{hint(name, labels)}; it has {have}")
    return member


def hint(name: str, names: list[str]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
