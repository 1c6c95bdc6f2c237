"""What runs now, and where.

Queues are looked at by descending priority: within a queue the best head first (its `priority`, then
retries, then the order of submission; in a fair-share queue that of the share whose turn it is), in the first environment of
the queue that has room. A job that does not fit lets others pass, but from the moment its head did not fit a clock runs: after RESERVE_AFTER_MS it holds a reservation in each of its environments
(one per environment: of the highest queue, the job that has waited longest), and others may then only use what leaves its share untouched.
The cost of a pass grows with the number of groups (distinct shapes), not with the tasks that wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from flowbatch.core import crews, limits, tokens
from flowbatch.core.capacity import NodeState
from flowbatch.core.dependencies import set_single_status
from flowbatch.core.launching import LaunchMaker
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Entry, Group, first_ready
from flowbatch.core.reclaim import by_queue, claims, give_back, has_spot
from flowbatch.core.rooms import HOST, SPOT_HOST, UNLIMITED, of_queue, room_for, unreserved
from flowbatch.core.scaling import follow_demand
from flowbatch.core.state import EnvironmentState, Job, Live, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status

RESERVE_AFTER_MS: Final = 30_000  # semantics.md 17

# (-priority, front, job number, index), or (key of the share, job number, index): the least first
Head = tuple[int, ...]


def place(state: State, out: Turn) -> None:
    if state.draining or not state.place_wanted:
        return
    state.place_wanted = False
    for queue in state.queues.values():
        if queue.fair is not None and queue.groups:
            queue.fair.advance(out.now)
            out.share_rows(queue)
    if has_spot(state):
        place_beside_spot(state, out)
    else:
        state.host.claims = ()
        while pass_over(state, out):
            pass
    follow_demand(state, out.now)
    watch_waiting(state, out.now)
    for queue in state.queues.values():
        if queue.blocks or queue.stuck is not None:
            limits.watch_head(state, queue, out)


def place_beside_spot(state: State, out: Turn) -> None:
    """On demand first. Then Spot, and whoever asks for Spot first, may have what no on-demand head could use: neither now, nor
    once the reservations that keep it waiting are gone. What is claimed to the end is given back."""
    host, again = state.host, True
    while again:
        host.claims = None
        while pass_over(state, out):
            pass
        if all(group.empty for queue in state.queues.values() for group in queue.groups.values()):
            host.claims = ()
            return  # nothing waits, so that nobody claims anything
        moments: list[dict[str, Group]] = [{}]
        if holders := reservations(state, out.now):
            staying = reservations(state, out.now, unless=content_with_spot)  # once Spot has served the others
            moments += [holders, staying] if staying != holders else [holders]
        host.claims = tuple(by_queue(claims(state, each)) for each in moments)
        again = pass_over(state, out)
    if any(each.spec.spot and each.live for each in state.environments.values()):
        give_back(state, claims(state, reservations(state, out.now)), out)


def content_with_spot(state: State, job: Job) -> bool:
    return any(environment.spec.spot and environment.takes_work for environment, _ in state.places_of(job))


def watch_waiting(state: State, now: Millis) -> None:
    """Who comes to hold a reservation by the passing of time alone may have room at once: what another had kept until then. One
    timer at a time, for the next of them; none where nobody else waits."""
    if state.reserve_at is not None and state.reserve_at > now:
        return
    waiting = 0
    state.reserve_at = None
    for queue in state.queues.values():
        for group in queue.groups.values():
            waiting += group.blocked_since is not None or group.token_since is not None
            for since in (group.blocked_since, group.token_since):
                if since is not None and since + RESERVE_AFTER_MS > now:
                    at = Millis(since + RESERVE_AFTER_MS)
                    state.reserve_at = at if state.reserve_at is None else min(at, state.reserve_at)
    if waiting < 2:
        state.reserve_at = None
    if state.reserve_at is not None:
        state.timers.add(state.reserve_at, TimerKind.RESERVE, ("", 0, 0))


def on_reserve_due(state: State) -> None:
    state.place_wanted = True


def pass_over(state: State, out: Turn) -> bool:
    """Each queue once, by descending priority. True where the holder of a reservation was served, or has lost it meanwhile, by its own
    max_running or because others used up tokens: others may then have what was kept for it."""
    tokens.reserve(state, out.now)
    reserved = reservations(state, out.now)
    levels: dict[int, list[QueuePass]] = {}
    for queue in state.queues.values():
        if queue.groups:
            levels.setdefault(queue.spec.priority, []).append(QueuePass(queue))
    served = False
    for priority in sorted(levels, reverse=True):
        # Equal priorities: the oldest head first (aws-batch.md §9.2).
        oldest = [(each.age(), number, each) for number, each in enumerate(levels[priority])]
        heapq.heapify(oldest)
        while oldest:
            _, number, first = oldest[0]
            if not first.heads:
                heapq.heappop(oldest)
            else:
                served |= serve(state, first, reserved, out)
                heapq.heapreplace(oldest, (first.age(), number, first))
    return (
        served
        or any(group.head() is None for group in reserved.values())
        or not all(tokens.may_keep(state, group) for group in state.tokens.kept.values())
    )


class QueuePass:
    """The heads of a queue's groups that have not been refused in this pass, as a heap."""

    __slots__ = ("heads", "queue")

    def __init__(self, queue: QueueState) -> None:
        self.queue = queue
        self.heads: list[tuple[Head, int, Group]] = []
        for number, group in enumerate(list(queue.groups.values())):
            entry = group.head()
            if entry is not None:
                self.heads.append((group.head_key(entry), number, group))
            else:
                group.blocked_since = group.token_since = None
                if group.empty:
                    del queue.groups[group.key]
        heapq.heapify(self.heads)

    def age(self) -> int:
        """The number of the job at the head; a queue that has none comes last."""
        return self.heads[0][0][-2] if self.heads else 2**63


