"""Environments as people see them, with values that JSON has. Pure functions over the State."""

from __future__ import annotations

from typing import Any

from flowbatch.core.capacity import EnvironmentState, NodeState
from flowbatch.core.state import State
from flowbatch.model.jobspec import Environment
from flowbatch.model.places import is_of_run
from flowbatch.model.resources import Resources


def overview(state: State) -> list[dict[str, Any]]:
    """Every environment: the engine's own first, then those of runs."""
    order = sorted(state.environments.values(), key=lambda place: (is_of_run(place.name), place.name))
    return [described(state, place) for place in order]


def described(state: State, place: EnvironmentState) -> dict[str, Any]:
    """What it is, what it holds, and which queues use it."""
    spec = place.spec
    found: dict[str, Any] = {
        "environment": spec.name,
        "type": spec.type.value,
        "spot": spec.spot,
        "backend": spec.backend,
        "state": "ENABLED" if spec.enabled else "DISABLED",
        "status": place.status.value,
        "min_vcpus": spec.min_vcpus_milli / 1000,
        "desired_vcpus": desired_milli(place) / 1000,
        "max_vcpus": spec.total().vcpus_milli / 1000,
        "memory_mib": spec.total().memory_mib,
        "gpus": spec.total().gpus,
        "running": place.live,
        "used": amounts(place.used),
        "queues": sorted(queue.spec.name for queue in state.queues.values() if spec.name in queue.spec.environments),
        "cpu": spec.cpu.value,
        "changed": changed_fields(spec, place.declared),
    }
    if spec.spot:
        found["notice_ms"] = spec.notice_ms
    if spec.managed:
        found["scale_down_ms"] = spec.scale_down_ms
    else:
        found["nodes"] = [described_node(node) for node in place.nodes.values()]
    return found


def desired_milli(place: EnvironmentState) -> int:
    """Where no engine has followed demand yet: what runs, and the minimum."""
    if not place.spec.managed:
        return place.spec.total().vcpus_milli
    used = min(place.used.vcpus_milli, place.spec.capacity.vcpus_milli)
    return max(place.desired_vcpus_milli, place.spec.min_vcpus_milli, used)


def described_node(node: NodeState) -> dict[str, Any]:
    return {
        "node": node.name,
        "endpoint": node.spec.endpoint,
        "state": "DRAINING" if node.spec.draining else "ACTIVE",
        "vcpus": node.spec.capacity.vcpus_milli / 1000,
        "memory_mib": node.spec.capacity.memory_mib,
        "gpus": node.spec.capacity.gpus,
        "running": node.live,
        "used": amounts(node.used),
    }


def amounts(used: Resources) -> dict[str, Any]:
    return {"vcpus": used.vcpus_milli / 1000, "memory_mib": used.memory_mib, "gpus": used.gpus}


def changed_fields(spec: Environment, declared: Environment | None) -> list[str]:
    """What a command has changed, so that it is not what the settings say."""
    if declared is None or is_of_run(spec.name):
        return []
    pairs = {
        "state": (spec.enabled, declared.enabled),
        "max_vcpus": (spec.capacity.vcpus_milli, declared.capacity.vcpus_milli),
        "memory": (spec.capacity.memory_mib, declared.capacity.memory_mib),
        "gpus": (spec.capacity.gpus, declared.capacity.gpus),
        "min_vcpus": (spec.min_vcpus_milli, declared.min_vcpus_milli),
        "scale_down": (spec.scale_down_ms, declared.scale_down_ms),
        "notice": (spec.notice_ms, declared.notice_ms),
        "backend": (spec.backend, declared.backend),
        "cpu": (spec.cpu, declared.cpu),
        "spot": (spec.spot, declared.spot),
        "nodes": (spec.nodes, declared.nodes),
    }
    return [name for name, (now, then) in pairs.items() if now != then]


def host_view(state: State) -> dict[str, Any]:
    """The guard, and what all that runs on this machine holds of it."""
    used = [place.used_here() for place in state.environments.values()]
    guard = state.host.guard or state.host.limit
    total = amounts(Resources(*map(sum, zip(*used, strict=True))) if used else Resources())
    return {"guard": None if guard is None else amounts(guard), "used": total}
