"""What did the crash leave? `rebuild` makes the state from rows, `reconcile` holds it against what a backend has.

Recovery has no code path of its own: a life begins with `rebuild`, each backend is asked for a census, and `reconcile` answers
with the ordinary facts. The same census runs every 30 seconds for ever. Four laws, each found by simulation (design.md §9):

a. A census carries the turn in which it was asked; attempts that changed since are left alone.
b. A census launches a STARTING attempt again only where an earlier life placed it, and so once a life: within a life each
   launch is answered exactly once.
c. Calls about one attempt are serialised by the backend; duplicates are dropped there.
d. "Launch failed" is answered only once it is certain that nothing of that name exists.

An attempt placed before this machine booted is lost, whatever else: its claim may have gone with the page cache, so
that starting it again could be a second start.
"""

from __future__ import annotations

from flowbatch.core import (
    crews,
    definitions,
    dependencies,
    environments,
    lifecycle,
    queue_changes,
    sinks,
    sources,
    submission,
    tokens,
)
from flowbatch.core.launching import launch_again
from flowbatch.core.members import Crew
from flowbatch.core.queues import usage_of
from flowbatch.core.runs import arm_deadline, arm_finally
from flowbatch.core.state import ROW, Job, Live, Odd, Run, State
from flowbatch.core.turn import Turn
from flowbatch.model.effects import Forget, Stop
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, Millis, RunId
from flowbatch.model.jobspec import JobPlan, RunPlan, Stage
from flowbatch.model.places import PlaceStatus, is_of_run
from flowbatch.model.rows import JobRow, Loaded, MemberRow, PlainTasks, RunRow, TaskRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Census, Exited, Observation, Reload, Resume, Started


def rebuild(
    loaded: Loaded,
    *,
    enforcing: frozenset[str] = frozenset(),
    networking: frozenset[str] = frozenset(),
    child_events: ChildEvents = ChildEvents.NONE,
) -> State:
    """The state that wrote these rows, less what only a life knows (blocked heads, the turn of a change)."""
    state = State(
        loaded.life,
        loaded.same_boot_since,
        next_run=loaded.next_run,
        next_job=loaded.next_job,
        enforcing=enforcing,
        networking=networking,
        child_events=child_events,
        definitions=definitions.restore(loaded.definitions),
        keys={key.id: key for key in loaded.keys},
        policies={policy.name: policy for policy in loaded.policies},
        scheduling={row.name: row.policy for row in loaded.scheduling},
    )
    state.tokens.updates = {(row.name, row.once): row.at for row in loaded.token_updates}
    state.past_usage = usage_of(loaded.usage)
    state.past_heads = {row.queue: row for row in loaded.heads}
    for environment in loaded.environments:
        if environment.status is PlaceStatus.DELETED:
            state.deleted_environments[environment.name] = environment
        else:
            environments.restore(state, environment)
    for queue in loaded.queues:
        if queue.status is PlaceStatus.DELETED:
            state.deleted_queues[queue.name] = queue
        else:
            queue_changes.restore(state, queue)
    restore(state, loaded)
    state.places_changed()
    return state


def on_reload(state: State, stimulus: Reload, out: Turn) -> None:
    """An ended run is here again, for a Retry of this turn; where none reopens it, it leaves with the turn."""
    if not any(plan.id in state.runs for _, plan in stimulus.loaded.runs):
        restore(state, stimulus.loaded)
        out.reloaded += [plan.id for _, plan in stimulus.loaded.runs]


