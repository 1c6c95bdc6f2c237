"""Cancel, terminate, retry, drain, interrupt: what people ask for (aws-batch.md §1, §2; semantics.md 6–9)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flowbatch.core import dependencies, lifecycle
from flowbatch.core.state import Job, Live, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.ids import RunId, TaskKey
from flowbatch.model.jobspec import Stage
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Cancel, Target, Terminate

DEADLINE: Final = "Run deadline exceeded"
HAVE_FAILED: Final = "what has FAILED has ended already"
FINALLY_TOO_LONG: Final = "finally took longer than 30 minutes"


def find(state: State, target: Target) -> tuple[Run | None, list[Job]] | str:
    """The run and the jobs that a target means, or a sentence that says why there are none."""
    if target.job is not None:
        job = state.jobs.get(target.job)
        if job is None or job.status.terminal:
            return f"job {target.job} has ended, or was never here"
        return HAVE_FAILED if target.failed else (job.run, [job])
    run = state.runs.get(target.run or RunId(""))
    if run is None or run.status is not RunStatus.RUNNING:
        return f"run {target.run} has ended, or was never here"
    return run, run.jobs


def on_cancel(state: State, command: Cancel, out: Turn) -> None:
    found = find(state, command.target)
    if isinstance(found, str):
        out.answer(command.ticket, value={"changed": 0, "note": found})  # AWS: cancelling what has ended is no error
        return
    run, jobs = found
    changed = 0
    if command.target.job is None and run is not None:
        changed = cancel_run(state, run, command.reason, out)
    else:
        for job in jobs:
            changed += cancel_job(state, job, command.target.indices, command.reason, out)
    ranges = command.target.indices
    running = sum(
        job.running if ranges is None or not job.array else len(live_tasks(state, job, clipped(job, ranges)))
        for job in jobs
    )
    out.answer(command.ticket, value={"changed": changed, "running": running})


def on_terminate(state: State, command: Terminate, out: Turn) -> None:
    found = find(state, command.target)
    if isinstance(found, str):
        out.answer(command.ticket, value={"changed": 0, "note": found})
        return
    run, jobs = found
    changed = 0
    if command.target.job is None and run is not None:
        changed = terminate_run(state, run, command.reason, out)
    else:
        for job in jobs:
            changed += terminate_job(state, job, command.target.indices, command.reason, out)
    out.answer(command.ticket, value={"changed": changed})


def cancel_run(state: State, run: Run, reason: str, out: Turn) -> int:
    """Everything not yet STARTING fails, what runs ends by itself; then `finally`."""
    run.cancelled = True
    run.status_reason = run.status_reason or reason
    out.touch_run(run)
    return sum(cancel_job(state, job, None, reason, out) for job in staged(run))


def terminate_run(state: State, run: Run, reason: str, out: Turn) -> int:
    """Also stops what runs. In the main stage `finally` still follows; while `finally` runs, it stops that."""
    run.stop = Halt.TERMINATE
    run.status_reason = run.status_reason or reason
    out.touch_run(run)
    return sum(terminate_job(state, job, None, reason, out) for job in staged(run))


def staged(run: Run) -> list[Job]:
    """The open jobs of the run's present stage."""
    return [job for job in run.jobs if job.stage is run.stage and not job.status.terminal]


def cancel_job(state: State, job: Job, indices: tuple[tuple[int, int], ...] | None, reason: str, out: Turn) -> int:
    """Waiting tasks end FAILED with the caller's reason; STARTING and RUNNING ones go on, and are not tried again. Returns how
    many ended."""
    if job.status.terminal:
        return 0
    before = job.counts[Status.FAILED]
    if indices is None or not job.array:
        job.cancelled = True
        out.touch(job)
        if job.array and job.tasks == 0:
            dependencies.end_waiting(state, job, Status.FAILED, reason, out)
            return 1
        dependencies.end_range(state, job, 0, job.tasks, Status.FAILED, reason, out)
    else:
        ranges = clipped(job, indices)
        for live in live_tasks(state, job, ranges):
            job.oddity(live.key.idx).cancelled = True
            out.live_row(live)
        for lo, hi in ranges:
            dependencies.end_range(state, job, lo, hi, Status.FAILED, reason, out)
    return job.counts[Status.FAILED] - before


def terminate_job(state: State, job: Job, indices: tuple[tuple[int, int], ...] | None, reason: str, out: Turn) -> int:
    """As cancel, and what runs is stopped. Returns how many tasks it reached."""
    if job.status.terminal:
        return 0
    whole = indices is None or not job.array
    if whole:
        job.terminated = True
        out.touch(job)
    reached = 0
    for live in live_tasks(state, job, None if whole else clipped(job, indices or ())):
        lifecycle.halt(state, live, Halt.TERMINATE, reason, out)
        reached += 1
    return reached + cancel_waiting(state, job, indices, whole, reason, out)


def cancel_waiting(
    state: State, job: Job, indices: tuple[tuple[int, int], ...] | None, whole: bool, reason: str, out: Turn
) -> int:
    before = job.counts[Status.FAILED]
    if whole:
        dependencies.end_waiting(state, job, Status.FAILED, reason, out)
    else:
        for lo, hi in clipped(job, indices or ()):
            dependencies.end_range(state, job, lo, hi, Status.FAILED, reason, out)
    return job.counts[Status.FAILED] - before


def clipped(job: Job, indices: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Closed ranges of indices as half-open ones within the array."""
    return [(max(lo, 0), min(hi + 1, job.tasks)) for lo, hi in indices if lo < job.tasks]


def live_tasks(state: State, job: Job, ranges: list[tuple[int, int]] | None) -> list[Live]:
    if job.running == 0:
        return []
    if ranges is None:
        return [live for live in state.live.values() if live.job is job]
    keys = (TaskKey(job.id, index) for lo, hi in ranges for index in range(lo, hi))
    return [live for key in keys if (live := state.live.get(key)) is not None]


def on_interrupt(state: State, out: Turn) -> None:
    """Nothing new starts, and what runs is stopped without being charged for it. Held runs are not this sitting's to stop."""
    state.draining = True
    for live in state.live.values():
        if not live.job.held:
            lifecycle.halt(state, live, Halt.INTERRUPT, None, out)


def on_deadline(state: State, run: Run, out: Turn) -> None:
    """Waiting jobs are cancelled, running ones terminated; `finally` follows."""
    if run.status is RunStatus.RUNNING and run.stage is Stage.MAIN:
        terminate_run(state, run, DEADLINE, out)


def on_finally_limit(state: State, run: Run, out: Turn) -> None:
    if run.status is RunStatus.RUNNING and run.stage is Stage.FINALLY:
        terminate_run(state, run, FINALLY_TOO_LONG, out)
