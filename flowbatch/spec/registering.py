"""A settled layer as RegisterJobDefinition's JSON: how what a workflow file defines goes into the registry.

What AWS has no word for stands beside it in the file's own spelling, so that the body, read again, is the same layer. Expressions are
filled in and paths absolute. `defaults` are in it: a definition says all that a job of it would run with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from flowbatch.model.definition import Registration
from flowbatch.model.jobspec import FakeScript, RetryPolicy
from flowbatch.model.resources import vcpus_exact
from flowbatch.spec.container_values import PERMISSIONS
from flowbatch.spec.definitions import NAME_MAX, make
from flowbatch.spec.layers import merged
from flowbatch.spec.members import part_layers, plain

if TYPE_CHECKING:
    from flowbatch.spec.containers import ContainerLayer
    from flowbatch.spec.layers import Layer
    from flowbatch.spec.members import NodesLayer, TaskLayer
    from flowbatch.spec.needs import Draft
    from flowbatch.spec.places import Surroundings

Body = dict[str, Any]  # JSON, as AWS has it
_WORDS: Final = {letter: word for word, letter in PERMISSIONS.items()}


def definition_name(workflow: str, name: str, definitions: Iterable[str] = ()) -> str:
    """`<workflow>--<name>` (semantics.md 4). A job that is no use of a definition of its own name keeps clear of it; what is too
    long for a name is cut, and told apart by a digest."""
    own = f"{workflow}--job--{name}" if name in definitions else f"{workflow}--{name}"
    if len(own) <= NAME_MAX:
        return own
    return f"{own[: NAME_MAX - 17]}-{hashlib.sha256(own.encode()).hexdigest()[:16]}"


def registrations(
    workflow: str, definitions: Mapping[str, Layer], jobs: Iterable[Draft], around: Surroundings
) -> tuple[Registration, ...]:
    """Of the file's definitions, and of each job that is its own."""
    found = [
        make(definition_name(workflow, name), body_of(layer, around), layer.definition_tags or {})
        for name, layer in definitions.items()
    ]
    found += [make(job.definition, body_of(job.layer, around), {}) for job in jobs if job.inline]
    return tuple(found)


def body_of(layer: Layer, around: Surroundings) -> Body:
    body: Body = {"type": "container"}
    if layer.nodes is not None:
        body = {"type": "multinode", "nodeProperties": nodes_body(layer, layer.nodes, around)}
    elif layer.task is not None:
        body |= task_body(layer.task, plain(layer), around)
    else:
        body |= program_body(layer, around)
    if layer.container is not None and layer.container.propagate is not None:
        body["propagateTags"] = layer.container.propagate
    if layer.parameters:
        body["parameters"] = dict(layer.parameters)
    if layer.retry is not None:
        body["retryStrategy"] = retry_strategy(layer.retry)
    if layer.timeout_ms is not None:
        body["timeout"] = {"attemptDurationSeconds": seconds(layer.timeout_ms)}
    if layer.priority is not None:
        body["schedulingPriority"] = layer.priority
    if layer.tokens:
        body["consumableResourceProperties"] = demand_object(layer.tokens.items())
    if layer.lost_free is not None:
        body["lost_attempts"] = {"free": layer.lost_free}
    return body


def program_body(layer: Layer, around: Surroundings) -> Body:
    """What a job, a node group or a container runs."""
    box: Body = {}
    body: Body = {"containerProperties": box}
    container = layer.container if layer.container is not None and layer.container.image is not None else None
    if container is not None:
        box["image"] = container.image
    if layer.command is not None:
        box["command"] = list(layer.command)
    needs = resources_of(layer)
    if needs:
        box["resourceRequirements"] = needs
    if layer.env:
        box["environment"] = [{"name": name, "value": value} for name, value in layer.env.items()]
    if layer.secrets:
        box["secrets"] = [{"name": name, "valueFrom": source} for name, source in layer.secrets.items()]
    if layer.user is not None:
        box["user"] = layer.user
    if container is not None:
        add_container(container, box, body, around)
    if layer.stop_grace_ms is not None:
        body["stop_grace"] = f"{layer.stop_grace_ms}ms"
    if layer.workdir is not None:
        body["workdir"] = layer.workdir if container is not None else around.absolute(layer.workdir)
    if layer.fake is not None:
        body["x-fake"] = fake_object(layer.fake)
    return body


def nodes_body(layer: Layer, nodes: NodesLayer, around: Surroundings) -> Body:
    groups: list[Body] = []
    for group in nodes.groups:
        over, each = merged(group.layer, plain(layer)), dict[str, object](targetNodes=aws_range(group.text))
        if group.task is not None:
            each |= task_body(group.task, over, around)
        else:
            program = program_body(over, around)
            each["container"] = program.pop("containerProperties")
            each |= program
        if group.tokens:
            each["consumableResourceProperties"] = demand_object(group.tokens.items())
        groups.append(each)
    return {"numNodes": nodes.count, "mainNode": nodes.main, "nodeRangeProperties": groups}


def aws_range(text: str) -> str:
    """AWS writes a single node as a range too."""
    return text if ":" in text else f"{text}:{text}"