def restore(state: State, loaded: Loaded) -> None:
    """Adds the loaded runs to the state. Work that is PENDING or RUNNABLE finds its place again by its cells alone."""
    runs: dict[int, Run] = {}
    jobs: dict[int, Job] = {}
    needed = {plan.spec.queue for row, plan in loaded.jobs if not row.status.terminal}
    tokens.restore(state, loaded.tokens)
    for run_row, run_plan in loaded.runs:
        restore_places(state, run_plan, needed)
        runs[run_row.no] = restore_run(state, run_row, run_plan)
    for job_row, job_plan in loaded.jobs:
        jobs[job_row.no] = restore_job(state, runs, job_row, job_plan)
    crews_of: dict[tuple[int, int], list[MemberRow]] = {}
    for member in loaded.members:
        crews_of.setdefault((member.job, member.idx), []).append(member)
    for task in loaded.tasks:
        restore_task(state, jobs[task.job], task, crews_of)
    for tasks in loaded.plain:
        restore_plain(jobs[tasks.job], tasks)
    ended = {each.id: sources.ghost(each) for each in loaded.ended}
    for job in jobs.values():
        submission.connect(state, job, ended)
        submission.count_open(state, job)
        if job.run is not None and job.status is Status.FAILED:
            job.run.failed += 1
    for job in jobs.values():
        if not job.status.terminal:
            job.unmet = submission.count_unmet(job)
            restore_ready(state, job)
    for run in runs.values():
        restore_deadlines(state, run)
    state.place_wanted = True


def restore_places(state: State, plan: RunPlan, needed: set[str]) -> None:
    """The run's own; and of the engine's those that its open jobs need, where the store does not have their queue (it did not
    before environments and queues were stored). A queue that it has may name other environments by now: one of the plan that
    was deleted since must not come back."""
    missing = needed - state.queues.keys()
    kept = [queue for queue in plan.queues if is_of_run(queue.name) or queue.name in missing]
    names = {name for queue in kept for name in queue.environments}
    state.add_places((place for place in plan.environments if is_of_run(place.name) or place.name in names), kept)


def restore_run(state: State, row: RunRow, plan: RunPlan) -> Run:
    run = Run(
        row.no, plan, row.created_at, row.status, row.stage, row.stop, row.cancelled,
        row.generation, row.status_reason, row.deadline_at, row.finally_at, row.stopped_at,
    )  # fmt: skip
    run.child_events = sinks.child_events(state, plan)
    state.runs[RunId(row.id)] = run
    return run


def restore_job(state: State, runs: dict[int, Run], row: JobRow, plan: JobPlan) -> Job:
    job = Job(
        row.no, row.id, plan.spec, None if row.run is None else runs[row.run], row.stage, row.created_at,
        row.status, row.rest, row.rest_reason, row.rest_at, row.generation, row.cancelled,
        row.terminated, row.skipped, row.status_reason, row.started_at, row.stopped_at,
    )  # fmt: skip
    submission.adopt(state, job)
    return job


def restore_task(state: State, job: Job, row: TaskRow, crews_of: dict[tuple[int, int], list[MemberRow]]) -> None:
    idx, status = row.idx, row.status
    job.counts[job.cells[idx] & 7] -= 1
    job.counts[status] += 1
    job.cells[idx] = status | ROW
    job.attempts[idx] = row.attempt
    if status >= Status.SUCCEEDED:
        return
    if row.base or row.lost or row.memory_mib or row.not_before is not None or row.cancelled:
        job.odd[idx] = Odd(row.base, row.lost, row.memory_mib, row.not_before, row.cancelled)
    if status >= Status.STARTING:
        live = restore_live(state, job, row)
        if job.layout is not None:
            crews.restore(state, live, job.layout, crews_of.get((row.job, idx), ()))


def restore_plain(job: Job, tasks: PlainTasks) -> None:
    """A life may begin with a hundred thousand of them."""
    job.counts[job.rest] -= len(tasks.indices)
    for status in set(tasks.statuses):
        job.counts[status] += tasks.statuses.count(status)
    cells, attempts = job.cells, job.attempts
    for index, status, attempt in zip(tasks.indices, tasks.statuses, tasks.attempts, strict=True):
        cells[index] = status | ROW
        attempts[index] = attempt


