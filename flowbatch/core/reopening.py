"""`retry`: the one way out of a terminal status, by an explicit stimulus of the user (semantics.md 8).

A reopened job starts a new generation: its FAILED tasks are PENDING again, attempt numbers go on, the budget of attempts is
fresh, what succeeded stays. What failed because of it is reopened with it, and `finally` runs again.
"""

from __future__ import annotations

from flowbatch.core import dependencies, limits, recovery, sinks, submission
from flowbatch.core.commands import clipped
from flowbatch.core.runs import arm_deadline
from flowbatch.core.state import ROW, Job, Odd, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.jobspec import Stage, title_of
from flowbatch.model.places import PlaceStatus
from flowbatch.model.rows import AttemptRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Retry, Target


def on_retry(state: State, command: Retry, out: Turn) -> None:
    target = command.target
    job = state.jobs.get(target.job) if target.job is not None else None
    run = job.run if job is not None else state.runs.get(target.run or RunId("")) if target.job is None else None
    if run is None:
        out.answer(command.ticket, "only jobs of a run can be reopened, and this run is not known here")
        return
    refused = refusal(run, job, target)
    main = chosen(run, job)
    again = [each for each in run.jobs if each.stage is Stage.FINALLY and each.status.terminal]
    refused = refused or held_back(main) or homeless(state, [*main, *again])
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    if run.held:
        recovery.resume(state, run)
    reopen_run(state, run, out)
    for each in main:
        reopen_job(each, target if each is job else None, out)
    for each in again:
        reopen_whole(each, out)
    reopened = [*main, *again]
    for each in reopened:
        submission.count_open(state, each)
        limits.begin_anew(state, each, out)
        out.touch(each)
        out.job_event(each)
    for each in reopened:
        for edge in each.dependants:  # those that wait, and had counted this end
            if not edge.job.status.terminal:
                edge.job.unmet = submission.count_unmet(edge.job)
    submission.enter(state, reopened, out)
    out.settled_runs.append(run)
    out.answer(command.ticket, value={"reopened": [each.spec.key for each in reopened]})


def refusal(run: Run, job: Job | None, target: Target) -> str | None:
    """Why nothing can be reopened, in a sentence."""
    if run.status is RunStatus.RUNNING and run.stage is Stage.FINALLY:
        return f"the `finally` jobs of run {run.id} are at work: retry once the run has ended"
    if job is None:
        return None if run.failed else f"run {run.id} has no FAILED job: there is nothing to retry"
    if job.status is not Status.FAILED:
        return f"job {job.spec.key} is {job.status.name}: there is nothing to retry"
    ranges = ranges_of(job, target)
    if job.tasks and not any(job.status_of(i) == Status.FAILED for lo, hi in ranges for i in range(lo, hi)):
        return f"none of these children of {job.spec.key} is FAILED: there is nothing to retry"
    return None


def homeless(state: State, jobs: list[Job]) -> str | None:
    """A queue may have been deleted since the run ended."""
    for job in jobs:
        queue = state.queues.get(job.spec.queue)
        if queue is None or queue.status is not PlaceStatus.VALID:
            return (
                f"job {job.spec.key} belongs to queue {title_of(job.spec.queue)}, which is deleted: it cannot run again"
            )
    return None


def ranges_of(job: Job, target: Target | None) -> list[tuple[int, int]]:
    if target is None or target.indices is None or not job.array:
        return [(0, job.tasks)]
    return clipped(job, target.indices)


def chosen(run: Run, job: Job | None) -> list[Job]:
    """The FAILED jobs of the main stage, or the named one with everything that failed because of it. (`finally` runs again whole.)"""
    if job is None:
        return [each for each in run.jobs if each.status is Status.FAILED and each.stage is Stage.MAIN]
    found, queue = {job.no: job}, [job]
    while queue:
        for edge in queue.pop().dependants:
            if edge.job.run is run and edge.job.status is Status.FAILED and edge.job.no not in found:
                found[edge.job.no] = edge.job
                queue.append(edge.job)
    return [each for _, each in sorted(found.items()) if each.stage is Stage.MAIN]


def held_back(jobs: list[Job]) -> str | None:
    """A job that has begun because of an end cannot see that end undone."""
    for job in jobs:
        for edge in job.dependants:
            other = edge.job
            if other.run is job.run and not other.status.terminal and other.counts[Status.PENDING] != other.tasks:
                return f"{other.spec.key} has begun after {job.spec.key}, and is not over: retry once it has ended"
    return None


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
    sinks.reopen(run, out)
    out.run_event(run)


def reopen_job(job: Job, target: Target | None, out: Turn) -> None:
    """FAILED tasks (of the target's ranges, if it names some) are PENDING again."""
    reset(job)
    ranges = ranges_of(job, target)
    if job.rest is Status.FAILED:
        resting = job.resting()
        if sum(job.cells.count(Status.FAILED, lo, hi) for lo, hi in ranges) == resting:
            wait_again(job, out)
    for lo, hi in ranges:
        for index in range(lo, hi):
            if job.status_of(index) == Status.FAILED:
                reopen_task(job, index, out)


def reopen_whole(job: Job, out: Turn) -> None:
    """A `finally` job: every task of it runs again, also what succeeded."""
    reset(job)
    job.skipped = False
    if job.rest.terminal:
        wait_again(job, out)
    for index in range(job.tasks):
        if job.status_of(index) >= Status.SUCCEEDED:
            reopen_task(job, index, out)


def wait_again(job: Job, out: Turn) -> None:
    """All resting children, which ended unstarted, are PENDING again and go on resting."""
    if job.array and out.children_logged(job):
        for lo, hi in dependencies.resting_ranges(job):
            for index in range(lo, hi):
                out.child_event(job, index, Status.PENDING, None, None)
    was, resting = job.rest, job.resting()
    job.counts[was] -= resting
    job.counts[Status.PENDING] += resting
    job.cells = job.cells.translate(bytes.maketrans(bytes([was]), bytes([Status.PENDING])))
    job.rest, job.rest_reason, job.rest_at = Status.PENDING, None, None


def reset(job: Job) -> None:
    if job.status is Status.FAILED and job.run is not None:
        job.run.failed -= 1
    job.status = Status.PENDING
    job.generation += 1
    job.cancelled = job.terminated = False
    job.status_reason = None
    job.stopped_at = None


def reopen_task(job: Job, index: int, out: Turn) -> None:
    job.counts[job.status_of(index)] -= 1
    job.counts[Status.PENDING] += 1
    job.cells[index] = Status.PENDING | ROW
    tried = job.attempts[index]
    if tried:
        job.odd[index] = Odd(base=tried)
        keep_last_attempt(job, index, out)
    out.waiting_row(job, index, Status.PENDING)
    if job.array:
        out.child_event(job, index, Status.PENDING, None, None)


def keep_last_attempt(job: Job, index: int, out: Turn) -> None:
    """The row is about to be reused. The store copies it, unless the end is of this very turn and the store has not seen it."""
    row = out.writes.tasks.get((job.no, index))
    if row is None:
        out.writes.reopened.append((job.no, index, index))
    elif row.environment is not None and row.stopped_at is not None:  # an attempt's end, and not that of one who waited
        out.writes.attempts.append(
            AttemptRow(
                job.no, index, row.attempt, row.environment, row.started_at, row.stopped_at, row.exit_code, row.reason,
                row.status_reason, row.truncated,
            )
        )  # fmt: skip
