"""Jobs without a run: those that were submitted one by one (aws-batch.md §3, §14).

Such a job lives in memory while it is open, and leaves it in the turn in which it ends. Whoever needs one that has ended asks the
store first, and brings what it was with the submission.
"""

from __future__ import annotations

from flowbatch.core import admission, dependencies, sources, submission, tokens
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import JobSpec
from flowbatch.model.places import PlaceStatus, is_of_run
from flowbatch.model.stimuli import SubmitJob


def on_submit_job(state: State, command: SubmitJob, out: Turn) -> None:
    """Every job that is needed is open, or among the ended; then it is submitted."""
    plan = command.plan
    if plan.id in state.jobs:
        out.answer(command.ticket, value={"job": plan.id})  # the same submission again
        return
    found = sources.find(state, (need.job for need in plan.spec.needs), command.ended)
    if found.absent:
        out.answer(command.ticket, value={"absent": found.absent})
        return
    refused = (
        queue_refuses(state, plan.spec, out.now) or tokens.absent(state, plan.spec) or sources.refusal(plan.spec, found)
    )
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    job = submission.add_job(state, None, plan, out.now)
    submission.count_open(state, job)
    out.new_job(job, plan)
    for need in plan.spec.needs:
        submission.tie(job, found.jobs[need.job], need)
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


def evict(state: State, out: Turn) -> None:
    """Ended jobs without a run leave the memory; the store has them."""
    for job in out.jobs.values():
        if job.run is None and job.status.terminal:
            state.jobs.pop(job.id, None)