def restore_live(state: State, job: Job, row: TaskRow) -> Live:
    """Capacity of what may still run is reserved before anything new is placed."""
    environment = state.environments[row.environment or ""]
    key = AttemptKey(job.id, row.idx, row.attempt)
    node = environment.nodes.get(row.node) if row.node is not None else None
    backend = environment.spec.backend_at(job.spec, None if node is None else node.spec)
    live = Live(
        key, job, state.queue_of(job), environment, node, backend, job.resources_of(row.idx), row.life,
        changed=0, status=row.status, halt=row.halt, halt_reason=row.status_reason,
        started_at=row.started_at,
    )  # fmt: skip
    state.live[key[:2]] = live
    environment.hold(live.resources, 1)
    state.tokens.hold(job.spec.tokens)
    if node is not None:
        node.hold(live.resources, 1)
    live.queue.live += 1
    if live.queue.fair is not None:
        live.queue.fair.resume(job.spec.share or "", live.resources.vcpus_milli)
    job.running += 1
    if live.status is Status.RUNNING:
        lifecycle.arm_timeout(state, live)
    return live


def restore_ready(state: State, job: Job) -> None:
    queue = state.queue_of(job)
    if job.rest is Status.RUNNABLE:
        for lo, hi in dependencies.resting_ranges(job):
            queue.add(job, lo, hi, front=1, shape=job.spec.resources)
    index = 0
    while (lo := job.cells.find(Status.RUNNABLE | ROW, index)) >= 0:
        index = alike_until(job, lo)
        if lo in job.odd:
            lifecycle.wait_or_queue(state, AttemptKey(job.id, lo, job.attempts[lo]))
        else:
            queue.add(job, lo, index, front=0 if job.attempts[lo] else 1, shape=job.spec.resources)


def alike_until(job: Job, lo: int) -> int:
    """The end of the range of RUNNABLE tasks that one entry can stand for: all tried before, or none of them, and none odd."""
    hi = lo + 1
    if lo in job.odd:
        return hi
    cells, attempts, odd = job.cells, job.attempts, job.odd
    code, tried = cells[lo], attempts[lo] > 0
    while hi < len(cells) and cells[hi] == code and (attempts[hi] > 0) is tried and hi not in odd:
        hi += 1
    return hi


def resume(state: State, run: Run) -> None:
    """What passed while the run was held was dropped: its ready work and its deadlines are found again."""
    run.held = False
    for job in run.jobs:
        if not job.status.terminal:
            restore_ready(state, job)
    restore_deadlines(state, run)
    state.place_wanted = True


def restore_deadlines(state: State, run: Run) -> None:
    if run.status is RunStatus.RUNNING:
        arm_deadline(state, run)
        if run.stage is Stage.FINALLY:
            arm_finally(state, run)


def on_resume(state: State, command: Resume, out: Turn) -> None:
    """A run that an earlier life left open goes on; without a name, all of them do."""
    runs = [run for run in state.runs.values() if run.held and command.run in (None, run.id)]
    for run in runs:
        resume(state, run)
    out.answer(command.ticket, value=[run.id for run in runs])


# --- the census


def on_census(state: State, census: Census, out: Turn) -> None:
    """Holds what a backend has against what we think it has; see the table in design.md §9."""
    seen: set[AttemptKey] = set()
    for observation in census.observations:
        live = lifecycle.live_of(state, observation.key)
        if live is None or live.backend != census.backend:
            dismiss(state, census.backend, observation, out)
        elif live.crew is not None:
            seen.add(observation.key)
            look_at_member(state, live, live.crew, observation, census, out)
        else:
            seen.add(live.key)
            if live.changed <= census.asked:
                confirm(state, live, observation, out)
    for live in [live for live in state.live.values() if live.backend == census.backend]:
        if live.crew is not None:
            miss_members(state, live, live.crew, seen, census.asked, out)
        elif live.key not in seen and live.changed <= census.asked:
            miss(state, live, out)


