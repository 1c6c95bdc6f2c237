"""Jobs without a run: those that were submitted one by one (aws-batch.md §3, §14).

Such a job lives in memory while it is open, and leaves it in the turn in which it ends. Whoever needs one that has ended asks the
store first, and brings what it was with the submission.
"""

from __future__ import annotations

from flowbatch.core import admission, dependencies, submission, tokens
from flowbatch.core.state import Job, State
from flowbatch.core.turn import Turn
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import JobSpec, Need, Stage
from flowbatch.model.places import PlaceStatus, is_of_run
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import EndedJob, SubmitJob


def on_submit_job(state: State, command: SubmitJob, out: Turn) -> None:
    """Every job that is needed is open, or among the ended; then it is submitted."""
    plan = command.plan
    if plan.id in state.jobs:
        out.answer(command.ticket, value={"job": plan.id})  # the same submission again
        return
    ended = {each.id: each for each in command.ended}
    absent = [need.job for need in plan.spec.needs if need.job not in state.jobs and need.job not in ended]
    if absent:
        out.answer(command.ticket, value={"absent": absent})
        return
    sources = [state.jobs.get(need.job) or ghost(ended[need.job]) for need in plan.spec.needs]
    refused = (
        queue_refuses(state, plan.spec, out.now)
        or tokens.absent(state, plan.spec)
        or next(
            (
                said
                for need, source in zip(plan.spec.needs, sources, strict=True)
                if (said := need_refused(plan.spec, need, source)) is not None
            ),
            None,
        )
    )
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    job = submission.add_job(state, None, plan, out.now)
    submission.count_open(state, job)
    out.new_job(job, plan)
    for need, source in zip(plan.spec.needs, sources, strict=True):
        submission.tie(job, source, need)
    submission.enter(state, [job], out)
    if job.unmet and job.sources:  # children whose own source has failed do not wait for the rest
        dependencies.try_children(state, job, out)
    out.answer(command.ticket, value={"job": plan.id})


def queue_refuses(state: State, spec: JobSpec, now: Millis) -> str | None:
    name = spec.queue
    queue = state.queues.get(name)
    if queue is None or is_of_run(name):
        return f"JobQueue {name} not found"
    if queue.status is not PlaceStatus.VALID:
        return f"JobQueue {name} is {queue.status.value} and takes no jobs"
    if not queue.spec.enabled:
        return f"JobQueue {name} is DISABLED and takes no jobs; enable it first"
    against = admission.of_share(spec, queue.spec)
    if against is None and queue.fair is not None:
        against = admission.of_shares(state, queue.spec, {spec.share or ""}, now)
    return against


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


def evict(state: State, out: Turn) -> None:
    """Ended jobs without a run leave the memory; the store has them."""
    for job in out.jobs.values():
        if job.run is None and job.status.terminal:
            state.jobs.pop(job.id, None)
