"""What must hold after every turn, and what a state comes down to. Loops over everything: for tests and `doctor` alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from msgspec.structs import replace

from flowbatch.core.dependencies import CHILD_FAILED, satisfied
from flowbatch.core.members import Crew, node_over, node_runs
from flowbatch.core.ready import next_runnable
from flowbatch.core.shares import FairShares
from flowbatch.core.state import ROW, Job, Live, Odd, Run, State
from flowbatch.core.submission import count_unmet
from flowbatch.core.timers import Timer, TimerKind
from flowbatch.model.ending import Halt
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import Stage
from flowbatch.model.places import is_of_run
from flowbatch.model.resources import NOTHING, Resources, sum_of
from flowbatch.model.rows import Writes
from flowbatch.model.status import FAILED, PENDING, RUNNABLE, RUNNING, STARTING, SUBMITTED, SUCCEEDED, RunStatus, Status
from flowbatch.model.tokens import TokenKind

Canonical = dict[str, object]
WITHOUT_ROW: Final = bytes(code & 7 for code in range(256))
ROWS: Final = bytes(range(ROW, 2 * ROW))


def check(state: State, changed: Iterable[Job] | None = None) -> None:
    """Raises AssertionError, with what is wrong, where a counter or an index no longer says what the cells say. `changed`: the jobs
    of which a turn may have changed something (`touched`), if not all is to be looked at."""
    jobs = list(state.jobs.values()) if changed is None else list(changed)
    live: dict[JobId, int] = {}
    for each in state.live.values():
        live[each.key.job] = live.get(each.key.job, 0) + 1
    for job in jobs:
        check_job(job, live.get(job.id, 0))
    for run in state.runs.values() if changed is None else {id(job.run): job.run for job in jobs}.values():
        if run is not None:
            check_run(run)
    for each in state.live.values():
        if each.crew is not None and (changed is None or each.job in jobs):
            check_crew(state, each, each.crew)
    held = [each.crew.slot for each in state.live.values() if each.crew is not None and each.crew.slot is not None]
    assert len(held) == len(set(held)), "two attempts have the same addresses"
    assert set(held) == state.slots, f"slots {state.slots}, live attempts hold {held}"
    check_capacity(state)
    check_timers(state)


def touched(state: State, writes: Writes) -> list[Job]:
    """The jobs that a turn has written something of, those that wait for them, and all of a run that was written."""
    numbers = {no for no, _ in writes.tasks} | {key[0] for key in writes.members} | writes.jobs.keys()
    found: dict[JobId, Job] = {}
    for job in state.jobs.values():
        if job.no in numbers:
            found[job.id] = job
            for edge in job.dependants:
                if edge.each or edge.index is not None or job.no in writes.jobs:
                    found[edge.job.id] = edge.job
        elif job.run is not None and job.run.no in writes.runs:
            found[job.id] = job
    return list(found.values())


def check_run(run: Run) -> None:
    open_main = open_finally = failed = 0
    for job in run.jobs:
        if job.status is FAILED:
            failed += 1
        elif job.status is not SUCCEEDED:
            if job.stage is Stage.MAIN:
                open_main += 1
            else:
                open_finally += 1
    assert run.open_main == open_main, f"{run.id}: open_main"
    assert run.open_finally == open_finally, f"{run.id}: open_finally"
    assert run.failed == failed, f"{run.id}: failed"
    if run.status is RunStatus.RUNNING:
        assert open_main or open_finally, f"{run.id}: nothing is open, but it is RUNNING"


def check_job(job: Job, live: int) -> None:
    name, cells, counts, status = f"{job.spec.key} ({job.id})", job.cells, job.counts, job.status
    assert len(cells) == job.tasks == len(job.attempts), f"{name}: sizes"
    plain = cells.translate(WITHOUT_ROW)
    tally = plain.count
    held = [tally(0), tally(1), tally(2), tally(3), tally(4), tally(5), tally(6)]
    assert counts == held, f"{name}: counts {counts}, cells say {held}"
    assert len(cells.translate(None, ROWS)) == job.resting(), f"{name}: cells rest outside of {job.rest.name}"
    assert job.running == live == counts[STARTING] + counts[RUNNING], f"{name}: running"
    if job.array:
        check_parent(job, name)
    else:
        assert status == job.status_of(0), f"{name}: {status.name}, its task {cells[0] & 7}"
    limit = job.spec.max_running
    assert limit is None or job.running <= limit, f"{name}: {job.running} running, max_running {limit}"
    if not status.terminal:
        assert job.unmet == count_unmet(job), f"{name}: unmet {job.unmet}, needs say {count_unmet(job)}"
        check_dependencies(job, name)


def check_crew(state: State, live: Live, crew: Crew) -> None:
    name, layout, seats = live.key.id, crew.layout, crew.seats
    assert crew.alive == sum(seat.open for seat in seats) > 0, f"{name}: {crew.alive} alive, {seats}"
    assert crew.running == node_runs(crew, layout.main), f"{name}: running"
    assert crew.over == node_over(crew, layout.main), f"{name}: over"
    assert crew.running == (live.status is RUNNING), f"{name}: {live.status.name}"
    for member, seat in enumerate(seats):
        node, who = layout.node_of[member], f"{name} member {member}"
        assert seat.ended == (seat.verdict is not None) == (seat.stopped_at is not None), f"{who}: {seat}"
        assert crew.running or node == layout.main or not (seat.open or seat.begun), f"{who}: before the main node"
        last = layout.parts[member].holder and any(seats[other].open for other in layout.spans[node] if other != member)
        if seat.open and (crew.over or live.halt is not Halt.NONE or node_over(crew, node)) and not last:
            assert seat.asked, f"{who}: goes on, and its attempt or its node is over"
        if seat.status is RUNNABLE:
            ending = crew.over or node_over(crew, node) or live.halt is not Halt.NONE
            assert not ending, f"{who}: waits for ever"
            if seat.due_at is not None:
                due = Timer(seat.due_at, TimerKind.DEPENDENCY, live.key[:3])
                assert due in state.timers.heap, f"{who}: no timer for its startTimeout"


def check_parent(job: Job, name: str) -> None:
    status, failed = job.status, job.counts[FAILED]
    assert status in (PENDING, SUCCEEDED, FAILED), f"{name}: parent is {status.name}"
    if job.tasks:
        assert status.terminal == job.ended(), f"{name}: parent {status.name}, counts {job.counts}"
    if status is FAILED and job.tasks:
        tolerated = 0 if job.cancelled or job.terminated else job.spec.tolerate
        assert failed > tolerated, f"{name}: FAILED, but tolerated"
        assert job.status_reason == CHILD_FAILED, f"{name}: {job.status_reason}"


def check_dependencies(job: Job, name: str) -> None:
    """Nothing starts before its needs are met, and nothing that can go on is left PENDING."""
    counts = job.counts
    begun = counts[RUNNABLE] + job.running
    if job.unmet:
        assert not begun, f"{name}: {begun} tasks go on, and its needs are not met"
        hopeless = any(satisfied(when, source.status) is False for source, when in job.wholes)
        hopeless = hopeless or any(source.status_of(index) == FAILED for source, index in job.singles)
        assert not hopeless, f"{name} waits for what will never be"
    if job.sources:
        for index, cell in enumerate(job.cells):
            if cell & 7 <= PENDING:
                hopeless = any(satisfied(when, source.cells[index] & 7) is False for source, when in job.sources)
                assert not hopeless, f"{name}:{index} waits for what will never be"
    if job.unmet:
        return
    if not job.sources and not job.spec.sequential:
        assert not counts[PENDING] + counts[SUBMITTED], f"{name}: nothing holds it back"
    else:
        for index, cell in enumerate(job.cells):
            status = cell & 7
            if status >= SUCCEEDED:
                continue
            met = all(satisfied(when, source.cells[index] & 7) for source, when in job.sources)
            if met and job.spec.sequential and index:
                met = job.cells[index - 1] & 7 == SUCCEEDED
            if status >= RUNNABLE:
                assert met, f"{name}:{index} is {Status(status).name}, and its needs are not met"
            else:
                assert not met, f"{name}:{index} is {Status(status).name}, and nothing holds it back"


def check_timers(state: State) -> None:
    """Whatever must wake the engine will."""
    timers = state.timers.heap if len(state.timers.heap) < 32 else set(state.timers.heap)
    for live in state.live.values():
        timeout_ms = live.job.spec.timeout_ms
        enforced = live.backend in state.enforcing and live.job.layout is None
        ending = live.halt is not Halt.NONE or (live.crew is not None and live.crew.over)
        timed = timeout_ms is not None and not enforced and not ending
        if timed and timeout_ms is not None and live.started_at is not None:
            due = Timer(Millis(live.started_at + timeout_ms), TimerKind.TIMEOUT, live.key[:3])
            assert due in timers, f"{live.key.id}: no timer for its timeout"
    for job in state.jobs.values():
        for index, odd in job.odd.items():
            if odd.not_before is not None:
                due = Timer(odd.not_before, TimerKind.BACKOFF, (job.id, index, job.attempts[index]))
                assert due in timers, f"{job.spec.key}:{index}: no timer for its backoff"
    for run in state.runs.values():
        if run.deadline_at is not None and run.stage is Stage.MAIN and not run.held:
            due = Timer(run.deadline_at, TimerKind.DEADLINE, (run.id, run.generation, 0))
            assert due in timers or run.stop is not Halt.NONE, f"{run.id}: no timer for its deadline"


def check_capacity(state: State) -> None:
    used: dict[str, list[Live]] = {}
    queued: dict[str, int] = {}
    tokens: dict[str, int] = {}
    for live in state.live.values():
        spec = live.job.spec
        used.setdefault(live.environment.spec.name, []).append(live)
        queued[spec.queue] = queued.get(spec.queue, 0) + 1
        for name, quantity in spec.tokens:
            tokens[name] = tokens.get(name, 0) + quantity
    for name, environment in state.environments.items():
        here = used.get(name, ())
        held = sum_of([live.resources for live in here]) if here else NOTHING
        assert environment.used == held, f"{name}: used {environment.used}, live attempts hold {held}"
        assert environment.live == len(here), f"{name}: live"
        if here:  # nothing fits everywhere
            assert environment.lowered or held.fits(environment.spec.total()), (
                f"{name}: {held} of {environment.spec.total()}"
            )
        for node in environment.nodes.values():
            theirs = [live.resources for live in here if live.node is node]
            assert node.live == len(theirs), f"{name}/{node.name}: live"
            assert node.used == sum_of(theirs), f"{name}/{node.name}: used {node.used}"
            assert environment.lowered or node.used.fits(node.spec.capacity), f"{name}/{node.name}: {node.used}"
    for name, token in state.tokens.held.items():
        counted = tokens.get(name, 0) if token.kind is TokenKind.REPLENISHABLE else 0
        assert token.in_use == counted, f"tokens {name}: {token.in_use} in use, live attempts hold {counted}"
        assert token.total >= 0, f"tokens {name}: a total of {token.total}"
    if state.host.guard is not None:
        total = sum_of(environment.used_here() for environment in state.environments.values())
        assert state.host.lowered or total.fits(state.host.guard), f"{total} of the host's {state.host.guard}"
    for name, queue in state.queues.items():
        assert queue.live == queued.get(name, 0), f"queue {name}: live"
        named = queue.spec.policy_name
        assert not named or state.scheduling.get(named) == queue.spec.policy, (
            f"queue {name}: not divided as {named} says"
        )
        if queue.fair is not None:
            check_shares(state, name, queue.fair)


def check_shares(state: State, name: str, fair: FairShares) -> None:
    """Sums, members and keys again from what they are made of."""
    held: dict[str, int] = {}
    jobs: dict[str, int] = {}
    for live in state.live.values():
        if live.job.spec.queue == name:
            share = live.job.spec.share or ""
            held[share] = held.get(share, 0) + live.resources.vcpus_milli
    for job in state.jobs.values():
        if job.spec.queue == name and not job.status.terminal:
            jobs[job.spec.share or ""] = jobs.get(job.spec.share or "", 0) + 1
    assert fair.held_milli == sum(held.values()), f"queue {name}: shares hold {fair.held_milli} of {held}"
    assert jobs.keys() <= fair.shares.keys(), f"queue {name}: {jobs.keys() - fair.shares.keys()} are not active"
    for each in fair.shares.values():
        assert each.held_milli == held.get(each.name, 0), f"share {each.name}: holds {each.held_milli}, not {held}"
        assert each.jobs == jobs.get(each.name, 0), f"share {each.name}: {each.jobs} jobs, not {jobs}"
        assert each.total == sum(each.cells.values()), f"share {each.name}: total"
        assert each.moment == sum(cell * used for cell, used in each.cells.items()), f"share {each.name}: moment"
        assert list(each.cells) == sorted(each.cells), f"share {each.name}: cells out of order"
        for line in each.lines:
            assert line.group.lines[each.name] is line, f"share {each.name}: a line of nobody"
            found = any(place[1:] == (line.stamp, line) and place[0][0] == each.key for place in line.group.order)
            assert found or not line.heap, f"share {each.name}: out of the order"
    for entry, count in fair.members.items():
        assert count == sum(each.entry == entry for each in fair.shares.values()), f"queue {name}: members of {entry}"


def ready_tasks(state: State, now: Millis) -> set[tuple[str, int, int]]:
    """(queue, job number, index) of everything that could be placed, if there were room; nothing of a held run."""
    found: set[tuple[str, int, int]] = set()

    def add(job: Job, lo: int, hi: int, shape: Resources) -> None:
        if state.jobs.get(job.id) is job and not job.held:
            found.update((job.spec.queue, job.no, index) for index in runnable(job, lo, hi, shape, now))

    for queue in state.queues.values():
        for group in queue.groups.values():
            for entry in group.entries():
                add(entry.job, entry.lo, entry.hi, group.key.shape)
    for job in state.jobs.values():
        for shape, parked in job.parked.items():
            for entry in parked:
                add(job, entry.lo, entry.hi, shape)
    for timer in state.timers.heap:
        name, index, _ = timer.subject
        owner = state.jobs.get(JobId(name)) if timer.kind is TimerKind.BACKOFF else None
        odd = owner.odd.get(index) if owner is not None else None
        if owner is not None and odd is not None and odd.not_before == timer.at <= now:
            add(owner, index, index + 1, owner.resources_of(index))
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


def usage(state: State, now: Millis, queues: Collection[str] | None = None) -> dict[str, dict[str, dict[int, int]]]:
    """Queue → share → cell → what was used in it, as of now and within the window; without what is nothing. Of these queues, or all."""
    found: dict[str, dict[str, dict[int, int]]] = {}
    for name, queue in state.queues.items():
        if queue.fair is not None and (queues is None or name in queues):
            for share in queue.fair.shares.values():
                copy = replace(share, cells=dict(share.cells), unsaved=set())
                queue.fair.count(copy, now)
                cells = {cell: used for cell, used in copy.cells.items() if used}
                if cells:
                    found.setdefault(name, {})[share.name] = cells
    return found


def odd_facts(odd: Odd, now: Millis) -> tuple[int, int, int, Millis | None, bool]:
    waits = odd.not_before if odd.not_before is not None and odd.not_before > now else None
    return odd.base, odd.lost, odd.memory_mib, waits, odd.cancelled


def canonical(state: State, now: Millis) -> Canonical:
    """Everything that must survive a crash: `canonical(rebuild(load())) == canonical(state)`."""
    jobs = {
        job.id: (
            job.no, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation, job.cancelled,
            job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
            bytes(job.cells), job.attempts.tobytes(), tuple(job.counts), job.running,
            0 if job.status.terminal else job.unmet,
            {idx: facts for idx, odd in job.odd.items() if (facts := odd_facts(odd, now)) != (0, 0, 0, None, False)},
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
    crews = {
        each.key: [
            (seat.status, seat.life, seat.asked, seat.address, seat.due_at, seat.started_at, seat.stopped_at, seat.verdict)
            for seat in each.crew.seats
        ]
        for each in state.live.values()
        if each.crew is not None
    }  # fmt: skip
    return {
        "environments": {name: each.row() for name, each in state.environments.items() if not is_of_run(name)},
        "queues of the engine": {name: each.row() for name, each in state.queues.items() if not is_of_run(name)},
        "scheduling": state.scheduling,
        "token updates": state.tokens.updates,
        "deleted": (state.deleted_environments, state.deleted_queues),
        "crews": crews,
        "slots": state.slots,
        "next": (state.next_run, state.next_job),
        "runs": runs,
        "jobs": jobs,
        "live": live,
        "used": {name: (each.used, each.live) for name, each in state.environments.items() if each.live},
        "queues": {name: queue.live for name, queue in state.queues.items() if queue.live},
        "ready": ready_tasks(state, now),
        "access": (state.keys, state.policies),
        "tokens": {name: (each.row(), each.in_use) for name, each in state.tokens.held.items()},
        "definitions": {name: (each.last, each.active) for name, each in state.definitions.items()},
        "usage": usage(state, now),
        "heads": {name: queue.stuck for name, queue in state.queues.items() if queue.stuck is not None},
    }
