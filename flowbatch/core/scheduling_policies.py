"""Scheduling policies as stored objects that queues share (aws-batch.md §9.4): each queue holds a copy of the one that it names.

A queue of the settings, or of the command line, may have a policy of its own: it shows under the queue's name where no stored one is
called so, and is not changed as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from flowbatch.core.queues import QueueState
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.jobspec import Queue
from flowbatch.model.place_commands import CreateSchedulingPolicy, DeleteSchedulingPolicy, UpdateSchedulingPolicy
from flowbatch.model.places import is_of_run
from flowbatch.model.queues import FairShare, policy_object
from flowbatch.model.rows import SchedulingPolicyRow

TAGS = "scheduling-policy"


def name_of(state: State, spec: Queue) -> str:
    """Under which a queue's policy is known; empty where it has none, or one that has no name to be known by."""
    if spec.policy_name or spec.policy is None or is_of_run(spec.name):
        return spec.policy_name
    return "" if spec.name in state.scheduling else spec.name


def all_of(state: State) -> Mapping[str, FairShare]:
    """Those of queues of the settings too."""
    own = (queue.spec for queue in state.queues.values() if not queue.spec.policy_name)
    found = {spec.name: spec.policy for spec in own if spec.policy is not None and name_of(state, spec)}
    return {**found, **state.scheduling}


def overview(state: State) -> list[dict[str, Any]]:
    """Every policy and the queues that it divides, by name. `stored`: it can be changed, and given to queues."""
    queues: dict[str, list[str]] = {}
    for queue in state.queues.values():
        queues.setdefault(name_of(state, queue.spec), []).append(queue.spec.name)
    return [
        {
            "scheduling_policy": name,
            "stored": name in state.scheduling,
            "policy": policy_object(policy),
            "queues": sorted(queues.get(name, ())),
        }
        for name, policy in sorted(all_of(state).items())
    ]


def absent(state: State, name: str) -> str | None:
    """A sentence where there is no stored policy of that name."""
    if name in state.scheduling:
        return None
    if name in all_of(state):
        return f"the scheduling policy of queue {name} is its own, and changes where the queue is declared: create one to share it"
    return f"scheduling policy {name} does not exist"


def on_create(state: State, command: CreateSchedulingPolicy, out: Turn) -> None:
    if command.name in all_of(state):
        out.answer(command.ticket, f"Object already exists: there is a scheduling policy {command.name}")
        return
    put(state, command.name, command.policy, out)
    out.writes.tags[TAGS, command.name] = command.tags or None
    out.answer(command.ticket, value={"scheduling_policy": command.name})


def on_update(state: State, command: UpdateSchedulingPolicy, out: Turn) -> None:
    refused = absent(state, command.name)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    put(state, command.name, command.policy, out)
    queues = [queue for queue in state.queues.values() if queue.spec.policy_name == command.name]
    for queue in queues:
        respec(state, queue, replace(queue.spec, policy=command.policy), out)
    if queues:
        state.places_changed()
    out.answer(command.ticket, value={"scheduling_policy": command.name, "queues": [each.spec.name for each in queues]})


def on_delete(state: State, command: DeleteSchedulingPolicy, out: Turn) -> None:
    refused = absent(state, command.name)
    users = sorted(name for name, queue in state.queues.items() if queue.spec.policy_name == command.name)
    if users:
        refused = f"Cannot delete, found existing JobQueue relationship ({', '.join(users)})"
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    del state.scheduling[command.name]
    out.writes.scheduling[command.name] = None
    out.writes.tags[TAGS, command.name] = None
    out.answer(command.ticket, value={"scheduling_policy": command.name})


def put(state: State, name: str, policy: FairShare, out: Turn) -> None:
    state.scheduling[name] = policy
    out.writes.scheduling[name] = SchedulingPolicyRow(name, policy)


def respec(state: State, queue: QueueState, spec: Queue, out: Turn) -> None:
    """The queue is another one from now on; the usage of its shares goes into the cells of the new window with this turn."""
    queue.respec(spec, state)
    out.queue_row(queue)
    if queue.fair is not None:
        out.share_rows(queue)
