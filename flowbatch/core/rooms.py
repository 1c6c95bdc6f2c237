"""How many tasks of a shape may start in a place now: what is free there, less what is kept for others."""

from __future__ import annotations

from typing import Final

from flowbatch.core.capacity import EnvironmentState, NodeState
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Group
from flowbatch.core.state import State
from flowbatch.model.jobspec import Environment
from flowbatch.model.resources import Resources

UNLIMITED: Final = 2**31
HOST: Final = "(host)"  # beside environments, the holder of an on-demand reservation: no environment is called so
SPOT_HOST: Final = "(host, Spot)"


def room_for(
    state: State,
    queue: QueueState,
    environment: EnvironmentState,
    node: NodeState | None,
    group: Group,
    reserved: dict[str, Group],
) -> int:
    """How many of this shape may start here now."""
    if not environment.takes_work or (node is not None and node.spec.draining):
        return 0
    shape, free = group.key.shape, environment.room(node)
    holder = reserved.get(environment.spec.name)
    if holder is not None and holder is not group and (node is None or holder.key.shape.fits(node.spec.capacity)):
        free = free.minus(holder.key.shape)
    room = shape.copies_in(free)
    if room > 0 and state.host.guard is not None and (node is None or node.here):
        room = min(room, shape.copies_in(host_room(state, queue, environment, group, reserved)))
    return room


def host_room(
    state: State, queue: QueueState, environment: EnvironmentState, group: Group, reserved: dict[str, Group]
) -> Resources:
    """What the host guard leaves to this group in this environment."""
    host, spot = state.host, environment.spec.spot
    free = host.free(state.environments).minus(host.minima(state.environments, but=environment.name))
    if host.claims is not None:
        free = free.minus(host.claimed(but=queue.spec.name))
    holder = reserved.get(SPOT_HOST if spot else HOST)
    return free if holder is None or holder is group else free.minus(holder.key.shape)


def unreserved(state: State, queue: QueueState, group: Group, reserved: dict[str, Group]) -> int:
    """How many of this shape the queue's computeReservation has room for. Of its groups that hold a reservation, the one that has
    waited longest keeps its part of that room (one alone: two would keep each other out)."""
    fair = queue.fair
    if fair is None or not fair.policy.reservation:
        return UNLIMITED
    first = reserved.get(of_queue(queue), group)
    kept = 0 if first is group else first.key.shape.vcpus_milli
    return fair.room(group.key.shape.vcpus_milli, vcpus_of(state, queue), kept)


def of_queue(queue: QueueState) -> str:
    """Beside environments, the holder of what the queue's own computeReservation leaves."""
    return f"(queue {queue.spec.name})"


def vcpus_of(state: State, queue: QueueState) -> int:
    """maxvCpus of all of its environments, in thousandths."""
    places = (state.environments.get(name) for name in queue.spec.environments)
    return sum(shared_vcpus_milli(place.spec) for place in places if place is not None)


def shared_vcpus_milli(place: Environment) -> int:
    """unmanagedvCpus, where it was given, is used for this alone (aws-batch.md §9.4)."""
    return place.total().vcpus_milli if place.share_vcpus_milli is None else place.share_vcpus_milli