def dismiss(state: State, backend: str, observation: Observation, out: Turn) -> None:
    """Of a terminal task, an older attempt, or a run that is gone: nobody waits for it."""
    if observation.evidence is None:
        job = state.jobs.get(observation.key.job)
        grace_ms = job.spec.stop_grace_ms if job is not None else 30_000
        out.effects.append(Stop(observation.key, backend, grace_ms, Halt.TERMINATE))
    else:
        out.effects.append(Forget(observation.key, backend))


def confirm(state: State, live: Live, observation: Observation, out: Turn) -> None:
    """Ours, and alive or ended: adopted by the ordinary facts."""
    if observation.evidence is not None:
        at = observation.at if observation.at is not None else out.now
        fact = Exited(live.key, at, observation.evidence, observation.started_at, observation.image)
        lifecycle.on_exited(state, fact, out)
        return
    if observation.started_at is not None:
        lifecycle.on_started(state, started(observation), out)
    if live.halt is not Halt.NONE and not live.stop_told:
        lifecycle.halt(state, live, live.halt, live.halt_reason, out)


def started(seen: Observation) -> Started:
    assert seen.started_at is not None
    return Started(seen.key, seen.started_at, seen.handle, seen.address, seen.image)


def miss(state: State, live: Live, out: Turn) -> None:
    """Ours, and the backend knows nothing of it."""
    before_boot = live.life < state.same_boot_since
    if live.status is Status.STARTING and not before_boot:
        if live.life == state.life:
            return
        held = live.job.held
        if live.halt is Halt.NONE and (state.draining or held):
            live.halt = Halt.INTERRUPT  # nothing new starts: it goes back to RUNNABLE, uncharged
        if live.halt is not Halt.NONE:
            lifecycle.on_exited(state, Exited(live.key, out.now, Evidence()), out)  # never begun, and not wanted
            return
        live.life = state.life
        live.changed = state.turn
        out.live_row(live)
        out.effects.append(launch_again(live))
        return
    detail = "this machine restarted" if before_boot else "the backend knows nothing of it"
    lifecycle.on_exited(state, Exited(live.key, Millis(out.now), Evidence(lost=True, detail=detail)), out)


# --- members in the census: the same table, the same laws


def look_at_member(state: State, live: Live, crew: Crew, observation: Observation, census: Census, out: Turn) -> None:
    member = observation.key.member
    if not crews.awaited(crew, member):
        dismiss(state, census.backend, observation, out)
        return
    if crew.seats[member].changed > census.asked:
        return
    if observation.evidence is not None:
        at = observation.at if observation.at is not None else out.now
        ended = Exited(observation.key, at, observation.evidence, observation.started_at, observation.image)
        lifecycle.on_exited(state, ended, out)
        return
    if observation.started_at is not None:
        lifecycle.on_started(state, started(observation), out)
    crews.tell_again(live, crew, member, out)


def miss_members(state: State, live: Live, crew: Crew, seen: set[AttemptKey], asked: int, out: Turn) -> None:
    for key in crews.open_members(live):
        seat = crew.seats[key.member]
        if key not in seen and seat.open and seat.changed <= asked and state.live.get(live.key[:2]) is live:
            miss_member(state, live, crew, key, out)


def miss_member(state: State, live: Live, crew: Crew, key: AttemptKey, out: Turn) -> None:
    """An attempt that has begun is finished also while the engine drains: its main node may wait for the others."""
    seat = crew.seats[key.member]
    before_boot = seat.life < state.same_boot_since
    if seat.status is Status.STARTING and not before_boot:
        if seat.life == state.life:
            return
        held = live.job.run is not None and live.job.run.held
        if live.status is Status.STARTING and live.halt is Halt.NONE and (state.draining or held):
            lifecycle.halt(state, live, Halt.INTERRUPT, None, out)
        if seat.asked:
            lifecycle.on_exited(state, Exited(key, out.now, Evidence()), out)  # never begun, and not wanted
        else:
            crews.launch_again(state, live, crew, key.member, out)
        return
    detail = "this machine restarted" if before_boot else "the backend knows nothing of it"
    lifecycle.on_exited(state, Exited(key, Millis(out.now), Evidence(lost=True, detail=detail)), out)
