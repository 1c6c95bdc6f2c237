"""What must hold, looked at from outside: rows, effects and the backend's own books, never the core's counters."""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

from flowbatch.core.ending import EXITED, FAILED_TO_START, HOST_LOST, INTERRUPTED
from flowbatch.core.members import ALLOWED as MEMBER_PATHS
from flowbatch.core.members import Layout, layout_of
from flowbatch.core.ready import Group, GroupKey, first_ready
from flowbatch.core.scheduler import RESERVE_AFTER_MS
from flowbatch.core.state import ROW, EnvironmentState, Job, State
from flowbatch.core.turn import job_row
from flowbatch.model.effects import Launch
from flowbatch.model.events import EventKind
from flowbatch.model.ids import ALONE, AttemptKey, JobId, RunId, TaskKey
from flowbatch.model.jobspec import Condition, Queue, RunPlan, Stage, When
from flowbatch.model.resources import NOTHING, Resources, sum_of
from flowbatch.model.rows import AttemptRow, MemberRow, TaskRow, Writes
from flowbatch.model.status import (
    FAILED,
    PENDING,
    RUNNABLE,
    STARTING,
    SUBMITTED,
    SUCCEEDED,
    TRANSITIONS,
    RunStatus,
    Status,
)
from flowbatch.model.tokens import TokenKind
from tests.sim import reference
from tests.sim.backend import SimBackend
from tests.sim.share_laws import ShareLaws
from tests.sim.store import DictStore

RUN, NODE, QUEUE = EventKind.RUN, EventKind.NODE, EventKind.QUEUE
Subject = tuple[int, int | None]  # job number, index of a child


class Share(NamedTuple):
    """What a group's head may have alone."""

    priority: int  # of its queue, negated
    since: int
    group: Group
    shape: Resources


def key_of(launch: Launch, queue: Queue) -> GroupKey:
    """Of the group that an attempt of one member came from."""
    spec = launch.spec
    return GroupKey(0 if queue.policy else spec.priority, launch.resources, spec.kind, spec.tokens)


def has_ready(group: Group) -> bool:
    """As `group.head()`, but it leaves the heap alone."""
    return any(
        first_ready(each.job, each.lo, each.hi, group.key.shape) >= 0
        for each in group.entries()
        if each.job.spec.max_running is None or each.job.running < each.job.spec.max_running
    )


def free_tokens(state: State, name: str) -> int:
    """Counted from what is live."""
    token = state.tokens.held.get(name)
    if token is None:
        return 0
    if token.kind is TokenKind.NON_REPLENISHABLE:
        return token.total
    return token.total - sum(dict(live.job.spec.tokens).get(name, 0) for live in state.live.values())


def waiting_for(state: State, name: str, now: int) -> list[Group]:
    """Who has waited for that so long that it may keep a share."""
    return [
        group
        for queue in state.queues.values()
        for group in queue.groups.values()
        if group.token_since is not None
        and now - group.token_since >= RESERVE_AFTER_MS
        and any(each == name for each, _ in group.key.tokens)
        and has_ready(group)
    ]


def may_keep_tokens(state: State, group: Group) -> bool:
    """What could never start keeps none from others."""
    places = state.places_of(next(group.entries()).job)
    fits = any(place.takes_work and state.ever_fits(place, group.key.shape) for place, _ in places)
    return fits and all(
        (token := state.tokens.held.get(name)) is not None and quantity <= token.total
        for name, quantity in group.key.tokens
    )


def with_host(reason: str | None) -> TypeGuard[str]:
    """Lost, or taken back."""
    return reason is not None and reason.startswith("Host EC2 (")


def rooms_of(state: State, environment: EnvironmentState) -> list[Resources]:
    """What a task may have there now: of the environment, or of each node, and of the host."""
    rooms = [environment.free()] if environment.spec.managed else [
        node.free() for node in environment.nodes.values() if not node.spec.draining
    ]  # fmt: skip
    if state.host.guard is None:
        return rooms
    host = state.host.guard.minus(sum_of(each.used for each in state.environments.values()))
    host = host.minus(state.host.minima(state.environments, environment.name))
    return [Resources(*map(min, room, host)) for room in rooms]


