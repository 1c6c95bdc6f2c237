"""Why a task does not start in one environment of its queue, with the figures behind it."""

from __future__ import annotations

from flowbatch.core.capacity import EnvironmentState, NodeState
from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Group
from flowbatch.core.rooms import HOST, SPOT_HOST
from flowbatch.core.scheduler import RESERVE_AFTER_MS, reservations
from flowbatch.core.state import State
from flowbatch.model.ending import Halt
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import title_of
from flowbatch.model.resources import Resources, memory_text, vcpus_text


def explain_place(state: State, queue: QueueState, environment: EnvironmentState, need: Resources, now: Millis) -> str:
    title = title_of(environment.name)
    if not environment.spec.enabled:
        return f"{title} is disabled"
    if not environment.takes_work:
        return f"{title} is being deleted"
    if not state.ever_fits(environment, need):
        return never(state, environment, need, title)
    if not environment.spec.managed:
        rooms = [node for node in environment.nodes.values() if not node.spec.draining and need.fits(node.free())]
        if not rooms:
            return f"{title} has no node with room: {', '.join(map(explain_node, environment.nodes.values()))}"
    elif missing := shortage(need, environment.free(), environment.spec.capacity):
        return f"{title} has {' and '.join(missing)} free, {environment.live} tasks run there"
    held = reservations(state, now)
    spot = environment.spec.spot
    for keeper, who in ((title, held.get(environment.name)), ("the host", held.get(SPOT_HOST if spot else HOST))):
        if who is not None and who.key.shape != need and (kept := explain_holder(who, now)):
            return f"{title} has room, but {'' if keeper == title else f'{keeper} '}keeps it for {kept}"
    return explain_host(state, queue, environment, need) or (
        f"{title} has room: it starts in a moment, after those before it in the queue"
    )


def never(state: State, environment: EnvironmentState, need: Resources, title: str) -> str:
    capped = state.host.capped(state.environments, environment.spec)
    if not environment.spec.managed:
        sizes = ", ".join(f"{node.name} has {node.capacity}" for node in capped.nodes)
        return f"{title} will never do: a task must fit one node, and {sizes or 'it has none'}"
    lacks = shortage(need, capped.capacity, capped.capacity)
    host = "" if capped.capacity == environment.spec.capacity else " of this host"
    return f"{title} will never do: it has {' and '.join(lacks)}{host} in all"


def explain_node(node: NodeState) -> str:
    return f"{node.name} {'is draining' if node.spec.draining else f'has {node.free()} free'}"


def explain_holder(holder: Group, now: Millis) -> str | None:
    entry = holder.head()
    if entry is None:
        return None
    waited = (now - (holder.blocked_since or now)) / 1000
    return (
        f"{entry.job.spec.key}:{entry.lo}, which needs {holder.key.shape} and has waited {waited:.0f} s "
        f"(a job at the head holds a reservation after {RESERVE_AFTER_MS // 1000} s)"
    )


def explain_host(state: State, queue: QueueState, environment: EnvironmentState, need: Resources) -> str | None:
    """None where the host is not what is missing."""
    guard, title = state.host.guard, title_of(environment.name)
    if guard is None or (not environment.spec.managed and not environment.rooms_here()):
        return None
    free = state.host.free(state.environments).minus(state.host.minima(state.environments, but=environment.name))
    if environment.spec.spot:
        free = free.minus(state.host.claimed(but=queue.spec.name))
        missing = shortage(need, least(free), guard)
        return f"{title} is Spot: on-demand jobs leave it {' and '.join(missing)} of the host" if missing else None
    missing = shortage(need, least(free), guard)
    if not missing:
        return None
    ending = sum(live.halt is Halt.RECLAIM for live in state.live.values())
    coming = "" if not ending else f"; {ending} Spot attempt{'s are' if ending > 1 else ' is'} giving back"
    return f"{title} has room, but the host has {' and '.join(missing)} free for it{coming}"


def least(free: Resources) -> Resources:
    """What is spoken for twice is still no less than nothing."""
    return Resources(*(max(0, each) for each in free))


def shortage(need: Resources, free: Resources, capacity: Resources) -> list[str]:
    """What there is too little of, as `0 of 4 vCPUs`; `4 vCPUs` where `free` is all there is."""

    def some(amount: str, total: str) -> str:
        return total if free == capacity else f"{amount} of {total}"

    missing = []
    if need.vcpus_milli > free.vcpus_milli:
        missing.append(some(vcpus_text(free.vcpus_milli), f"{vcpus_text(capacity.vcpus_milli)} vCPUs"))
    if need.memory_mib > free.memory_mib:
        missing.append(some(memory_text(free.memory_mib), memory_text(capacity.memory_mib)))
    if need.gpus > free.gpus:
        missing.append(some(str(free.gpus), f"{capacity.gpus} GPUs"))
    return missing