def task_body(task: TaskLayer, under: Layer, around: Surroundings) -> Body:
    found: list[Body] = []
    for part, layer in zip(task.parts, part_layers(task, under), strict=True):
        each: Body = {"name": part.name, "essential": part.essential}
        if part.after:
            each["dependsOn"] = [{"containerName": a.container, "condition": a.condition.value} for a in part.after]
        if part.start_timeout_ms is not None:
            each["start_timeout"] = f"{part.start_timeout_ms}ms"
        found.append(each | program_body(layer, around))
    shared = {key: True for key, is_so in (("shared_ipc", task.share_ipc), ("shared_pid", task.share_pid)) if is_so}
    return {"containers": found, **shared}


def resources_of(layer: Layer) -> list[dict[str, str]]:
    found = []
    if layer.vcpus_milli is not None:
        found.append({"type": "VCPU", "value": vcpus_exact(layer.vcpus_milli)})
    if layer.memory_mib is not None:
        found.append({"type": "MEMORY", "value": str(layer.memory_mib)})
    if layer.gpus is not None:
        found.append({"type": "GPU", "value": str(layer.gpus)})
    return found


def demand_object(demand: Iterable[tuple[str, int]]) -> Body:
    return {"consumableResourceList": [{"consumableResource": name, "quantity": count} for name, count in demand]}


def add_container(layer: ContainerLayer, box: Body, body: Body, around: Surroundings) -> None:
    for key, value in (("privileged", layer.privileged), ("readonlyRootFilesystem", layer.readonly)):
        if value is not None:
            box[key] = value
    if layer.ulimits:
        box["ulimits"] = [
            {"name": each.name, "softLimit": each.soft, "hardLimit": each.hard} for each in layer.ulimits.values()
        ]
    if layer.mounts:
        box["volumes"], box["mountPoints"] = volumes_of(layer, around)
    linux = linux_parameters(layer)
    if linux:
        box["linuxParameters"] = linux
    if layer.log is not None:
        box["logConfiguration"] = {"logDriver": layer.log.driver, "options": dict(layer.log.options)}
    if layer.pull is not None:
        body["pull"] = layer.pull.value
    if layer.network is not None:
        body["network"] = layer.network
    if layer.cpu is not None:
        body["cpu"] = layer.cpu.value


def volumes_of(layer: ContainerLayer, around: Surroundings) -> tuple[list[Body], list[Body]]:
    """A bind's volume is named by its number, beside the names that the named ones have."""
    taken = {mount.source for mount in layer.mounts.values() if mount.volume}
    volumes: dict[tuple[bool, str], tuple[str, Body]] = {}
    points: list[Body] = []
    for mount in layer.mounts.values():
        key = (mount.volume, mount.source)
        if key not in volumes:
            if mount.volume:
                volumes[key] = mount.source, {"name": mount.source}
            else:
                name = next(name for n in range(len(layer.mounts) * 2) if (name := f"host-{n}") not in taken)
                taken.add(name)
                volumes[key] = name, {"name": name, "host": {"sourcePath": around.absolute(mount.source)}}
        point: Body = {"sourceVolume": volumes[key][0], "containerPath": mount.target}
        if mount.readonly:
            point["readOnly"] = True
        points.append(point)
    return [volume for _, volume in volumes.values()], points


def linux_parameters(layer: ContainerLayer) -> Body:
    given: Body = {
        "initProcessEnabled": layer.init,
        "sharedMemorySize": layer.shm_mib,
        "maxSwap": layer.swap_mib,
        "swappiness": layer.swappiness,
    }
    found = {key: value for key, value in given.items() if value is not None}
    if layer.tmpfs:
        found["tmpfs"] = [
            {"containerPath": each.target, "size": each.size_mib, "mountOptions": list(each.options)}
            for each in layer.tmpfs.values()
        ]
    if layer.devices:
        found["devices"] = [
            {"hostPath": each.host, "containerPath": each.target, "permissions": [_WORDS[x] for x in each.permissions]}
            for each in layer.devices.values()
        ]
    return found


def retry_strategy(policy: RetryPolicy) -> Body:
    body: Body = {"attempts": policy.attempts}
    if policy.backoff_last_ms:
        body["backoff"] = f"{policy.backoff_first_ms}ms..{policy.backoff_last_ms}ms"
    if policy.rules:
        rules: list[Body] = []
        for rule in policy.rules:
            each: Body = {"action": rule.action.value}
            for key, value in (
                ("onExitCode", rule.exit_code),
                ("onReason", rule.reason),
                ("onStatusReason", rule.status_reason),
            ):
                if value is not None:
                    each[key] = value
            if rule.memory_factor is not None:
                each["memory"] = f"x{rule.memory_factor:g}"
            rules.append(each)
        body["evaluateOnExit"] = rules
    return body


def fake_object(script: FakeScript) -> Body:
    body: Body = {"exit": script.exit_code, "ignores_term": script.ignores_term, "lost": script.lost}
    if script.duration_ms:
        body["duration"] = f"{script.duration_ms}ms"
    if script.output:
        body["output"] = script.output
    for key, value in (("reason", script.reason), ("launch_error", script.launch_error)):
        if value is not None:
            body[key] = value
    for key, scripts in (("by_index", script.by_index), ("by_attempt", script.by_attempt)):
        if scripts:
            body[key] = {str(number): fake_object(each) for number, each in scripts.items()}
    return body


def seconds(ms: int) -> int | str:
    """Whole seconds, as AWS has them; a part of one only where the file asked for it."""
    return ms // 1000 if ms % 1000 == 0 else f"{ms}ms"
