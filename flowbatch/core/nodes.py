"""Nodes of UNMANAGED environments: capacity that people register, drain and take away while things run (semantics.md 16)."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.core.capacity import EnvironmentState
from flowbatch.core.environments import find
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.place_commands import AddNode, DrainNode, RemoveNode
from flowbatch.model.places import Node


def on_add_node(state: State, command: AddNode, out: Turn) -> None:
    found = unmanaged(state, command.environment)
    if isinstance(found, str):
        out.answer(command.ticket, found)
        return
    node, held = command.node, found.nodes.get(command.node.name)
    if held is not None and held.live and (held.spec.endpoint != node.endpoint or not held.used.fits(node.capacity)):
        out.answer(command.ticket, f"node {node.name} runs {held.live} tasks that need {held.used}: drain it first")
        return
    nodes = (*(each for each in found.spec.nodes if each.name != node.name), node)
    if refused := replace(found.spec, nodes=nodes).runs_elsewhere():
        out.answer(command.ticket, f"environment {found.name}: {refused}")
        return
    set_nodes(state, found, nodes, out)
    out.answer(command.ticket, value={"environment": found.name, "node": node.name})


def on_drain_node(state: State, command: DrainNode, out: Turn) -> None:
    found = unmanaged(state, command.environment)
    held = node_of(found, command.node)
    if isinstance(found, str) or isinstance(held, str):
        out.answer(command.ticket, found if isinstance(found, str) else str(held))
        return
    nodes = (replace(each, draining=True) if each.name == command.node else each for each in found.spec.nodes)
    set_nodes(state, found, tuple(nodes), out)
    out.answer(
        command.ticket,
        value={"environment": found.name, "node": command.node, "running": found.nodes[command.node].live},
    )


def on_remove_node(state: State, command: RemoveNode, out: Turn) -> None:
    found = unmanaged(state, command.environment)
    held = node_of(found, command.node)
    if isinstance(found, str) or isinstance(held, str):
        out.answer(command.ticket, found if isinstance(found, str) else str(held))
        return
    live = found.nodes[command.node].live
    if live:
        out.answer(
            command.ticket,
            f"node {command.node} runs {live} task{'' if live == 1 else 's'}: drain it, and remove it once they have ended",
        )
        return
    set_nodes(state, found, tuple(each for each in found.spec.nodes if each.name != command.node), out)
    out.answer(command.ticket, value={"environment": found.name, "node": command.node})


def unmanaged(state: State, name: str) -> EnvironmentState | str:
    found = find(state, name)
    if isinstance(found, EnvironmentState) and found.spec.managed:
        return f"environment {name} is MANAGED: it has no nodes of its own"
    return found


def node_of(found: EnvironmentState | str, name: str) -> Node | str:
    if isinstance(found, str):
        return found
    node = found.nodes.get(name)
    if node is None:
        return f"environment {found.name} has no node {name!r}; it has {', '.join(sorted(found.nodes)) or 'none'}"
    return node.spec


def set_nodes(state: State, found: EnvironmentState, nodes: tuple[Node, ...], out: Turn) -> None:
    found.spec = replace(found.spec, nodes=nodes)
    found.follow_nodes()
    out.environment_row(found)
    state.places_changed()
