"""`retry`: the one way out of a terminal status, by an explicit stimulus of the user (semantics.md 8).

A reopened job starts a new generation: its FAILED tasks are PENDING again, attempt numbers go on, the budget of attempts is
fresh, what succeeded stays. What failed because of it is reopened with it, and `finally` runs again.
"""

from __future__ import annotations

from flowbatch.core import submission
from flowbatch.core.commands import clipped
from flowbatch.core.runs import arm_deadline
from flowbatch.core.state import Job, Odd, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Stage
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Retry, Target


def on_retry(state: State, command: Retry, out: Turn) -> None:
    job = state.jobs.get(command.target.job) if command.target.job is not None else None
    run = job.run if job is not None else state.runs.get(command.target.run) if command.target.run is not None else None
    if run is None:
        out.answer(command.ticket, "only jobs of a run can be reopened, and this run is not known here")
        return
    jobs = chosen(run, job)
    if not jobs:
        what = f"job {job.spec.key} is {job.status.name}" if job is not None else f"run {run.id} has no FAILED job"
        out.answer(command.ticket, f"{what}: there is nothing to retry")
        return
    reopen_run(state, run, out)
    again = [each for each in run.jobs if each.stage is Stage.FINALLY and each.status.terminal]
    for each in jobs:
        reopen_job(each, command.target if each is job else None, out)
    for each in again:
        reopen_whole(each, out)
    for each in dict.fromkeys([*jobs, *again]):
        submission.count_open(each)
        each.status = Status.PENDING
        out.touch(each)
        out.job_event(each)
    for each in dict.fromkeys([*jobs, *again]):
        submission.enter(state, each, out)
    out.settled_runs.append(run)
    out.answer(command.ticket, value={"reopened": [each.spec.key for each in jobs]})


def chosen(run: Run, job: Job | None) -> list[Job]:
    """The FAILED jobs of the main stage, or the named one with everything that failed because of it."""
    if job is None:
        return [each for each in run.jobs if each.status is Status.FAILED and each.stage is Stage.MAIN]
    if job.status is not Status.FAILED:
        return []
    found, queue = {job.no: job}, [job]
    while queue:
        for edge in queue.pop().dependants:
            if edge.job.status is Status.FAILED and edge.job.no not in found:
                found[edge.job.no] = edge.job
                queue.append(edge.job)
    return sorted(found.values(), key=lambda each: each.no)


def reopen_run(state: State, run: Run, out: Turn) -> None:
    run.generation += 1
    run.status = RunStatus.RUNNING
    run.stage = Stage.MAIN
    run.stop = Halt.NONE
    run.cancelled = False
    run.status_reason = None
    run.stopped_at = run.finally_at = None
    if run.plan.deadline_ms is not None:
        run.deadline_at = Millis(out.now + run.plan.deadline_ms)
        arm_deadline(state, run)
    out.touch_run(run)
    out.run_event(run)


def reopen_job(job: Job, target: Target | None, out: Turn) -> None:
    """FAILED tasks (of the target's ranges, if it names some) are PENDING again."""
    reset(job)
    ranges = [(0, job.tasks)] if target is None or target.indices is None else clipped(job, target.indices)
    if job.rest is Status.FAILED:
        settle_rest(job, ranges, out)
    for lo, hi in ranges:
        for index in range(lo, hi):
            if job.status_of(index) == Status.FAILED:
                reopen_task(job, index, out)


def settle_rest(job: Job, ranges: list[tuple[int, int]], out: Turn) -> None:
    """Resting children that failed unstarted: all wait again, unless ranges leave some of them out."""
    resting = job.resting()
    if sum(job.cells.count(Status.FAILED, lo, hi) for lo, hi in ranges) == resting:
        job.counts[Status.FAILED] -= resting
        job.counts[Status.PENDING] += resting
        job.cells = job.cells.translate(bytes(Status.PENDING if code == Status.FAILED else code for code in range(256)))
        job.rest, job.rest_reason, job.rest_at = Status.PENDING, None, None
        out.touch(job)


def reopen_whole(job: Job, out: Turn) -> None:
    """A `finally` job: every task of it runs again, also what succeeded."""
    if job.run is not None and job.status is Status.FAILED:
        job.run.failed -= 1
    job.skipped = False
    reset(job, failed=False)
    if job.rest.terminal:
        job.counts[job.rest] -= job.resting()
        job.counts[Status.PENDING] += job.resting()
        was = job.rest
        job.cells = job.cells.translate(bytes(Status.PENDING if code == was else code for code in range(256)))
        job.rest, job.rest_reason, job.rest_at = Status.PENDING, None, None
    for index in range(job.tasks):
        if job.status_of(index) >= Status.SUCCEEDED:
            reopen_task(job, index, out)


def reset(job: Job, *, failed: bool = True) -> None:
    job.generation += 1
    job.cancelled = job.terminated = False
    job.status_reason = None
    job.stopped_at = None
    if failed and job.run is not None:
        job.run.failed -= 1


def reopen_task(job: Job, index: int, out: Turn) -> None:
    old = job.cells[index] & 7
    job.counts[old] -= 1
    job.counts[Status.PENDING] += 1
    job.cells[index] = Status.PENDING | 8
    tried = job.attempts[index]
    if tried:
        job.odd[index] = Odd(base=tried)
        out.writes.reopened.append((job.no, index, index))
    out.waiting_row(job, index, Status.PENDING)
    out.child_event(job, index, Status.PENDING, None, None) if job.array else None