def claimed(state: State, queue: str) -> bool:
    """Whether something of another queue waits that could run on demand: Spot may have to leave it its share."""
    return any(
        job.counts[RUNNABLE]
        and job.spec.queue != queue
        and any(not place.spec.spot for place, _ in state.places_of(job))
        for job in state.jobs.values()
        if job.spec.queue in state.queues
    )


class Laws:
    def __init__(self, store: DictStore, backends: dict[str, SimBackend]) -> None:
        self.store = store
        self.backends = backends
        self.shares = ShareLaws(store)
        self.told: dict[Subject, int] = {}  # the last status that an event told
        self.runs_told: dict[int, int] = {}
        self.nodes_told: dict[tuple[int, int, int], int] = {}  # job, node, attempt
        self.first: dict[tuple[int, int], int] = {}  # attempts of earlier generations
        self.spared: dict[tuple[JobId, int], int] = {}  # cancelled by index while that attempt ran: it is the last
        self.asked: set[JobId] = set()  # jobs of which children were ever cancelled by index
        self.doomed: set[AttemptKey] = set()  # terminated by an acknowledged command: they may not succeed
        self.lossy = False  # the world may lose attempts of durable backends
        self.capacity: dict[str, Resources] = {}
        self.plans: dict[RunId, RunPlan] = {}  # as they are submitted
        self.registering = False  # in this turn somebody registers, changed or not
        self.tokens_changed = False  # in this turn an operator changes totals
        self.tokens_kept: dict[str, tuple[int, int, Group]] = {}  # (queue's priority, negated; since; whose)
        self.tokens_since: dict[tuple[str, GroupKey], int] = {}
        self.kept: dict[str, Share] = {}
        self.since: dict[tuple[str, GroupKey], int] = {}
        self.edition = 0  # of the places, before this turn
        self.alive: set[AttemptKey] = (
            set()
        )  # before this turn, where anything is kept: launched again they take nothing

    # --- before the commit: events against what was told, and rows

    def look_at_writes(self, writes: Writes) -> None:
        jobs, runs = self.store.jobs, self.store.runs
        reopened = {n for n, row in writes.jobs.items() if row.generation > (jobs[n].generation if n in jobs else 0)}
        reopened_runs = {
            n for n, row in writes.runs.items() if row.generation > (runs[n].generation if n in runs else 0)
        }
        self.look_at_events(writes, reopened, reopened_runs)
        if writes.definitions or writes.new_jobs:
            self.look_at_definitions(writes)
        self.look_at_tokens(writes)
        for (no, idx), task in writes.tasks.items():
            plan = self.store.job_plans.get(no)
            if no in reopened and not task.status.terminal:
                self.first[no, idx] = task.attempt - (task.status is STARTING)
                if plan is not None:
                    self.spared.pop((plan.id, idx), None)
            if task.cancelled:
                assert plan is not None, f"{no}:{idx}: cancelled before it was submitted"
                assert plan.id in self.asked, f"{plan.id}:{idx}: cancelled, and nobody asked for it"
                again = task.status is RUNNABLE and task.status_reason != INTERRUPTED
                assert not again, f"{plan.id}:{idx}: cancelled by its index, and to be tried again"
            if task.status is STARTING:
                self.look_at_new_attempt(no, task, writes)
            if task.status.terminal:
                self.look_at_end(task, task.environment is not None)
            if task.status is FAILED and task.environment is not None:
                job = writes.jobs.get(no) or jobs[no]
                cancelled = job.cancelled or no in reopened  # or both, one after the other, in this turn
                if not cancelled and not job.terminated and not task.cancelled:
                    self.look_at_surrender(task, writes)
            charged = task.status is FAILED and task.status_reason == INTERRUPTED
            assert not charged, f"{no}:{idx}#{task.attempt}: FAILED by an interruption"
        for attempt in writes.attempts:
            self.look_at_end(attempt, True)
        self.look_at_members(writes)

    def look_at_events(self, writes: Writes, reopened: set[int], reopened_runs: set[int]) -> None:
        """Every path is legal, per generation; the end of a task is told once."""
        told = self.told
        for event in writes.events:
            status = event.status
            kind = event.kind
            if kind is RUN:
                assert event.run is not None
                before = self.runs_told.get(event.run)
                legal = before is None or before == RunStatus.RUNNING or event.run in reopened_runs
                assert legal, f"run {event.run}: {before} → {status}"
                self.runs_told[event.run] = status
                continue
            assert event.job is not None
            if kind is NODE:
                assert event.idx is not None
                assert event.attempt is not None
                node = (event.job, event.idx, event.attempt)
                before = self.nodes_told.get(node, RUNNABLE)
                assert (before, status) in MEMBER_PATHS, f"node {node}: {Status(before).name} → {Status(status).name}"
                self.nodes_told[node] = status
                continue
            if kind is QUEUE:
                continue  # share_laws.py
            subject = (event.job, event.idx)
            before = told.get(subject, SUBMITTED if event.idx is None else PENDING)
            if event.idx is not None and (before, status) == (PENDING, STARTING):
                row = writes.jobs.get(event.job) or self.store.jobs[event.job]
                assert row.rest is RUNNABLE, f"{subject}: its RUNNABLE was not told"
                before = RUNNABLE  # together with all that rest
            if (before, status) not in TRANSITIONS:
                row = writes.jobs.get(event.job) or self.store.jobs[event.job]
                whole = before == FAILED or row.stage is Stage.FINALLY  # what succeeded in the main stage stays
                again = status == PENDING and before >= SUCCEEDED and whole and event.job in reopened
                assert again, f"{subject}: {Status(before).name} → {Status(status).name}"
            told[subject] = status
        for no, row in writes.jobs.items():
            assert told.get((no, None)) == row.status, f"job {no} is {row.status.name}, its events say otherwise"
        self.look_at_nodes(writes)
        for no, run in writes.runs.items():
            assert self.runs_told.get(no) == run.status, f"run {no}"
        for (no, idx), task in writes.tasks.items():
            if (no, idx) in told:
                assert told[no, idx] == task.status, f"task {no}:{idx} is {task.status.name}, its events say otherwise"

    def look_at_nodes(self, writes: Writes) -> None:
        """A node's events say what its principal's row does."""
        new = {no: plan for no, _, plan in writes.new_jobs} if writes.members else {}
        for (no, _, attempt, member), row in writes.members.items():
            layout = layout_of(new[no].spec) if no in new else self.store.layouts[no]
            assert layout is not None
            node = layout.node_of[member]
            if layout.nodes is not None and member == layout.principals[node]:
                told = self.nodes_told.get((no, node, attempt), RUNNABLE)
                assert told == row.status, f"node {no}@{node}#{attempt} is {row.status.name}, its events say otherwise"

    def look_at_tokens(self, writes: Writes) -> None:
        """By the rows alone: what live tasks hold stays within the total, unless an operator lowered that; of what is used up,
        each new attempt takes its share once and nothing comes back by itself."""
        store = self.store
        if not store.tokens and not writes.tokens:
            return
        rows = {**store.tokens, **writes.tokens}
        totals = {name: row for name, row in rows.items() if row is not None}
        plans = {no: plan for no, _, plan in writes.new_jobs} if writes.new_jobs else store.job_plans
        in_use: dict[str, int] = {}
        for no, _ in store.live:
            for name, quantity in store.job_plans[no].spec.tokens:
                in_use[name] = in_use.get(name, 0) + quantity
        begun: dict[str, int] = {}
        freed: dict[str, int] = {}
        for (no, idx), row in writes.tasks.items():
            before = store.tasks[no].get(idx)
            was = before.attempt if before is not None and before.status.live else None
            plan = plans.get(no) or store.job_plans[no]
            for name, quantity in plan.spec.tokens:
                if row.status.live and was != row.attempt:
                    begun[name] = begun.get(name, 0) + quantity
                if was is not None and not (row.status.live and was == row.attempt):
                    freed[name] = freed.get(name, 0) + quantity
        assert all(name in totals for name in begun), f"{begun} taken of {list(totals)}"
        for name, token in totals.items():
            old = store.tokens.get(name)
            taken = begun.get(name, 0)
            if token.kind is TokenKind.REPLENISHABLE:
                held = in_use.get(name, 0)
                now = held + taken - freed.get(name, 0)
                assert now >= 0, f"{name}: {now} in use"
                assert now <= max(token.total, held), f"{name}: {now} in use of {token.total}, {held} were before"
            elif old is not None and not self.tokens_changed:
                assert token.total == old.total - taken, f"{name}: {old.total} - {taken} is not {token.total}"

    def look_at_definitions(self, writes: Writes) -> None:
        """Numbers count up and are never given twice; every job is pinned to a revision that says what its file asked for; what
        has not changed gets no new number."""
        known = dict(self.store.definitions)
        for row in writes.definitions:
            numbers = [revision for name, revision in known if name == row.name]
            assert row.revision == max(numbers, default=0) + 1, f"{row.id} follows {numbers}"
            known[row.name, row.revision] = row
        for _, plan in writes.new_runs:
            asked = self.plans[plan.id]
            digests = {each.name: each.digest for each in asked.definitions}
            stored = {job.id: job.spec.definition for _, _, job in writes.new_jobs}
            for job in asked.jobs:
                name, _, revision = stored[job.id].partition(":")
                assert name == job.spec.definition, f"{job.id} was made from {stored[job.id]}"
                assert not name or known[name, int(revision)].digest == digests[name], f"{job.id}: {stored[job.id]}"
        gone = {(name, revision) for name, revision, _ in writes.deregistered}
        active = [each for each in self.store.definitions.values() if each.active]
        for row in () if self.registering else writes.definitions:
            before = sorted((each for each in active if each.name == row.name), key=lambda each: -each.revision)
            latest = []  # each that may have been it: those after it may have been deregistered earlier in this turn, or later
            for each in before:
                latest.append(each.digest)
                if each[:2] not in gone:
                    break
            else:
                continue
            changed = set(latest) != {row.digest}
            assert changed or len(writes.new_runs) > 1, f"{row.id} says what the revision before it says"

    def look_at_end(self, row: TaskRow | AttemptRow, of_attempt: bool) -> None:
        """I5: the code on record is the one that came to be; what nobody knows is not guessed."""
        name = f"{row.job}:{row.idx}#{row.attempt}"
        if row.stopped_at is not None and row.started_at is not None:
            assert row.stopped_at >= row.started_at, f"{name}: ended before it began"
        if not of_attempt:
            assert row.exit_code is None, f"{name}: an exit code without an attempt"
            return
        plan = self.store.job_plans.get(row.job)
        if plan is None:
            return
        key = AttemptKey(plan.id, row.idx, row.attempt)
        left = [other.id for each in self.backends.values() for other in each.alive(key)]
        assert not left, f"{name}: is over, and {left} live on"
        if plan.spec.members is not None:
            self.look_at_crew_end(row, key, self.store.layouts[row.job])
            return
        produced = [each.produced[key] for each in self.backends.values() if key in each.produced]
        if row.exit_code is not None:
            assert produced == [row.exit_code], f"{name}: exit code {row.exit_code}, the backend says {produced}"
        if isinstance(row, TaskRow) and row.status is SUCCEEDED:
            assert produced == [0], f"{name}: SUCCEEDED, the backend says {produced}"
            assert key not in self.doomed, f"{name}: SUCCEEDED, and it had been terminated"
        if row.status_reason == HOST_LOST:
            kept = [each for each in self.backends.values() if each.durable and key in each.produced]
            assert self.lossy or not kept, f"{name}: lost, but the backend says {produced}"

    def look_at_crew_end(self, row: TaskRow | AttemptRow, key: AttemptKey, layout: Layout | None) -> None:
        """Its code is that of an essential container of its main node; it SUCCEEDED where all of these did."""
        assert layout is not None
        needful = [key.of_member(m) for m in layout.spans[layout.main] if layout.parts[m].essential]
        produced = [each.produced.get(member) for member in needful for each in self.backends.values()]
        if row.exit_code is not None:
            assert row.exit_code in produced, f"{key.id}: exit code {row.exit_code}, the backend says {produced}"
        if isinstance(row, TaskRow) and row.status is SUCCEEDED:
            codes = [code for code in produced if code is not None]
            assert codes == [0] * len(needful), f"{key.id}: SUCCEEDED, the backend says {produced}"
            assert key not in self.doomed, f"{key.id}: SUCCEEDED, and it had been terminated"

    def look_at_members(self, writes: Writes) -> None:
        for (no, idx, attempt, member), row in writes.members.items():
            before = self.store.members.get((no, idx, attempt, member))
            name = f"{no}:{idx}#{attempt} member {member}"
            if before is not None and before.status.terminal:
                assert before == row, f"{name}: {before} and then {row}"
            task = writes.tasks.get((no, idx)) or self.store.tasks[no][idx]
            now = task.attempt == attempt or (row.status.terminal and task.attempt == attempt + 1)
            assert now, f"{name}: its task is at attempt {task.attempt}"
            assert row.status.terminal or task.status.live, f"{name} is {row.status.name}, its task {task.status.name}"

    def look_at_new_attempt(self, no: int, task: TaskRow, writes: Writes) -> None:
        """What was cancelled in an earlier turn is not tried again, but for what was interrupted."""
        job, last = self.store.jobs.get(no), self.store.attempts.get((no, task.idx, task.attempt - 1))
        held = self.store.tasks[no].get(task.idx)
        if (
            job is not None
            and job.cancelled
            and writes.jobs.get(no, job).cancelled
            and (held is None or held.status.waiting)
        ):
            again = last is not None and last.status_reason == INTERRUPTED
            assert again, f"{no}:{task.idx}#{task.attempt}: cancelled, and tried again"
        plan = self.store.job_plans.get(no)
        spared = None if plan is None else self.spared.get((plan.id, task.idx))
        if plan is not None and spared is not None and task.attempt > spared:
            new = (row for row in writes.attempts if row[:3] == (no, task.idx, task.attempt - 1))
            last = next(new, last)  # it may have gone back and begun again in one turn
            again = last is not None and last.status_reason == INTERRUPTED
            assert again, f"{plan.id}:{task.idx}#{task.attempt}: cancelled by its index, and tried again"
            self.spared[plan.id, task.idx] = task.attempt

    def look_at_surrender(self, task: TaskRow, writes: Writes) -> None:
        """An attempt is the last only where the budget is used up, or a rule says so."""
        if task.status_reason not in (EXITED, FAILED_TO_START) and not with_host(task.status_reason):
            return
        policy = self.store.job_plans[task.job].spec.retry
        new = {row.attempt: row for row in writes.attempts if (row.job, row.idx) == (task.job, task.idx)}
        charged, free = 0, policy.lost_free
        for attempt in range(self.first.get((task.job, task.idx), 0) + 1, task.attempt + 1):
            row = (
                task
                if attempt == task.attempt
                else new.get(attempt) or self.store.attempts[task.job, task.idx, attempt]
            )
            if with_host(row.status_reason) and free:
                free -= 1
            elif row.status_reason != INTERRUPTED:
                charged += 1
        code = None if task.exit_code is None else str(task.exit_code)
        left = charged < policy.attempts and reference.retried(policy, code, task.reason, task.status_reason)
        assert not left, f"{task.job}:{task.idx}#{task.attempt}: gave up after {charged} of {policy.attempts}"

    def look_at_rows(self, state: State, writes: Writes) -> None:
        """What a turn has written is what the state says."""
        jobs = {job.no: job for job in state.jobs.values()} if writes.tasks else {}
        for row in writes.jobs.values():
            held = state.jobs.get(row.id)
            assert held is None or job_row(held) == row, f"job {row.id}: {row}"
        for run_row in writes.runs.values():
            assert run_row.id in state.runs or run_row.status is not RunStatus.RUNNING
        for (no, idx), task in writes.tasks.items():
            job = jobs.get(no)
            if job is None:
                continue
            agree = job.cells[idx] == task.status | ROW and job.attempts[idx] == task.attempt
            assert agree, f"{job.id}:{idx}: cell {job.cells[idx]}, attempt {job.attempts[idx]}, {task}"
            if task.status.live:
                live = state.live[TaskKey(job.id, idx)]
                theirs = (task.status, task.attempt, task.environment, task.halt, task.started_at, task.life)
                ours = (live.status, live.key.attempt, live.environment.name, live.halt, live.started_at, live.life)
                assert ours == theirs, f"{live.key.id}: {ours}, its row {theirs}"

    # --- effects, once their turn is durable

    def look_at_launch(self, launch: Launch, *, draining: bool, held: bool, stopped: bool) -> None:
        key = launch.key
        store = self.store
        no = store.job_no[key.job]
        row = store.tasks[no].get(key.idx)
        assert row is not None, f"{key.id}: launched without a row"
        if key.member != ALONE:
            self.look_at_member_launch(no, key, row)
            if any(each.started_at is not None for each in self.crew_rows(no, key)):
                return  # an attempt that has begun is finished, come what may
        assert (row.status, row.attempt) == (STARTING, key.attempt), f"{key.id}: launched, its row says {row}"
        assert not draining, f"{key.id}: launched while draining"
        assert not held, f"{key.id}: launched while its run is held"
        assert stopped or not store.jobs[no].terminated, f"{key.id}: launched, and its job is terminated"
        self.look_at_attempts(no, key)
        self.look_at_needs(no, key.idx, launch)

    def look_at_member_launch(self, no: int, key: AttemptKey, task: TaskRow) -> None:
        """Its main node runs, and what it depends on has come true, by the rows."""
        layout = self.store.layouts[no]
        assert layout is not None
        assert task.status.live, f"{key.id}: launched, its task says {task}"
        assert task.attempt == key.attempt, f"{key.id}: launched, its task says {task}"
        row = self.store.members.get((no, *key[1:]))
        assert row is not None, f"{key.id}: launched without a row"
        assert row.status is STARTING, f"{key.id}: launched, its row says {row}"
        node = layout.node_of[key.member]
        if node != layout.main:
            for member in layout.spans[layout.main]:
                seat = self.store.members.get((no, *key[1:3], member))
                begun = seat is not None and seat.started_at is not None
                assert begun or not layout.parts[member].essential, f"{key.id}: launched before the main node runs"
        for after in layout.parts[key.member].after:
            seat = self.store.members.get((no, *key[1:3], layout.spans[node][after.part]))
            assert seat is not None, f"{key.id}: launched before what it depends on"
            held = {
                Condition.START: seat.started_at is not None,
                Condition.COMPLETE: seat.started_at is not None and seat.stopped_at is not None,
                Condition.SUCCESS: seat.status is SUCCEEDED,
            }
            assert held[after.condition], f"{key.id}: launched, and {after} has not come true: {seat}"

    def crew_rows(self, no: int, key: AttemptKey) -> list[MemberRow]:
        return list(self.store.crews[no, *key[1:3]].values())

    def look_at_stop(self, key: AttemptKey) -> None:
        """Who keeps a network goes last."""
        if key.member == ALONE:
            return
        layout = self.store.layouts[self.store.job_no[key.job]]
        if layout is None or not layout.parts[key.member].holder:
            return
        others = {key.of_member(m) for m in layout.spans[layout.node_of[key.member]] if m != key.member}
        alive = {other for each in self.backends.values() for other in each.alive(key)}
        left = [other.id for other in alive & others] if key in alive else []
        assert not left, f"{key.id}: stopped, and {left} need its network"

    def look_at_attempts(self, no: int, key: AttemptKey) -> None:
        """Attempts that count ≤ limit per generation; each earlier one is on record."""
        policy = self.store.job_plans[no].spec.retry
        charged, free = 0, policy.lost_free
        for attempt in range(1, key.attempt):
            row = self.store.attempts.get((no, key.idx, attempt))
            assert row is not None, f"{key.id}: attempt {attempt} is not on record"
            if attempt > self.first.get((no, key.idx), 0) and row.status_reason != INTERRUPTED:
                if with_host(row.status_reason) and free:
                    free -= 1
                else:
                    charged += 1
        assert charged < policy.attempts, f"{key.id}: {charged} attempts were charged, {policy.attempts} are allowed"

    def look_at_needs(self, no: int, idx: int, launch: Launch) -> None:
        """No child before its dependencies."""
        store = self.store
        plan = store.job_plans[no]
        for need in plan.spec.needs:
            source = store.job_no[need.job]
            child = idx if need.each else need.index
            status = store.jobs[source].status if child is None else store.status_of(source, child)
            wanted = {When.SUCCESS: (5,), When.FAILURE: (6,), When.DONE: (5, 6)}[need.when]
            assert status in wanted, f"{launch.key.id}: launched, and {need.job} is {Status(status).name}"
        if plan.spec.sequential and idx:
            assert store.status_of(no, idx - 1) == SUCCEEDED, f"{launch.key.id}: before its predecessor"
        if plan.stage is Stage.FINALLY:
            run = store.jobs[no].run
            assert run is not None
            main = [store.jobs[each] for each in store.jobs_of[run] if store.job_plans[each].stage is Stage.MAIN]
            assert all(each.status.terminal for each in main), f"{launch.key.id}: finally, before the main stage ended"
            how = RunStatus.FAILED if any(each.status is FAILED for each in main) else RunStatus.SUCCEEDED
            assert launch.run_status == how.name, f"{launch.key.id}: {launch.run_status}, the main stage {how.name}"

    def look_at_forget(self, key: AttemptKey) -> None:
        no = self.store.job_no.get(key.job)
        if no is None:
            return
        if key.member != ALONE:
            seat = self.store.members.get((no, *key[1:]))
            assert seat is None or seat.status.terminal, f"{key.id}: forgotten, and its row says {seat}"
            return
        row = self.store.tasks[no].get(key.idx)
        live = row is not None and row.status.live and row.attempt == key.attempt
        assert not live, f"{key.id}: forgotten, and its end is not durable"

    def look_at_capacity(self) -> None:
        """I4, by the backends' own books."""
        total: dict[str, list[int]] = {}
        for backend in self.backends.values():
            for name, used in backend.used().items():
                sums = total.get(name)
                total[name] = used if sums is None else [a + b for a, b in zip(sums, used, strict=True)]
        for name, sums in total.items():
            assert Resources(*sums).fits(self.capacity[name]), f"{name}: {sums} really used of {self.capacity[name]}"

    def look_at_promises(self) -> None:
        """All or nothing: an attempt holds room for all of its members until the last of them is gone, by the rows."""
        total: dict[str, Resources] = {}
        for (no, _), row in self.store.live.items():
            if row.environment is not None:
                layout = self.store.layouts[no]
                spec = self.store.job_plans[no].spec
                shapes = [spec.resources] if layout is None else [part.spec.resources for part in layout.parts]
                if row.memory_mib:
                    shapes = [shapes[0]._replace(memory_mib=row.memory_mib)]
                total[row.environment] = sum_of(shapes, total.get(row.environment, NOTHING))
        for name, sums in total.items():
            assert sums.fits(self.capacity[name]), f"{name}: {sums} promised of {self.capacity[name]}"

    # --- the scheduler

    def note_reservations(self, state: State, now: int) -> None:
        """Before a turn: who has waited long enough to hold what comes free, per environment."""
        self.kept = {}
        self.since = {}
        self.edition = state.edition
        tied: set[str] = set()
        for queue in state.queues.values():
            for group in queue.groups.values():
                since = group.blocked_since
                if since is None or now - since < RESERVE_AFTER_MS or not has_ready(group):
                    continue
                self.since[queue.spec.name, group.key] = since
                for environment, _ in state.places_of(next(group.entries()).job):
                    if not environment.spec.managed or not environment.takes_work:
                        continue
                    if state.ever_fits(environment, group.key.shape):
                        share = Share(-queue.spec.priority, since, group, group.key.shape)
                        held = self.kept.get(environment.name)
                        if held is None or share[:2] < held[:2]:
                            self.kept[environment.name] = share
                            tied.discard(environment.name)
                        elif share[:2] == held[:2]:
                            tied.add(environment.name)
        for name in tied:  # which of them holds it is the core's own affair
            del self.kept[name]
        self.note_kept_tokens(state, now)
        self.alive = {live.key for live in state.live.values()} if self.kept or self.tokens_kept else set()

    def note_kept_tokens(self, state: State, now: int) -> None:
        """Likewise of each of the tokens; whose demand can never be met, or runs nowhere, keeps none."""
        self.tokens_kept = {}
        self.tokens_since = {}
        waits = any(group.token_since is not None for queue in state.queues.values() for group in queue.groups.values())
        for name, token in state.tokens.held.items() if waits else ():
            found: list[tuple[int, int, Group]] = []
            waiting = waiting_for(state, name, now)
            for queue in state.queues.values() if waiting else ():
                for group in queue.groups.values():
                    if group not in waiting or group.token_since is None:
                        continue
                    self.tokens_since[queue.spec.name, group.key] = group.token_since
                    if may_keep_tokens(state, group):
                        found.append((-queue.spec.priority, group.token_since, group))
            found.sort(key=lambda each: each[:2])
            if found and (len(found) == 1 or found[0][:2] != found[1][:2]):
                self.tokens_kept[token.name] = found[0]

    def look_at_placement(self, state: State, launches: list[Launch], now: int) -> None:
        launches = [launch for launch in launches if launch.key not in self.alive]
        if state.edition == self.edition:  # else what was kept may be kept no more
            for launch in launches:
                if launch.place is not None:
                    continue  # its attempt's room was taken before, or is looked at in look_at_promises
                share = self.kept.get(launch.environment)
                if share is None or share.group.blocked_since != share.since or not has_ready(share.group):
                    continue
                if state.ever_fits(
                    state.environments[launch.environment], share.shape
                ):  # it may have shrunk in this turn
                    self.look_at_share(state, launch, share)
        if self.tokens_kept and not self.tokens_changed and state.edition == self.edition:
            for launch in launches:
                for name, _ in launch.spec.tokens:
                    if launch.place is None and name in self.tokens_kept:
                        self.look_at_kept_tokens(state, launch, name)
        if not state.draining:
            for job in state.jobs.values():
                if job.counts[RUNNABLE] and not job.held:
                    self.look_at_waiting(state, job, now)

    def look_at_kept_tokens(self, state: State, launch: Launch, name: str) -> None:
        """As `look_at_share`: whoever waits for tokens gets them in the end, however many others want only a few."""
        priority, waited_since, group = self.tokens_kept[name]
        spec = launch.spec
        queue = state.queues[spec.queue].spec
        since = self.tokens_since.get((queue.name, key_of(launch, queue)))
        if -queue.priority < priority or (since is not None and since <= waited_since):
            return
        # Others may have used up, in this turn, what it can never start without: then it keeps nothing any more.
        if group.token_since == waited_since and has_ready(group) and may_keep_tokens(state, group):
            free, share = free_tokens(state, name), dict(group.key.tokens)[name]
            assert free >= share, f"{launch.key.id}: took {name} that was kept: {free} are left, {share} are waited for"

    def look_at_share(self, state: State, launch: Launch, share: Share) -> None:
        """Who does not come from a higher queue, and has not waited as long, leaves the holder's share alone."""
        spec = launch.spec
        queue = state.queues[spec.queue].spec
        since = self.since.get((queue.name, key_of(launch, queue)))
        if -queue.priority < share.priority or (since is not None and since <= share.since):
            return
        free = state.environments[launch.environment].free()
        for need, have, kept in zip(launch.resources, free, share.shape, strict=True):
            assert not need or have >= kept, f"{launch.key.id}: took what was kept for {share.shape}"

    def look_at_waiting(self, state: State, job: Job, now: int) -> None:
        """I8: nothing that could run is left waiting."""
        queue = state.queues[job.spec.queue]
        full = queue.spec.max_running is not None and queue.live >= queue.spec.max_running
        if full or (job.spec.max_running is not None and job.running >= job.spec.max_running):
            return
        shapes = {job.spec.resources} if len(job.odd) < job.counts[RUNNABLE] else set()
        for index, odd in job.odd.items():
            waits = odd.not_before is not None and odd.not_before > now
            if job.status_of(index) == RUNNABLE and not waits:
                shapes.add(job.resources_of(index))
        if job.spec.tokens:
            shapes = {shape for shape in shapes if not self.tokens_missing(state, job, shape, now)}
        behind_spot = False
        for environment, _ in state.places_of(job):
            behind_spot = behind_spot or environment.spec.spot
            if environment.takes_work and not (behind_spot and claimed(state, job.spec.queue)):
                for free in rooms_of(state, environment):
                    for shape in shapes:
                        if shape.fits(free) and not self.shares.full(state, queue, shape, now):
                            kept = self.spoken_for(state, free, shape, now)
                            assert kept, f"{job.id} waits for {shape}, and {environment.name} has {free}"

    def tokens_missing(self, state: State, job: Job, shape: Resources, now: int) -> bool:
        """There are too few; or another job, or tasks of this one that have grown, have waited so long for them that these would
        touch their share."""
        for name, quantity in job.spec.tokens:
            free = free_tokens(state, name)
            if free < quantity:
                return True
            for group in waiting_for(state, name, now):
                ours = group.key.shape == shape and any(entry.job is job for entry in group.entries())
                if not ours and may_keep_tokens(state, group) and free - dict(group.key.tokens)[name] < quantity:
                    return True
        return False

    def spoken_for(self, state: State, free: Resources, shape: Resources, now: int) -> bool:
        """Some job holds a reservation, and this one would touch it."""
        for queue in state.queues.values():
            for group in queue.groups.values():
                since = group.blocked_since
                lacking = any(free_tokens(state, name) < quantity for name, quantity in group.key.tokens)
                if since is not None and now - since >= RESERVE_AFTER_MS and has_ready(group) and not lacking:
                    left = free.minus(group.key.shape)
                    if any(need > have for need, have in zip(shape, left, strict=True) if need):
                        return True
        return False
