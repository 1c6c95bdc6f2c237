"""desiredvCpus of MANAGED environments: up with demand at once, down after a delay (aws-batch.md §10.2).

On one machine nothing has to be started for it, so that it limits nothing: it says what AWS would have running. It is
what runs and what waits for the environment, between min_vcpus and max_vcpus. Only a life knows it, as it knows since when a head is blocked.
"""

from __future__ import annotations

from flowbatch.core.capacity import EnvironmentState
from flowbatch.core.reclaim import waiting
from flowbatch.core.state import State
from flowbatch.core.timers import TimerKind
from flowbatch.model.ids import Millis


def follow_demand(state: State, now: Millis) -> None:
    """After placement. What waits is counted up to the maximum, so that a million waiting tasks cost what a hundred do."""
    queued: dict[str, int] = {}
    for queue in state.queues.values():
        for group in queue.groups.values():
            vcpus = group.key.shape.vcpus_milli
            if group.blocked_since is None or not vcpus:
                continue
            entry = group.head()
            if entry is None:
                continue
            for environment, _ in state.places_of(entry.job):
                if environment.spec.managed and environment.takes_work:
                    missing = environment.spec.capacity.vcpus_milli - environment.used.vcpus_milli
                    most = -(-max(0, missing) // vcpus)
                    queued[environment.name] = queued.get(environment.name, 0) + vcpus * waiting(group, most)
    for environment in state.environments.values():
        if environment.spec.managed:
            follow(state, environment, environment.used.vcpus_milli + queued.get(environment.name, 0), now)


def follow(state: State, environment: EnvironmentState, demand_milli: int, now: Millis) -> None:
    spec = environment.spec
    wanted = max(spec.min_vcpus_milli, min(demand_milli, spec.capacity.vcpus_milli))
    if wanted >= environment.desired_vcpus_milli:
        environment.desired_vcpus_milli = wanted
        environment.idle_since = None
        return
    if environment.idle_since is None:
        environment.idle_since = now
    due = Millis(environment.idle_since + spec.scale_down_ms)
    if now >= due:
        environment.desired_vcpus_milli = wanted
        environment.idle_since = None
    elif not environment.watched:
        environment.watched = True
        state.timers.add(due, TimerKind.SCALE_DOWN, (spec.name, 0, 0))


def on_scale_down_due(state: State, name: str) -> None:
    """Looked at once more with the placement of this turn."""
    environment = state.environments.get(name)
    if environment is not None:
        environment.watched = False
        state.place_wanted = True
