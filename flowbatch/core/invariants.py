"""What must hold after every turn, and what a state comes down to. Loops over everything: for tests and `doctor` alone."""

from __future__ import annotations

from flowbatch.core.dependencies import CHILD_FAILED, satisfied
from flowbatch.core.ready import next_runnable
from flowbatch.core.state import ROW, Job, Odd, State
from flowbatch.core.submission import count_unmet
from flowbatch.core.timers import TimerKind
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Stage
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus, Status

Canonical = dict[str, object]


def check(state: State) -> None:
    """Raises AssertionError, with what is wrong, where a counter or an index no longer says what the cells say."""
    for job in state.jobs.values():
        check_job(state, job)
    for run in state.runs.values():
        main = [job for job in run.jobs if job.stage is Stage.MAIN]
        last = [job for job in run.jobs if job.stage is Stage.FINALLY]
        assert run.open_main == sum(not job.status.terminal for job in main), f"{run.id}: open_main"
        assert run.open_finally == sum(not job.status.terminal for job in last), f"{run.id}: open_finally"
        assert run.failed == sum(job.status is Status.FAILED for job in run.jobs), f"{run.id}: failed"
        if run.status is RunStatus.RUNNING:
            assert run.open_main or run.open_finally, f"{run.id}: nothing is open, but it is RUNNING"
    check_capacity(state)


def check_job(state: State, job: Job) -> None:
    name = f"{job.spec.key} ({job.id})"
    assert len(job.cells) == job.tasks == len(job.attempts), f"{name}: sizes"
    for status in Status:
        held = sum(1 for cell in job.cells if cell & 7 == status)
        assert job.counts[status] == held, f"{name}: counts[{status.name}] = {job.counts[status]}, cells say {held}"
    resting = {cell for cell in job.cells if not cell & ROW}
    assert resting <= {job.rest}, f"{name}: resting cells in {resting}, rest is {job.rest.name}"
    live = sum(1 for each in state.live.values() if each.job is job)
    assert job.running == live == job.counts[Status.STARTING] + job.counts[Status.RUNNING], f"{name}: running"
    if job.array:
        assert job.status in (Status.PENDING, Status.SUCCEEDED, Status.FAILED), f"{name}: parent is {job.status.name}"
        if job.tasks:
            assert job.status.terminal == job.ended(), f"{name}: parent {job.status.name}, counts {job.counts}"
        if job.status is Status.FAILED and job.tasks:
            stopped = job.cancelled or job.terminated
            assert job.counts[Status.FAILED] > (0 if stopped else job.spec.tolerate), f"{name}: FAILED, but tolerated"
            assert job.status_reason == CHILD_FAILED, f"{name}: {job.status_reason}"
    else:
        assert job.status == job.status_of(0), f"{name}: {job.status.name}, its task {job.cells[0] & 7}"
    limit = job.spec.max_running
    assert limit is None or job.running <= limit, f"{name}: {job.running} running, max_running {limit}"
    if not job.status.terminal:
        assert job.unmet == count_unmet(job), f"{name}: unmet {job.unmet}, needs say {count_unmet(job)}"
        check_dependencies(job, name)


def check_dependencies(job: Job, name: str) -> None:
    """Nothing starts before its needs are met, and nothing that can go on is left PENDING."""
    for index in range(job.tasks):
        status = job.status_of(index)
        met = job.unmet == 0 and all(satisfied(when, source.status_of(index)) for source, when in job.sources)
        if job.spec.sequential and index:
            met = met and job.status_of(index - 1) == Status.SUCCEEDED
        if status in (Status.RUNNABLE, Status.STARTING, Status.RUNNING):
            assert met, f"{name}:{index} is {Status(status).name}, and its needs are not met"
        elif status <= Status.PENDING:
            assert not met, f"{name}:{index} is {Status(status).name}, and nothing holds it back"


def check_capacity(state: State) -> None:
    for environment in state.environments.values():
        used, count = Resources(), 0
        for live in state.live.values():
            if live.environment is environment:
                used, count = used.plus(live.resources), count + 1
        assert environment.used == used, f"{environment.name}: used {environment.used}, live attempts hold {used}"
        assert environment.live == count, f"{environment.name}: live"
        assert used.fits(environment.spec.capacity), f"{environment.name}: {used} of {environment.spec.capacity}"
    for queue in state.queues.values():
        held = sum(1 for live in state.live.values() if live.job.spec.queue == queue.spec.name)
        assert queue.live == held, f"queue {queue.spec.name}: live"


def ready_tasks(state: State, now: Millis) -> set[tuple[str, int, int]]:
    """(queue, job number, index) of everything that could be placed, if there were room."""
    found: set[tuple[str, int, int]] = set()
    for name, queue in state.queues.items():
        for group in queue.groups.values():
            for entry in group.heap:
                if state.jobs.get(entry.job.id) is entry.job:  # not of a run that has left
                    found |= {
                        (name, entry.job_no, i) for i in runnable(entry.job, entry.lo, entry.hi, group.key.shape, now)
                    }
    for job in state.jobs.values():
        for shape, parked in job.parked.items():
            for entry in parked:
                found |= {(job.spec.queue, job.no, i) for i in runnable(job, entry.lo, entry.hi, shape, now)}
    for timer in state.timers.heap:
        held = state.jobs.get(timer.subject[0]) if timer.kind is TimerKind.BACKOFF else None  # type: ignore[call-overload]
        odd = held.odd.get(timer.subject[1]) if held is not None else None
        if held is not None and odd is not None and odd.not_before == timer.at <= now:
            found |= {(held.spec.queue, held.no, timer.subject[1])}
    return found


def runnable(job: Job, lo: int, hi: int, shape: Resources, now: Millis) -> set[int]:
    found: set[int] = set()
    index = next_runnable(job.cells, lo, hi)
    while index >= 0:
        odd = job.odd.get(index)
        if odd is None or ((odd.not_before is None or odd.not_before <= now) and job.resources_of(index) == shape):
            found.add(index)
        index = next_runnable(job.cells, index + 1, hi)
    return found


def odd_facts(odd: Odd, now: Millis) -> tuple[int, int, int, Millis | None]:
    waits = odd.not_before if odd.not_before is not None and odd.not_before > now else None
    return odd.base, odd.lost, odd.memory_mib, waits


def canonical(state: State, now: Millis) -> Canonical:
    """Everything that must survive a crash: `canonical(rebuild(load())) == canonical(state)`."""
    jobs = {
        job.id: (
            job.no, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation, job.cancelled,
            job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
            bytes(job.cells), job.attempts.tobytes(), tuple(job.counts), job.running,
            0 if job.status.terminal else job.unmet,
            {idx: facts for idx, odd in job.odd.items() if (facts := odd_facts(odd, now)) != (0, 0, 0, None)},
        )
        for job in state.jobs.values()
    }  # fmt: skip
    runs = {
        run.id: (
            run.no, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
            run.deadline_at, run.finally_at, run.stopped_at, run.open_main, run.open_finally, run.failed,
        )
        for run in state.runs.values()
    }  # fmt: skip
    live = {
        each.key: (
            each.status, each.environment.name, each.backend, each.resources, each.life, each.halt, each.halt_reason,
            each.started_at,
        )
        for each in state.live.values()
    }  # fmt: skip
    return {
        "next": (state.next_run, state.next_job),
        "runs": runs,
        "jobs": jobs,
        "live": live,
        "used": {name: (each.used, each.live) for name, each in state.environments.items() if each.live},
        "queues": {name: queue.live for name, queue in state.queues.items() if queue.live},
        "ready": ready_tasks(state, now),
    }
