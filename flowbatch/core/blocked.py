"""Why a job can never start as the places of its queue are now, in AWS's words (aws-batch.md §9.6).

It is said on the job at once, while it is RUNNABLE (semantics.md 18); of an array, on the parent. An event tells of it once the job
stands at the head of its queue (limits.py). A machine that is only busy is
no reason, an environment without a node is. AWS's reasons of roles and instance types do not arise on machines of one's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowbatch.core.state import Job, State
from flowbatch.core.turn import Turn
from flowbatch.model.jobspec import Environment, JobSpec, title_of
from flowbatch.model.queues import BLOCKED, INSUFFICIENT_CAPACITY, INVALID, JOB_REQUIREMENT, MAX_RESOURCE, UNDETERMINED
from flowbatch.model.resources import NOTHING
from flowbatch.model.status import Status


def reason_among(spec: JobSpec, places: Sequence[Environment]) -> str | None:
    """None where one of these environments of its queue can hold it, if not now: a DISABLED one may be enabled again."""
    if not places:
        return INVALID
    able = [place for place in places if place.backend_of(spec) is not None]
    if not able:
        return UNDETERMINED
    need = spec.resources
    if any(place.ever_fits(need) for place in able):
        return None
    if all(place.total() == NOTHING for place in able):
        return INSUFFICIENT_CAPACITY
    if all(need.vcpus_milli > place.largest().vcpus_milli for place in able):
        return MAX_RESOURCE
    return JOB_REQUIREMENT


def reason_of(state: State, job: Job) -> str | None:
    names = state.queue_of(job).spec.environments
    places = (state.environments[name].spec for name in names if name in state.environments)
    return reason_among(job.spec, [state.host.capped(state.environments, place) for place in places])


def judge(state: State, job: Job, out: Turn) -> None:
    """Tasks of the job are RUNNABLE: whether it is blocked is found out once per edition of the places, and said for as long as
    it holds: it tells more than how the last attempt ended."""
    if job.judged == state.edition and job.blocked in (None, job.status_reason):
        return
    job.judged = state.edition
    before, job.blocked = job.blocked, reason_of(state, job)
    if job.blocked is not None:
        state.queue_of(job).blocks = True
    if job.blocked != before:
        job.told = None
    said = job.status_reason
    if said != job.blocked and (job.blocked is not None or said in BLOCKED):
        job.status_reason = job.blocked
        out.touch(job)
        if said in BLOCKED:  # also while nothing is placed: the next life must not take it for blocked ever since
            leave_head(state, job, out)


def leave_head(state: State, job: Job, out: Turn) -> None:
    """The job is not blocked at the head of its queue any more, or its clock begins anew."""
    queue = state.queues.get(job.spec.queue)
    if queue is not None and queue.stuck is not None and queue.stuck.job == job.no:
        queue.stuck = queue.stuck_until = out.writes.heads[queue.spec.name] = None


def judge_all(state: State, out: Turn) -> None:
    """Environments or queues have changed: what waits may be blocked now, or no more. A loop over jobs, not over tasks."""
    state.judged = state.edition
    for job in state.jobs.values():
        if job.counts[Status.RUNNABLE]:
            judge(state, job, out)


def misfit(spec: JobSpec, places: Sequence[Environment]) -> str | None:
    """Why a job that must be able to run is refused, in a sentence; None where it is not."""
    if reason_among(spec, places) is None:
        return None
    able = [place for place in places if place.backend_of(spec) is not None]
    queue = title_of(spec.queue)
    if not able:
        return f"job {spec.key}: no environment of queue {queue} can run it"
    sizes = ", ".join(f"{title_of(place.name)} has {place.largest()}" for place in able)
    return f"job {spec.key} needs {spec.resources}, which no environment of queue {queue} has: {sizes}"
