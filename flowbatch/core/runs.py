"""The life of a run: its main stage, then `finally`, then its end (semantics.md 2, 3, 7–10)."""

from __future__ import annotations

from typing import Final

from flowbatch.core.state import Job, Run, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Stage
from flowbatch.model.status import RunStatus, Status

FINALLY_LIMIT_MS: Final = 30 * 60 * 1000


def on_job_ended(run: Run, job: Job, out: Turn) -> None:
    if job.status is Status.FAILED:
        run.failed += 1
    if job.stage is Stage.MAIN:
        run.open_main -= 1
    else:
        run.open_finally -= 1
    out.settled_runs.append(run)


def advance(state: State, run: Run, out: Turn) -> list[Job]:
    """Opens `finally` once the main stage is over, ends the run once all is. Returns the jobs whose gate opens. Repeatable."""
    if run.status is not RunStatus.RUNNING or run.open_main:
        return []
    if run.stage is Stage.MAIN and run.open_finally:
        run.stage = Stage.FINALLY
        run.finally_at = out.now
        out.touch_run(run)
        arm_finally(state, run)
        return [job for job in run.jobs if job.stage is Stage.FINALLY and not job.status.terminal]
    if run.open_finally == 0:
        run.status = RunStatus.FAILED if run.failed else RunStatus.SUCCEEDED
        run.stopped_at = out.now
        out.touch_run(run)
        out.run_event(run)
    return []


def main_status(run: Run) -> str:
    """`${{ run.status }}` in `finally`: how the main stage ended."""
    failed = any(job.status is Status.FAILED for job in run.jobs if job.stage is Stage.MAIN)
    return (RunStatus.FAILED if failed else RunStatus.SUCCEEDED).name


def arm_deadline(state: State, run: Run) -> None:
    if run.deadline_at is not None and run.stage is Stage.MAIN:
        state.timers.add(run.deadline_at, TimerKind.DEADLINE, (run.id, run.generation, 0))


def arm_finally(state: State, run: Run) -> None:
    if run.finally_at is not None:
        at = Millis(run.finally_at + FINALLY_LIMIT_MS)
        state.timers.add(at, TimerKind.FINALLY, (run.id, run.generation, 0))
