"""The one door: stimuli in, rows and effects out. The only code that changes the State."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from flowbatch.core import (
    access,
    alone,
    blocked,
    commands,
    crews,
    definitions,
    dependencies,
    environments,
    lifecycle,
    limits,
    place_changes,
    recovery,
    reopening,
    scheduler,
    sinks,
    submission,
    tokens,
)
from flowbatch.core.scaling import on_scale_down_due
from flowbatch.core.state import Run, State
from flowbatch.core.timers import Timer, TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, TaskKey
from flowbatch.model.outcome import Outcome
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import (
    Audit,
    Audited,
    Cancel,
    Census,
    Configure,
    CreateToken,
    DeletePolicy,
    DeleteToken,
    DeregisterDefinition,
    Drain,
    EnableSink,
    Exited,
    Interrupt,
    LaunchFailed,
    OpenSinks,
    PruneAudit,
    PutKey,
    PutPolicy,
    PutTags,
    Redeliver,
    RegisterDefinition,
    Reload,
    Resume,
    Retry,
    ReviveDead,
    Shelve,
    Started,
    Stimulus,
    SubmitJob,
    SubmitRun,
    TellProgress,
    Terminate,
    Tick,
    UpdateToken,
)


class Machine:
    """Holds the State; whoever has an Outcome must make it durable before performing its effects.

    When `handle` raises, the State is no longer what the store has: the machine must be thrown away.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.evicted: list[Run] = []  # by the last turn: who follows a run may still want to look at it

    def handle(self, stimuli: Iterable[Stimulus], now: Millis) -> Outcome:
        """One turn: every stimulus in order, then what has become due, then what can be placed."""
        state = self.state
        state.turn += 1
        out = Turn(state, now)
        for stimulus in stimuli:
            dispatch(state, stimulus, out)
            if out.settled_children or out.settled_jobs or out.settled_runs:
                dependencies.settle(state, out)
        while (timer := state.timers.due(now)) is not None:
            on_timer(state, timer, out)
            dependencies.settle(state, out)
        if state.leaving:
            environments.settle(state, out)
        if state.judged != state.edition:
            blocked.judge_all(state, out)
        scheduler.place(state, out)
        outcome = out.outcome()
        self.evicted = []
        for run_id in {*out.reloaded, *(run.id for run in out.runs.values())}:
            if state.runs[run_id].status is not RunStatus.RUNNING:
                self.evicted.append(evict(state, run_id))
        alone.evict(state, out)
        return outcome

    def next_deadline(self) -> Millis | None:
        """When `handle` must be called at the latest, with no stimulus at all."""
        return self.state.timers.next_deadline()


def dispatch(state: State, stimulus: Stimulus, out: Turn) -> None:
    match stimulus:
        case Exited():
            lifecycle.on_exited(state, stimulus, out)
        case Started():
            lifecycle.on_started(state, stimulus, out)
        case LaunchFailed():
            lifecycle.on_launch_failed(state, stimulus, out)
        case Census():
            recovery.on_census(state, stimulus, out)
        case SubmitJob():
            alone.on_submit_job(state, stimulus, out)
        case SubmitRun():
            submission.on_submit_run(state, stimulus, out)
        case Shelve():
            submission.on_shelve(stimulus, out)
        case Cancel():
            commands.on_cancel(state, stimulus, out)
        case Terminate():
            commands.on_terminate(state, stimulus, out)
        case Retry():
            reopening.on_retry(state, stimulus, out)
        case Reload():
            recovery.on_reload(state, stimulus, out)
        case Resume():
            recovery.on_resume(state, stimulus, out)
        case Drain():
            state.draining = True
        case Interrupt():
            commands.on_interrupt(state, out)
        case Configure():
            environments.on_configure(state, stimulus, out)
            tokens.declare(state, stimulus.tokens, out)
        case RegisterDefinition():
            definitions.on_register(state, stimulus, out)
        case DeregisterDefinition():
            definitions.on_deregister(state, stimulus, out)
        case PutKey():
            access.on_put_key(state, stimulus, out)
        case PutPolicy():
            access.on_put_policy(state, stimulus, out)
        case DeletePolicy():
            access.on_delete_policy(state, stimulus, out)
        case PutTags():
            access.on_put_tags(stimulus, out)
        case Audit():
            out.writes.audit += stimulus.rows
        case PruneAudit():
            access.on_prune_audit(stimulus, out)
        case Audited():
            first = len(out.effects)
            dispatch(state, stimulus.command, out)
            access.record(stimulus.row, first, out)
        case OpenSinks():
            sinks.on_open(state, stimulus, out)
        case TellProgress():
            sinks.on_progress(state, stimulus, out)
        case Redeliver():
            sinks.on_redeliver(stimulus, out)
        case ReviveDead():
            sinks.on_revive(stimulus, out)
        case EnableSink():
            sinks.on_enable(stimulus, out)
        case CreateToken():
            tokens.on_create(state, stimulus, out)
        case UpdateToken():
            tokens.on_update(state, stimulus, out)
        case DeleteToken():
            tokens.on_delete(state, stimulus, out)
        case Tick():
            pass
        case _:
            place_changes.dispatch(state, stimulus, out)


def on_timer(state: State, timer: Timer, out: Turn) -> None:
    """A timer whose subject has moved on means nothing."""
    name, number, attempt = timer.subject
    match timer.kind:
        case TimerKind.TIMEOUT:
            live = lifecycle.live_of(state, AttemptKey(JobId(name), number, attempt))
            if live is not None and live.status is Status.RUNNING and not (live.crew is not None and live.crew.over):
                lifecycle.halt(state, live, Halt.TIMEOUT, None, out)
        case TimerKind.DEPENDENCY:
            live = lifecycle.live_of(state, AttemptKey(JobId(name), number, attempt))
            if live is not None:
                lifecycle.take(state, live, crews.on_overdue(state, live, out), out.now, out)
        case TimerKind.BACKOFF:
            on_backoff_over(state, TaskKey(JobId(name), number), timer.at)
        case TimerKind.DEADLINE:
            run = state.runs.get(RunId(name))
            if run is not None and run.generation == number and not run.held:
                commands.on_deadline(state, run, out)
        case TimerKind.FINALLY:
            run = state.runs.get(RunId(name))
            if run is not None and run.generation == number and not run.held:
                commands.on_finally_limit(state, run, out)
        case TimerKind.LIMIT:
            limits.on_limit(state, name, number, timer.at, out)
        case TimerKind.SCALE_DOWN:
            on_scale_down_due(state, name)
        case TimerKind.RESERVE:
            scheduler.on_reserve_due(state)
        case TimerKind.REPLACE:
            environments.on_replace_due(state, name, out)
        case _:
            assert_never(timer.kind)


def on_backoff_over(state: State, task: TaskKey, at: Millis) -> None:
    """The row keeps its `not_before`: a rebuilt state finds it in the past and queues the task by the same timer."""
    job = state.jobs.get(task.job)
    odd = None if job is None else job.odd.get(task.idx)
    if job is not None and odd is not None and odd.not_before == at and job.status_of(task.idx) == Status.RUNNABLE:
        odd.not_before = None
        dependencies.queue_child(state, job, task.idx)


def evict(state: State, run_id: RunId) -> Run:
    """An ended run leaves the memory; the store has it."""
    run = state.runs.pop(run_id)
    for job in run.jobs:
        del state.jobs[job.id]
    state.drop_places(run.plan)
    tokens.evict(state, run.plan)
    return run
