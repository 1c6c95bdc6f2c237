"""What must hold in fair-share queues, and of blocked jobs: from the rows and the launches, by a book of one's own."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator

from flowbatch.core import invariants
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import first_ready
from flowbatch.core.scheduler import RESERVE_AFTER_MS
from flowbatch.core.state import Job, State
from flowbatch.model.effects import Launch
from flowbatch.model.events import EventKind
from flowbatch.model.ids import AttemptKey, JobId, Millis
from flowbatch.model.jobspec import Environment, JobSpec
from flowbatch.model.queues import BLOCKED, INVALID, JOB_REQUIREMENT, MAX_RESOURCE, UNDETERMINED, reason_code
from flowbatch.model.resources import Resources
from flowbatch.model.rows import Writes
from flowbatch.model.status import RUNNABLE
from flowbatch.model.tokens import Demand
from tests.sim.fair import Book, Interval
from tests.sim.store import DictStore

QUEUE = EventKind.QUEUE
Class = tuple[Resources, str, Demand, bool]  # shape, kind, tokens, of several nodes
LATE_MS = 75_000  # windows of the shell, in which it is not woken; what it does in one a crash may undo, more than once


class ShareLaws:
    def __init__(self, store: DictStore) -> None:
        self.store = store
        self.books: dict[str, Book] = {}
        self.open: dict[AttemptKey, tuple[Book, Interval]] = {}
        self.placed = 0
        self.reasons: dict[
            int, tuple[list[Environment], str | None]
        ] = {}  # by job: what the law says of it in those places
        self.stuck: dict[
            str, tuple[int, int, str, int]
        ] = {}  # queue → (job at its head, generation, why it is blocked, since when)
        self.told: dict[
            int, tuple[int, str | None]
        ] = {}  # job → generation, and why it is blocked, as events have told
        self.sure: set[int] = set()  # jobs that this life knows to have told of
        self.blind = False  # intervals mean nothing any more
        self.drained = False  # after the turn before
        self.attentive_since = (
            0  # heads have been looked at in each turn since then: an engine that drains looks at none
        )

    def clock_was_set(self) -> None:
        """Between two lives: usage lies in cells of the clock, so that from now on only the core knows what it has counted."""
        self.stuck.clear()
        self.blind = True

    def life_begins(self) -> None:
        self.sure.clear()

    # --- after the commit

    def look(self, state: State, writes: Writes, launches: list[Launch], now: int, *, whole: bool) -> None:
        """`whole`: the usage of queues, too, that this turn has not written any of."""
        self.look_at_reasons(state)
        heads = {name: head(queue) for name, queue in state.queues.items()}
        self.look_at_heads(state, heads, now)
        self.look_at_news(state, heads, writes)
        fair = {name: queue for name, queue in state.queues.items() if queue.spec.policy is not None}
        if not fair or self.blind:
            return
        for name, queue in fair.items():
            assert queue.spec.policy is not None
            self.books.setdefault(name, Book(queue.spec.policy)).policy = queue.spec.policy  # operators change it
        self.release(writes, now)
        self.look_at_order(state, fair, launches, now)
        written = {queue for queue, _, _ in writes.usage}
        told = invariants.usage(state, Millis(now), None if whole else written)
        for name, book in self.books.items():
            if not whole and name not in written:
                continue
            counted = {share: cells for share in book.accounts if (cells := book.cells(share, now))}
            assert told.get(name, {}) == counted, f"queue {name}: usage {told.get(name)}, by the book {counted}"

    def release(self, writes: Writes, now: int) -> None:
        for (no, idx), row in writes.tasks.items():
            plan = self.store.job_plans[no]
            for attempt in range(max(1, row.attempt - 1), row.attempt + 1):
                key = AttemptKey(plan.id, idx, attempt)
                if key in self.open and not (row.status.live and row.attempt == attempt):
                    book, interval = self.open.pop(key)
                    book.release(interval, now)

    def look_at_order(self, state: State, fair: dict[str, QueueState], launches: list[Launch], now: int) -> None:
        """Of all shares with ready work of that shape, the launched one had the lowest key; and the reservation holds."""
        waiting = {name: list(shares_waiting(state, queue)) for name, queue in fair.items()}
        for launch in launches:
            key = AttemptKey(*launch.key[:3])  # an attempt of several members is placed once, with the sum of them
            spec, need = state.jobs[key.job].spec, state.live[key[:2]].resources
            if spec.queue not in fair or key in self.open:
                continue
            self.placed += 1
            book, share = self.books[spec.queue], spec.share or ""
            active = book.active(shares_with_jobs(state, spec.queue), now)
            ours = book.key(share, now, active)
            for other, its_class in waiting[spec.queue]:
                if its_class == (need, spec.kind, spec.tokens, of_nodes(spec)) and other != share:
                    theirs = book.key(other, now, active)
                    assert ours <= theirs, f"{key.id}: share {share} at {ours} before {other} at {theirs}"
            self.open[key] = book, book.place(share, need.vcpus_milli, now)
            held = sum(map(book.held, book.accounts))
            if book.policy.reservation and held != need.vcpus_milli:
                cap = book.cap_milli(total_vcpus(state, fair[spec.queue]), len(active))
                assert held <= cap, f"{key.id}: {held} of {cap} for {len(active)} active shares"

    def full(self, state: State, queue: QueueState, shape: Resources, now: int) -> bool:
        """The reservation leaves no room for that shape, or keeps it for a job that has waited longer."""
        policy = queue.spec.policy
        if policy is None or not policy.reservation or not shape.vcpus_milli:
            return False
        if self.blind:
            return True
        book = self.books[queue.spec.name]
        waits = any(
            group.blocked_since is not None and now - group.blocked_since >= RESERVE_AFTER_MS
            for group in queue.groups.values()
        )
        active = book.active(shares_with_jobs(state, queue.spec.name), now)
        held = sum(map(book.held, book.accounts))
        cap = book.cap_milli(total_vcpus(state, queue), len(active))
        return waits or (held > 0 and held + shape.vcpus_milli > cap)

    # --- blocked jobs

    def look_at_reasons(self, state: State) -> None:
        """AWS's word for it, on the job, as soon as it is RUNNABLE, and gone as soon as it can run (semantics.md 18)."""
        for job in state.jobs.values():
            if job.counts[RUNNABLE]:
                names = state.queues[job.spec.queue].spec.environments
                places = [state.environments[name].spec for name in names if name in state.environments]
                known = self.reasons.get(job.no)
                if known is None or len(known[0]) != len(places) or any(map(operator.is_not, known[0], places)):
                    known = self.reasons[job.no] = places, reason(job.spec, places)
                expected = known[1]
                said = self.store.jobs[job.no].status_reason
                assert expected is None or said == expected, f"{job.id}: {said!r}, not {expected!r}"
                assert expected is not None or said not in BLOCKED, f"{job.id} says {said!r}, and could run"

    def look_at_heads(self, state: State, heads: dict[str, Job | None], now: int) -> None:
        """No blocked job stays at the head of a queue for longer than its limit, nor once the engine looks at heads again."""
        if self.drained and not state.draining:
            self.attentive_since = now
        self.drained = state.draining
        for name, job in heads.items():
            blocked = None if job is None else self.store.jobs[job.no].status_reason
            limits = state.queues[name].spec.limits
            if (
                job is None
                or blocked not in BLOCKED
                or not any(limit.reason == reason_code(blocked or "") for limit in limits)
            ):
                self.stuck.pop(name, None)
                continue
            since = self.stuck.get(name)
            if since is None or since[:3] != (job.no, job.generation, blocked):
                self.stuck[name] = (job.no, job.generation, blocked or "", now)
            elif not state.draining:
                limit_ms = max(limit.max_ms for limit in limits)
                due = max(since[3] + limit_ms, self.attentive_since)
                assert now <= due + LATE_MS, f"{job.id} has been blocked at the head since {since[3]}"

    def look_at_news(self, state: State, heads: dict[str, Job | None], writes: Writes) -> None:
        """An event for each job that is blocked at the head of its queue, and for no other (aws-batch.md §11.2); once as long as it is
        so, by one life, and by the next only if the job has left the head meanwhile."""
        for no, row in writes.jobs.items():
            if row.status_reason not in BLOCKED:
                self.told.pop(no, None)
        here = {job.no: job for job in heads.values() if job is not None}
        for event in writes.events:
            if event.kind is QUEUE:
                job = here.get(event.job or 0)
                assert job is not None, f"{event}: it is not at the head of its queue"
                said = (job.generation, event.status_reason)
                assert event.status_reason == self.store.jobs[job.no].status_reason in BLOCKED, f"{event}: {job.id}"
                assert job.no not in self.sure or self.told.get(job.no) != said, f"{job.id} is told of twice"
                self.told[job.no] = said
                self.sure.add(job.no)
        for job in here.values():
            blocked = self.store.jobs[job.no].status_reason
            if blocked in BLOCKED and not (state.draining or state.place_wanted):
                said = (job.generation, blocked)
                assert self.told.get(job.no) == said, f"{job.id} is blocked at the head, and nobody is told"