def serve(state: State, here: QueuePass, reserved: dict[str, Group], out: Turn) -> bool:
    """Starts what it can of the best head, or lets it wait. True where it held a reservation and was served, or has lost it."""
    queue, heads = here.queue, here.heads
    limit = queue.spec.max_running
    if limit is not None and queue.live >= limit:
        heads.clear()
        return False
    key, number, group = heads[0]
    entry = group.head()
    if entry is None:  # held back by its own max_running since this pass began: it does not wait for room
        group.blocked_since = group.token_since = None
        heapq.heappop(heads)
    elif group.head_key(entry) != key:  # held back by its max_running meanwhile, or its share has had its turn
        heapq.heapreplace(heads, (group.head_key(entry), number, group))
    elif tokens.lacking(state, group):
        # what waits for tokens waits for no capacity, and keeps none from others
        group.blocked_since = None
        note_refusal(group, out.now)
        heapq.heappop(heads)
        return group in reserved.values()
    elif place_entry(state, queue, group, entry, reserved, turn_of(here, group, entry, out.now), out):
        group.blocked_since = group.token_since = None
        state.tokens.served(group)
        following = group.head()
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (group.head_key(following), number, group))
        return group in reserved.values()
    else:
        if group.blocked_since is None:
            group.blocked_since = out.now
        note_refusal(group, out.now)
        heapq.heappop(heads)
    return False


def turn_of(here: QueuePass, group: Group, entry: Entry, now: Millis) -> int:
    """How many of the entry's tasks may start before it is another share's turn."""
    fair = here.queue.fair
    if fair is None:
        return UNLIMITED
    rival = group.rival()
    for key, _, _ in here.heads[1:3]:
        if rival is None or key[0] < rival:
            rival = key[0]
    share = fair.shares[entry.job.spec.share or ""]
    return fair.turns(share, group.key.shape.vcpus_milli, rival, now)


def note_refusal(group: Group, now: Millis) -> None:
    if group.key.tokens and group.token_since is None:
        group.token_since = now


