"""How a run comes to be: its jobs, their edges, and what of it is RUNNABLE at once."""

from __future__ import annotations

from array import array
from dataclasses import replace

from flowbatch.core import dependencies
from flowbatch.core.runs import arm_deadline
from flowbatch.core.state import Edge, Job, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import JobPlan, Stage
from flowbatch.model.status import Status
from flowbatch.model.stimuli import SubmitRun


def on_submit_run(state: State, command: SubmitRun, out: Turn) -> None:
    """The plan has been checked by `spec.compile`: needs name jobs of the plan, without a cycle."""
    plan = command.plan
    if plan.id in state.runs:
        out.answer(command.ticket, value=plan.id)  # the same submission again
        return
    state.add_places(plan.environments, plan.queues)
    missing = sorted({job.spec.queue for job in plan.jobs} - state.queues.keys())
    if missing:
        out.answer(command.ticket, f"unknown queue {missing[0]!r}")
        return
    deadline = None if plan.deadline_ms is None else Millis(out.now + plan.deadline_ms)
    run = Run(state.next_run, replace(plan, jobs=()), out.now, deadline_at=deadline)
    state.next_run += 1
    state.runs[plan.id] = run
    out.new_run(run, plan)
    out.run_event(run)
    for job_plan in plan.jobs:
        out.new_job(add_job(state, run, job_plan, out.now), job_plan)
    for job in run.jobs:
        connect(state, job)
        count_open(job)
    arm_deadline(state, run)
    for job in run.jobs:
        enter(state, job, out)
    out.settled_runs.append(run)  # a run without jobs ends at once
    out.answer(command.ticket, value=plan.id)


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


def connect(state: State, job: Job) -> None:
    """Ties the job to those that it needs. A need of a job that is gone is a need of one that ended long ago."""
    for need in job.spec.needs:
        source = state.jobs[JobId(need.job)]
        source.dependants.append(Edge(job, need.when, need.each))
        if need.each:
            job.sources.append((source, need.when))
            source.per_child = True
        else:
            job.wholes.append((source, need.when))


def count_open(job: Job) -> None:
    if job.run is not None and not job.status.terminal:
        if job.stage is Stage.MAIN:
            job.run.open_main += 1
        else:
            job.run.open_finally += 1


def count_unmet(job: Job) -> int:
    """Needs of the whole job that are not satisfied, and the gate of `finally` while it is closed."""
    unmet = sum(1 for source, when in job.wholes if not dependencies.satisfied(when, source.status))
    if job.stage is Stage.FINALLY and job.run is not None and job.run.stage is Stage.MAIN:
        unmet += 1
    return unmet


def enter(state: State, job: Job, out: Turn) -> None:
    """A job, new or reopened, takes its place: PENDING with unmet needs, else RUNNABLE (an array's parent: PENDING)."""
    job.unmet = count_unmet(job)
    waits = job.unmet or job.array or job.sources
    if waits and job.status is not Status.PENDING:
        job.status = Status.PENDING
        out.touch(job)
        out.job_event(job)
    for source, when in job.wholes:
        if dependencies.satisfied(when, source.status) is False:
            dependencies.give_up_waiting(state, job, when, source, out)
            return
    if job.unmet == 0:
        dependencies.release(state, job, out)
