"""Jobs that are needed from outside: of other runs, or without one. Open, or ended and gone from memory.

Whoever needs one that has ended asks the store first, and brings what it was with the submission.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from flowbatch.core.state import Job, State
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import JobSpec, Need, Stage
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EndedJob


class Sources(Struct, eq=False):
    jobs: dict[JobId, Job]
    absent: list[JobId]  # neither open nor told of


def find(state: State, needed: Iterable[JobId], ended: Iterable[EndedJob]) -> Sources:
    told = {each.id: each for each in ended}
    found = Sources({}, [])
    for job_id in dict.fromkeys(needed):
        source = state.jobs.get(job_id)
        if source is None and job_id in told:
            source = ghost(told[job_id])
        if source is None:
            found.absent.append(job_id)
        else:
            found.jobs[job_id] = source
    return found


def refusal(spec: JobSpec, found: Sources) -> str | None:
    """The first reason against what this job needs from outside, in a sentence."""
    for need in spec.needs:
        if need.job in found.jobs:
            refused = need_refused(spec, need, found.jobs[need.job])
            if refused is not None:
                return refused
    return None


def need_refused(spec: JobSpec, need: Need, source: Job) -> str | None:
    """What AWS leaves open is refused (aws-batch.md §3.1)."""
    if source.stage is Stage.FINALLY:
        return f"Job {need.job} belongs to the `finally` stage of its run and runs again with each retry: no job may need it"
    if need.index is not None:
        if not source.array:
            return f"Job {need.job} is no array: it has no child {need.index}"
        if need.index >= source.tasks:
            return f"Job {need.job} has no child {need.index}: its indices are 0 to {source.tasks - 1}"
    if need.each and source.spec.size != spec.size:
        size = "a single job" if source.spec.size is None else f"an array of {source.spec.size}"
        return f"N_TO_N needs two arrays of one size: {need.job} is {size}, this one has {spec.size}"
    return None


def ghost(ended: EndedJob) -> Job:
    """An ended job for as long as the dependant looks at it: in no list, and nothing of it ever changes."""
    spec = JobSpec(ended.name, "", (), Resources(), ended.size)
    job = Job(0, ended.id, spec, None, Stage.FINALLY if ended.again else Stage.MAIN, Millis(0), ended.status)
    job.cells = bytearray(ended.cells)
    for status in ended.cells:
        job.counts[status] += 1
    return job