def place_entry(
    state: State, queue: QueueState, group: Group, entry: Entry, reserved: dict[str, Group], most: int, out: Turn
) -> bool:
    """Starts as many of the entry's tasks as fit now, at most so many; False where not even the first does."""
    job, shape = entry.job, group.key.shape
    index, started = entry.lo, 0
    for environment, backend in state.places_of(job):
        if not state.host.open_to(environment):
            break  # its turn is the second pass
        for node in environment.slots():
            room = room_for(state, queue, environment, node, group, reserved)
            if job.spec.max_running is not None:
                room = min(room, job.spec.max_running - job.running)
            if queue.spec.max_running is not None:
                room = min(room, queue.spec.max_running - queue.live)
            if queue.fair is not None:
                room = min(room, most - started, unreserved(state, queue, group, reserved))
            if group.key.tokens:
                room = min(room, state.tokens.room(group))
            if room > 0:
                count, index = start(state, queue, entry, index, room, environment, node, backend, shape, out)
                started += count
            if index < 0:
                break
        if index < 0:
            break
    if started:
        group.take(entry, entry.hi if index < 0 else index)
    return started > 0


def reservations(
    state: State, now: Millis, unless: Callable[[State, Job], bool] = lambda _state, _job: False
) -> dict[str, Group]:
    """Environment → the group whose head has waited there too long; under a host guard one for the host too, and one among Spot;
    and of a queue's own reservation the one of these that has waited longest. `unless` says of a head that it is passed over."""
    best: dict[str, tuple[tuple[int, int, Head], Group]] = {}
    for queue in state.queues.values():
        for group in queue.groups.values():
            if group.blocked_since is None or now - group.blocked_since < RESERVE_AFTER_MS:
                continue
            entry = group.head()
            if entry is None or unless(state, entry.job):
                continue
            rank = (-queue.spec.priority, group.blocked_since, (entry.rank - group.key.priority, *entry[1:4]))
            for environment, _ in state.places_of(entry.job):
                if not environment.takes_work or not state.ever_fits(environment, group.key.shape):
                    continue
                guarded = state.host.guard is not None and environment.rooms_here()
                for name in (environment.name, SPOT_HOST if environment.spec.spot else HOST)[: 2 if guarded else 1]:
                    held = best.get(name)
                    if held is None or rank < held[0]:
                        best[name] = (rank, group)
    if not best:
        return {}
    for queue in state.queues.values():
        if queue.fair is not None and queue.fair.policy.reservation:
            # By the same rank: were they two, each could keep from the other what that lacks.
            ours = [held for held in best.values() if queue.groups.get(held[1].key) is held[1]]
            if ours:
                best[of_queue(queue)] = min(ours, key=lambda held: held[0])
    return {name: group for name, (_, group) in best.items()}


def start(
    state: State,
    queue: QueueState,
    entry: Entry,
    index: int,
    room: int,
    environment: EnvironmentState,
    node: NodeState | None,
    backend: str,
    shape: Resources,
    out: Turn,
) -> tuple[int, int]:
    """RUNNABLE → STARTING, from that index on while there is room: capacity is reserved, the attempts have their numbers,
    the launches follow once this is durable. Returns how many, and the next index that is ready (-1: none)."""
    job, attempts, live, effects = entry.job, entry.job.attempts, state.live, out.effects
    if node is not None:
        backend = node.spec.backend(backend)
    order = LaunchMaker(job, queue, environment, backend)
    count = 0
    while count < room and index >= 0:
        attempts[index] = attempt = attempts[index] + 1
        key = AttemptKey(job.id, index, attempt)
        live[key[:2]] = each = Live(key, job, queue, environment, node, backend, shape, state.life, state.turn)
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
    if node is not None:
        node.hold(shape, count)
    queue.live += count
    queue.moved_at = out.now
    job.running += count
    if queue.fair is not None:
        queue.fair.hold(job.spec.share or "", shape.vcpus_milli * count, out.now)
        out.share_rows(queue)
    if job.spec.tokens:
        state.tokens.take(job.spec.tokens, count, out)
    return count, index
