"""Spot: what it may use of the host, and how it gives that back.

Spot environments run on what the on-demand environments of the same host leave free. What an on-demand job could start with at once,
if no Spot were there, is a *claim*: Spot takes nothing of it, and where Spot holds it already, it is given back, newest attempt
first: TERM, the environment's notice, KILL, `Host EC2 (instance i-…) terminated.`, and the retry strategy decides. A claim
that cannot be met even so takes nothing; a queue takes nothing back from its own jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from flowbatch.core import lifecycle
from flowbatch.core.capacity import EnvironmentState, NodeState
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Group, belongs_here, next_runnable
from flowbatch.core.rooms import HOST, UNLIMITED, unreserved
from flowbatch.core.state import Live, State
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.resources import NOTHING, Resources, sum_of


class Claim(NamedTuple):
    """So many tasks of the group could start in an on-demand environment, if the host had room."""

    queue: QueueState
    group: Group
    environment: EnvironmentState
    tasks: int

    @property
    def total(self) -> Resources:
        return self.group.key.shape.times(self.tasks)


class Budget:
    """An amount of the host that claims are met from. What `min_vcpus` keeps for an environment it alone may draw on."""

    def __init__(self, state: State, amount: Resources) -> None:
        environments = state.environments
        self.own = {
            name: each.idle_minimum().vcpus_milli for name, each in environments.items() if each.spec.min_vcpus_milli
        }
        self.left = amount.minus(Resources(sum(self.own.values())))

    def room(self, environment: EnvironmentState) -> Resources:
        return self.left.plus(Resources(self.own.get(environment.name, 0)))

    def take(self, environment: EnvironmentState, amount: Resources) -> None:
        kept = min(self.own.get(environment.name, 0), amount.vcpus_milli)
        if kept:
            self.own[environment.name] -= kept
        self.left = self.left.minus(amount).plus(Resources(kept))


def has_spot(state: State) -> bool:
    return state.host.guard is not None and any(each.spec.spot for each in state.environments.values())


def claims(state: State, reserved: dict[str, Group]) -> list[Claim]:
    """In the order in which heads are served. The cost grows with groups and with the host, not with what waits.

    A queue that has Spot before an on-demand environment is content with
    Spot: it claims nothing there.
    """
    guard, holder = state.host.guard, reserved.get(HOST)
    assert guard is not None
    on_demand = (each.used_here() for each in state.environments.values() if not each.spec.spot)
    budget = Budget(state, guard.minus(sum_of(on_demand)))
    own = spot_of_queues(state)
    taken: dict[tuple[str, str], Resources] = {}
    found: list[Claim] = []
    for queue, group in in_order(state):
        entry = group.head()
        if entry is None:
            continue
        limit = queue.spec.max_running
        most = min(UNLIMITED if limit is None else limit - queue.live, unreserved(state, queue, group, reserved))
        kept = own.get(queue.spec.name, NOTHING)
        if holder is not None and holder is not group:
            kept = kept.plus(holder.key.shape)
        if group.key.tokens:
            most = min(most, state.tokens.room(group))
        counted = 0
        for environment, _ in state.places_of(entry.job):
            if environment.spec.spot and environment.takes_work:
                break
            if environment.spec.spot or not environment.takes_work:
                continue
            before = counted
            for node in environment.slots():
                if node is None or (node.here and not node.spec.draining):
                    slot = environment.name, "" if node is None else node.name
                    free = environment.room(node).minus(taken.get(slot, NOTHING))
                    held = reserved.get(environment.name)
                    free = free if held is None or held is group else free.minus(held.key.shape)
                    host = budget.room(environment).minus(kept)
                    room = min(group.key.shape.copies_in(free), group.key.shape.copies_in(host), most - counted)
                    more = waiting(group, counted + room) - counted if room > 0 else 0
                    if more > 0:
                        counted += more
                        amount = group.key.shape.times(more)
                        taken[slot] = taken.get(slot, NOTHING).plus(amount)
                        budget.take(environment, amount)
            if counted > before:
                found.append(Claim(queue, group, environment, counted - before))
    return found


def spot_of_queues(state: State) -> dict[str, Resources]:
    """What Spot attempts hold that nobody has asked to stop: a queue does not claim what its own have."""
    sums: dict[str, Resources] = {}
    for live in state.live.values():
        if live.environment.spec.spot and live.halt is Halt.NONE:
            name = live.queue.spec.name
            sums[name] = sums.get(name, NOTHING).plus(live.resources)
    return sums


def by_queue(found: list[Claim]) -> dict[str, Resources]:
    sums: dict[str, Resources] = {}
    for claim in found:
        name = claim.queue.spec.name
        sums[name] = sums.get(name, NOTHING).plus(claim.total)
    return sums


def in_order(state: State) -> Iterator[tuple[QueueState, Group]]:
    """All groups with something ready, as they are served: by the queue's priority, then by their heads."""
    for queue in sorted(state.queues.values(), key=lambda each: -each.spec.priority):
        heads = [
            (group.head_key(entry), group) for group in queue.groups.values() if (entry := group.head()) is not None
        ]
        for _, group in sorted(heads, key=lambda each: each[0]):
            yield queue, group


