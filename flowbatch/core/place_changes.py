"""Commands about where jobs may run, each to its room."""

from __future__ import annotations

from typing import assert_never

from flowbatch.core import environments, nodes, queue_changes, scheduling_policies
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.place_commands import (
    AddNode,
    CreateEnvironment,
    CreateQueue,
    CreateSchedulingPolicy,
    DeleteEnvironment,
    DeleteQueue,
    DeleteSchedulingPolicy,
    DrainNode,
    PlaceCommand,
    RemoveNode,
    UpdateEnvironment,
    UpdateQueue,
    UpdateSchedulingPolicy,
)


def dispatch(state: State, command: PlaceCommand, out: Turn) -> None:
    match command:
        case CreateEnvironment():
            environments.on_create(state, command, out)
        case UpdateEnvironment():
            environments.on_update(state, command, out)
        case DeleteEnvironment():
            environments.on_delete(state, command, out)
        case AddNode():
            nodes.on_add_node(state, command, out)
        case DrainNode():
            nodes.on_drain_node(state, command, out)
        case RemoveNode():
            nodes.on_remove_node(state, command, out)
        case CreateQueue():
            queue_changes.on_create(state, command, out)
        case UpdateQueue():
            queue_changes.on_update(state, command, out)
        case DeleteQueue():
            queue_changes.on_delete(state, command, out)
        case CreateSchedulingPolicy():
            scheduling_policies.on_create(state, command, out)
        case UpdateSchedulingPolicy():
            scheduling_policies.on_update(state, command, out)
        case DeleteSchedulingPolicy():
            scheduling_policies.on_delete(state, command, out)
        case _:
            assert_never(command)
