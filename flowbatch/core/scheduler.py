"""What runs now, and where.

Queues are looked at by descending priority: within a queue the best head first (its `priority`, then
retries, then the order of submission), in the first environment of the queue that has room. A job that does not fit lets
others pass, but from the moment its head did not fit a clock runs: after RESERVE_AFTER_MS it holds a reservation in each of its environments
(one per environment: of the highest queue, the job that has waited longest), and others may then only use what leaves its share untouched.
The cost of a pass grows with the number of groups (distinct shapes), not with the tasks that wait.
"""

from __future__ import annotations

import heapq
from typing import Final

from flowbatch.core import crews
from flowbatch.core.dependencies import set_single_status
from flowbatch.core.launching import LaunchMaker
from flowbatch.core.ready import Entry, Group, QueueState, first_ready
from flowbatch.core.state import EnvironmentState, Live, State
from flowbatch.core.turn import Turn
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status

RESERVE_AFTER_MS: Final = 30_000  # semantics.md 17

Head = tuple[int, int, int, int]  # (-priority, front, job number, index): smaller is served first


def place(state: State, out: Turn) -> None:
    if state.draining or not state.place_wanted:
        return
    state.place_wanted = False
    # Once the holder of a reservation is served, others may have what was kept for it.
    while pass_over(state, reservations(state, out.now), out):
        pass


def pass_over(state: State, reserved: dict[str, Group], out: Turn) -> bool:
    """Each queue once, by descending priority. True where the holder of a reservation was served."""
    levels: dict[int, list[QueuePass]] = {}
    for queue in state.queues.values():
        if queue.groups:
            levels.setdefault(queue.spec.priority, []).append(QueuePass(queue))
    served = False
    for priority in sorted(levels, reverse=True):
        passes = levels[priority]
        while passes:  # equal priorities: the oldest head first (aws-batch.md §9.2)
            first = passes[0] if len(passes) == 1 else min(passes, key=QueuePass.age)
            if not first.heads:
                passes.remove(first)
            else:
                served |= serve(state, first, reserved, out)
    return served


class QueuePass:
    """The heads of a queue's groups that have not been refused in this pass, as a heap."""

    __slots__ = ("heads", "queue")

    def __init__(self, queue: QueueState) -> None:
        self.queue = queue
        self.heads: list[tuple[Head, int, Group]] = []
        for number, group in enumerate(list(queue.groups.values())):
            entry = group.head()
            if entry is not None:
                self.heads.append((head_key(group, entry), number, group))
            else:
                group.blocked_since = None
                if not group.heap:
                    del queue.groups[group.key]
        heapq.heapify(self.heads)

    def age(self) -> int:
        """The number of the job at the head; a queue that has none comes last."""
        return self.heads[0][0][2] if self.heads else 2**63


def head_key(group: Group, entry: Entry) -> Head:
    return (-group.key.priority, entry.front, entry.job_no, entry.lo)


def serve(state: State, here: QueuePass, reserved: dict[str, Group], out: Turn) -> bool:
    """Starts what it can of the best head, or lets it wait. True where it held a reservation and was served."""
    queue, heads = here.queue, here.heads
    limit = queue.spec.max_running
    if limit is not None and queue.live >= limit:
        heads.clear()
        return False
    key, number, group = heads[0]
    entry = group.head()
    if entry is None:
        heapq.heappop(heads)
    elif head_key(group, entry) != key:  # what stood there has been held back by its max_running meanwhile
        heapq.heapreplace(heads, (head_key(group, entry), number, group))
    elif place_entry(state, queue, group, entry, reserved, out):
        group.blocked_since = None
        following = group.head()
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (head_key(group, following), number, group))
        return group in reserved.values()
    else:
        if group.blocked_since is None:
            group.blocked_since = out.now
        heapq.heappop(heads)
    return False


def place_entry(
    state: State, queue: QueueState, group: Group, entry: Entry, reserved: dict[str, Group], out: Turn
) -> bool:
    """Starts as many of the entry's tasks as fit now; False where not even the first does."""
    job, shape = entry.job, group.key.shape
    index, started = entry.lo, 0
    for environment, backend in state.places_of(job):
        room = room_for(environment, group, shape, reserved)
        if job.spec.max_running is not None:
            room = min(room, job.spec.max_running - job.running)
        if queue.spec.max_running is not None:
            room = min(room, queue.spec.max_running - queue.live)
        if room > 0:
            count, index = start(state, queue, entry, index, room, environment, backend, shape, out)
            started += count
        if index < 0:
            break
    if started:
        group.take(entry, entry.hi if index < 0 else index)
    return started > 0


def room_for(environment: EnvironmentState, group: Group, shape: Resources, reserved: dict[str, Group]) -> int:
    """How many of this shape may start here now."""
    if not environment.spec.enabled:
        return 0
    free = environment.free()
    holder = reserved.get(environment.spec.name)
    if holder is not None and holder is not group:
        free = free.minus(holder.key.shape)
    return shape.copies_in(free)


def reservations(state: State, now: Millis) -> dict[str, Group]:
    """Environment → the group whose head has waited there too long."""
    best: dict[str, tuple[tuple[int, int, Head], Group]] = {}
    for queue in state.queues.values():
        for group in queue.groups.values():
            if group.blocked_since is None or now - group.blocked_since < RESERVE_AFTER_MS:
                continue
            entry = group.head()
            if entry is None:
                continue
            rank = (-queue.spec.priority, group.blocked_since, head_key(group, entry))
            for environment, _ in state.places_of(entry.job):
                if group.key.shape.fits(environment.spec.capacity):
                    held = best.get(environment.spec.name)
                    if held is None or rank < held[0]:
                        best[environment.spec.name] = (rank, group)
    return {name: group for name, (_, group) in best.items()}


def start(
    state: State,
    queue: QueueState,
    entry: Entry,
    index: int,
    room: int,
    environment: EnvironmentState,
    backend: str,
    shape: Resources,
    out: Turn,
) -> tuple[int, int]:
    """RUNNABLE → STARTING, from that index on while there is room: capacity is reserved, the attempts have their numbers,
    the launches follow once this is durable. Returns how many, and the next index that is ready (-1: none)."""
    job, attempts, live, effects = entry.job, entry.job.attempts, state.live, out.effects
    order = LaunchMaker(job, queue, environment, backend)
    count = 0
    while count < room and index >= 0:
        attempts[index] = attempt = attempts[index] + 1
        key = AttemptKey(job.id, index, attempt)
        live[key[:2]] = each = Live(key, job, queue, environment, backend, shape, state.life, state.turn)
        job.move(index, Status.STARTING)
        out.live_row(each)
        if job.array:
            out.child_event(job, index, Status.STARTING, None, None)
        else:
            job.status_reason = None
            set_single_status(job, Status.STARTING, out)
        if job.layout is None:
            effects.append(order.launch(key, shape))
        else:
            crews.enlist(state, each, job.layout, out)
        count += 1
        index = first_ready(job, index + 1, entry.hi, shape)
    environment.hold(shape, count)
    queue.live += count
    job.running += count
    return count, index