def waiting(group: Group, most: int) -> int:
    """How many tasks of the group are ready, counted up to so many."""
    count = 0
    left: dict[int, int] = {}
    for entry in group.entries():
        job = entry.job
        if job.held:
            continue
        limit = job.spec.max_running
        allowed = most if limit is None else left.get(job.no, limit - job.running)
        index = next_runnable(job.cells, entry.lo, entry.hi)
        while index >= 0 and count < most and allowed > 0:
            if belongs_here(job, index, group.key.shape):
                count += 1
                allowed -= 1
            index = next_runnable(job.cells, index + 1, entry.hi)
        left[job.no] = allowed
        if count >= most:
            break
    return count


def give_back(state: State, wanted: list[Claim], out: Turn) -> None:
    """Stops the newest Spot attempts, until with them and with what is ending already every claim is met that can be."""
    spot = [live for live in state.live.values() if live.environment.spec.spot]
    if not wanted or not spot:
        return
    coming = sum_of(live.resources for live in spot if live.halt is not Halt.NONE)
    budget = Budget(state, state.host.free(state.environments).plus(coming))
    victims = sorted(
        (live for live in spot if live.halt is Halt.NONE),
        key=lambda live: (live.started_at is None, live.started_at or 0),
    )
    for claim in wanted:
        shape = claim.group.key.shape
        for _ in range(claim.tasks):
            others = [each for each in victims if each.queue is not claim.queue]
            chosen = chosen_for(budget.room(claim.environment).minus(shape), shape, others)
            if chosen is None:
                break
            budget.take(claim.environment, shape)
            for live in chosen:
                victims.remove(live)
                budget.left = budget.left.plus(live.resources)
                lifecycle.halt(state, live, Halt.RECLAIM, host_reason(live.environment, live.node), out)


def chosen_for(left: Resources, shape: Resources, victims: list[Live]) -> list[Live] | None:
    """The newest attempts (the last ones) that bring `left` back above nothing wherever the shape needs something; None where
    all of them do not."""
    chosen: list[Live] = []
    for live in reversed(victims):
        short = [at for at in range(3) if left[at] < 0 and shape[at] > 0]
        if not short:
            break
        if any(live.resources[at] > 0 for at in short):
            chosen.append(live)
            left = left.plus(live.resources)
    return None if any(left[at] < 0 and shape[at] > 0 for at in range(3)) else chosen


def host_reason(environment: EnvironmentState, node: NodeState | None) -> str:
    """AWS's statusReason of an attempt whose host went (aws-batch.md §1.2). The instance's id is made up of names: clients parse it."""
    name = environment.name if node is None else f"{environment.name}/{node.name}"
    return f"Host EC2 (instance i-{hashlib.sha256(name.encode()).hexdigest()[:17]}) terminated."