def of_nodes(spec: JobSpec) -> bool:
    return spec.members is not None and spec.members.nodes is not None


def reason(spec: JobSpec, places: Iterable[Environment]) -> str | None:
    """The single-host mapping of aws-batch.md §9.6."""
    places = list(places)
    if not places:
        return INVALID
    nodes = of_nodes(spec)
    able = [
        size
        for place in places
        if place.backend in ("local", spec.kind, "fake") and not (nodes and (place.spot or place.nodes))
        for size in ([node.capacity for node in place.nodes] or [place.capacity])
    ]
    if not able:
        return UNDETERMINED
    need = spec.resources
    if any(all(a <= b for a, b in zip(need, size, strict=True)) for size in able):
        return None
    return MAX_RESOURCE if need.vcpus_milli > max(size.vcpus_milli for size in able) else JOB_REQUIREMENT


def head(queue: QueueState) -> Job | None:
    best: tuple[tuple[int, ...], Job] | None = None
    for group in queue.groups.values():
        entry = group.head()
        if entry is not None and (best is None or group.head_key(entry) < best[0]):
            best = (group.head_key(entry), entry.job)
    return None if best is None else best[1]


def total_vcpus(state: State, queue: QueueState) -> int:
    return sum(state.environments[name].spec.capacity.vcpus_milli for name in queue.spec.environments)


def shares_with_jobs(state: State, queue: str) -> set[str]:
    return {job.spec.share or "" for job in state.jobs.values() if job.spec.queue == queue and not job.status.terminal}


def shares_waiting(state: State, queue: QueueState) -> Iterator[tuple[str, Class]]:
    """Each share that has work left which could have been placed, by shape, kind and tokens. `head` looks at no entry but the first."""
    found: set[tuple[str, Class]] = set()
    for group in queue.groups.values():
        for entry in group.entries():
            job = entry.job
            limit = job.spec.max_running
            held = job.run is not None and job.run.held
            live = state.jobs.get(JobId(job.id)) is job
            able = live and not held and (limit is None or job.running < limit)
            if able and first_ready(job, entry.lo, entry.hi, group.key.shape) >= 0:
                found.add((job.spec.share or "", (group.key.shape, job.spec.kind, job.spec.tokens, of_nodes(job.spec))))
    yield from found
