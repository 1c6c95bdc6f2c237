"""How a run comes to be: its jobs, their edges, and what of it is RUNNABLE at once."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from msgspec.structs import replace

from flowbatch.core import definitions, dependencies, sinks, sources, tokens
from flowbatch.core.admission import refusal
from flowbatch.core.dependencies import DEPENDENT_FAILED, satisfied
from flowbatch.core.runs import arm_deadline
from flowbatch.core.state import Edge, Job, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import JobPlan, Need, RunPlan, Stage
from flowbatch.model.places import is_of_run
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Shelve, SubmitRun


def on_submit_run(state: State, command: SubmitRun, out: Turn) -> None:
    """The plan has been checked by `spec.compile`: needs name jobs of the plan, without a cycle."""
    plan = command.plan
    if plan.id in state.runs:
        out.answer(command.ticket, value=plan.id)  # the same submission again
        return
    found = sources.find(state, outside(plan), command.ended)
    if found.absent:
        out.answer(command.ticket, value={"absent": found.absent})
        return
    refused = (
        refusal(state, plan, out.now, must_fit=command.must_fit)
        or tokens.unknown(state, plan)
        or next((said for job in plan.jobs if (said := sources.refusal(job.spec, found)) is not None), None)
    )
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    if command.shelf is not None:
        out.writes.shelves[command.shelf.name] = command.shelf
    plan = definitions.pin(state, plan, out)
    state.add_places(
        (place for place in plan.environments if is_of_run(place.name)),
        (queue for queue in plan.queues if is_of_run(queue.name)),
    )
    deadline = None if plan.deadline_ms is None else Millis(out.now + plan.deadline_ms)
    run = Run(state.next_run, replace(plan, jobs=()), out.now, deadline_at=deadline)
    state.next_run += 1
    state.runs[plan.id] = run
    out.new_run(run, plan)
    run.child_events = sinks.child_events(state, plan)
    sinks.open_of_run(run, out)
    for token in plan.tokens:
        tokens.add(state, token, run.no, out)
    out.run_event(run)
    for job_plan in plan.jobs:
        out.new_job(add_job(state, run, job_plan, out.now), job_plan)
    for job in run.jobs:
        connect(state, job, found.jobs)
        count_open(state, job)
    arm_deadline(state, run)
    enter(state, run.jobs, out)
    out.settled_runs.append(run)  # a run without jobs ends at once
    out.answer(command.ticket, value=plan.id)


def on_shelve(command: Shelve, out: Turn) -> None:
    out.writes.shelves[command.row.name] = command.row
    out.answer(command.ticket)


def add_job(state: State, run: Run | None, plan: JobPlan, now: Millis) -> Job:
    job = Job(state.next_job, plan.id, plan.spec, run, plan.stage, now)
    state.next_job += 1
    adopt(state, job)
    return job


def adopt(state: State, job: Job) -> None:
    """Gives a job its cells, all resting, and its place in the state."""
    tasks = job.tasks
    job.cells = bytearray([job.rest]) * tasks
    job.attempts = array("H", bytes(2 * tasks))
    job.counts[job.rest] = tasks
    state.jobs[job.id] = job
    if job.run is not None:
        job.run.jobs.append(job)


def outside(plan: RunPlan) -> list[JobId]:
    """The jobs of elsewhere that the run needs."""
    own = {job.id for job in plan.jobs}
    return [need.job for job in plan.jobs for need in job.spec.needs if need.job not in own]


def connect(state: State, job: Job, ended: Mapping[JobId, Job]) -> None:
    """Ties the job to those that it needs. One that is gone, and not among the `ended`, has met its need: this job would have ended
    with it otherwise. (What SUCCEEDED is never reopened, but in `finally`, and that is needed by its own run alone.)"""
    for need in job.spec.needs:
        source = state.jobs.get(need.job) or ended.get(need.job)
        if source is not None:
            tie(job, source, need)


def tie(job: Job, source: Job, need: Need) -> None:
    source.dependants.append(Edge(job, need.when, need.each, need.index))
    if need.index is not None:
        job.singles.append((source, need.index))
        source.per_child = True
    elif need.each:
        job.sources.append((source, need.when))
        source.per_child = True
    else:
        job.wholes.append((source, need.when))


def count_open(state: State, job: Job) -> None:
    queue = state.queues.get(job.spec.queue)
    if queue is not None and queue.fair is not None and not job.status.terminal:
        queue.fair.enter(job.spec.share or "")
        state.place_wanted = True  # one more active share: the reservation is smaller
    if job.run is not None and not job.status.terminal:
        if job.stage is Stage.MAIN:
            job.run.open_main += 1
        else:
            job.run.open_finally += 1


def count_unmet(job: Job) -> int:
    """Needs of the whole job that are not satisfied, and the gate of `finally` while it is closed."""
    unmet = sum(1 for source, when in job.wholes if not satisfied(when, source.status))
    unmet += sum(1 for source, index in job.singles if source.status_of(index) != Status.SUCCEEDED)
    if job.stage is Stage.FINALLY and job.run is not None and job.run.stage is Stage.MAIN:
        unmet += 1
    return unmet


def enter(state: State, jobs: list[Job], out: Turn) -> None:
    """Jobs, new or reopened, take their places: PENDING with unmet needs, else RUNNABLE (an array's parent: PENDING).

    All needs are counted before anything moves: a job that ends here (an array of none) is counted as met once, when it settles.
    """
    for job in jobs:
        job.unmet = count_unmet(job)
        if job.status is not Status.PENDING and (job.unmet or job.array):
            job.status = Status.PENDING
            out.touch(job)
            out.job_event(job)
    for job in jobs:
        if job.status.terminal:
            continue
        lost = next(((source, when) for source, when in job.wholes if satisfied(when, source.status) is False), None)
        if lost is not None:
            dependencies.give_up_waiting(state, job, lost[1], lost[0], out)
        elif any(source.status_of(index) == Status.FAILED for source, index in job.singles):
            dependencies.end_waiting(state, job, Status.FAILED, DEPENDENT_FAILED, out)
        elif job.unmet == 0:
            dependencies.release(state, job, out)
        elif job.sources:  # reopened, and what a child of it needs has failed for good
            dependencies.try_children(state, job, out)
