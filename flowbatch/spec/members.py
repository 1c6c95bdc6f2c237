"""Node groups and containers of a layer: settled from both spellings, judged, and made into the layers of what each of them runs.

What a group or a container does not say it takes from its job, as a job does from its definition (`layers.merged`); the job's own
command goes to nodes, and not to containers, each of which has one of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.jobspec import Condition
from flowbatch.spec import layers
from flowbatch.spec.containers import ContainerLayer
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer, merged
from flowbatch.spec.member_schema import (
    AfterModel,
    AwsNodesModel,
    EcsContainerModel,
    EcsOverridesModel,
    GroupModel,
    NodesModel,
    PartModel,
    span_of,
)
from flowbatch.spec.positions import Path
from flowbatch.spec.schema import LayerModel
from flowbatch.spec.token_schema import AwsDemandsModel

WHOLE: Final = ":"


class AfterLayer(Struct, frozen=True):
    container: str
    condition: Condition
    at: Path


class PartLayer(Struct):
    name: str
    layer: Layer
    at: Path
    essential: bool = True
    after: list[AfterLayer] = field(default_factory=list)
    start_timeout_ms: int | None = None


class TaskLayer(Struct):
    parts: list[PartLayer]
    at: Path
    share_ipc: bool = False
    share_pid: bool = False


class GroupLayer(Struct):
    text: str  # its range as it was written
    layer: Layer
    at: Path
    task: TaskLayer | None = None
    tokens: dict[str, int] = field(default_factory=dict)  # of each of its nodes


class NodesLayer(Struct):
    count: int
    main: int
    groups: list[GroupLayer]
    at: Path


# --- from the file


def settle(model: LayerModel, origin: Path, findings: Findings) -> Layer:
    """A job, a definition or the defaults, with all that it says of nodes and containers."""
    layer = layers.settle(model, origin, findings)
    if model.nodes is not None:
        layer.nodes = nodes_of(model.nodes, (*origin, "nodes"), "groups", findings)
    if model.node_properties is not None:
        if model.nodes is not None:
            findings.problem((*origin, "nodeProperties"), "says the same as 'nodes'; give one of them", at_key=True)
        layer.nodes = nodes_of(model.node_properties, (*origin, "nodeProperties"), "nodeRangeProperties", findings)
    layer.task = task_of(model, origin, findings)
    if layer.nodes is not None and layer.task is not None:
        findings.problem(layer.task.at, "of a job of several nodes, give the containers in its groups", at_key=True)
        layer.task = None
    if model.node_overrides is not None:
        layer.node_overrides = model.node_overrides
    if model.ecs_overrides is not None:
        layer.ecs_overrides = model.ecs_overrides
    return layer


def nodes_of(model: NodesModel | AwsNodesModel, at: Path, key: str, findings: Findings) -> NodesLayer:
    groups = [group_of(each, (*at, key, index), findings) for index, each in enumerate(model.groups or ())]
    if model.main >= model.count:
        said = f"the main node is one of 0 to {model.count - 1}, found {model.main}"
        findings.problem((*at, "main" if isinstance(model, NodesModel) else "mainNode"), said)
    return NodesLayer(model.count, model.main, groups or [GroupLayer(WHOLE, Layer((at,)), at)], at)


def group_of(model: GroupModel, at: Path, findings: Findings) -> GroupLayer:
    if model.range is not None and model.target_nodes is not None:
        findings.problem((*at, "targetNodes"), "says the same as 'range'; give one of them", at_key=True)
    text = model.range if model.range is not None else model.target_nodes
    if text is None:
        findings.problem(at, "needs a `range`: the nodes that it is about, such as '1:' or 0")
    layer = layers.settle_program(model, at, findings)
    if model.container is not None:
        layers.settle_container(model.container, layer, model.model_fields_set, (*at, "container"), findings)
    tokens = model.tokens or {}
    if model.consumable_resources is not None:
        if model.tokens is not None:
            said = "says the same as 'tokens'; give one of them"
            findings.problem((*at, "consumableResourceProperties"), said, at_key=True)
        tokens = demand_of(model.consumable_resources, (*at, "consumableResourceProperties"), findings)
    return GroupLayer(text or WHOLE, layer, at, task_of(model, at, findings), tokens)


def demand_of(model: AwsDemandsModel, at: Path, findings: Findings) -> dict[str, int]:
    try:
        return model.demand()
    except ValueError as error:
        findings.problem((*at, "consumableResourceList"), str(error))
        return {}


def task_of(holder: LayerModel | GroupModel, at: Path, findings: Findings) -> TaskLayer | None:
    short, aws = holder.containers, holder.ecs_properties
    task: TaskLayer | None = None
    if short is not None:
        base = (*at, "containers")
        parts = [part_of(each, (*base, index), findings) for index, each in enumerate(short)]
        task = TaskLayer(parts, base, holder.shared_ipc is True, holder.shared_pid is True)
    for key in ("shared_ipc", "shared_pid"):
        if short is None and getattr(holder, key) is not None:
            findings.problem((*at, key), "is what several `containers` share; leave it out", at_key=True)
    if aws is not None:
        base = (*at, "ecsProperties", "taskProperties", 0)
        if task is not None:
            findings.problem((*at, "ecsProperties"), "says the same as 'containers'; give one of them", at_key=True)
        [model] = aws.tasks
        parts = [
            ecs_part(each.model_copy(update={"volumes": model.volumes}), (*base, "containers", index), findings)
            for index, each in enumerate(model.containers)
        ]
        task = TaskLayer(parts, base, model.ipc_mode == "task", model.pid_mode == "task")
    if task is not None:
        judge_task(task, findings)
    return task


def part_of(model: PartModel, at: Path, findings: Findings) -> PartLayer:
    key, models = ("needs", model.needs) if model.needs is not None else ("dependsOn", model.depends_on)
    timeout_ms = model.start_timeout
    if model.start_timeout_s is not None:
        if timeout_ms is not None:
            findings.problem((*at, "startTimeout"), "says the same as 'start_timeout'; give one of them", at_key=True)
        timeout_ms = model.start_timeout_s * 1000
    layer = layers.settle_program(model, at, findings)
    return PartLayer(model.name, layer, at, model.essential, after_of(models, (*at, key), findings), timeout_ms)


def ecs_part(model: EcsContainerModel, at: Path, findings: Findings) -> PartLayer:
    layer = Layer((at,))
    layer.container = ContainerLayer()
    layers.settle_container(model, layer, set(), at, findings)
    if model.stop_timeout is not None:
        layer.stop_grace_ms = model.stop_timeout * 1000
    timeout_ms = None if model.start_timeout_s is None else model.start_timeout_s * 1000
    after = after_of(model.depends_on, (*at, "dependsOn"), findings)
    return PartLayer(model.name, layer, at, model.essential, after, timeout_ms)


def after_of(models: Iterable[AfterModel] | None, at: Path, findings: Findings) -> list[AfterLayer]:
    found = []
    for index, model in enumerate(models or ()):
        name = model.container if model.container is not None else model.container_name
        if name is None or (model.container is not None and model.container_name is not None):
            findings.problem((*at, index), "names one container: {container: db, when: success}")
            continue
        if model.when is not None and model.condition is not None:
            findings.problem((*at, index, "condition"), "says the same as 'when'; give one of them", at_key=True)
        found.append(AfterLayer(name, Condition(model.when or model.condition or "START"), (*at, index)))
    return found


# --- what is wrong with it


def judge_task(task: TaskLayer, findings: Findings) -> None:
    """aws-batch.md §6.6."""
    parts: dict[str, PartLayer] = {}
    for part in task.parts:
        if part.name in parts:
            findings.problem(part.at, f"two containers have the name {part.name!r}; each has its own")
        parts[part.name] = part
    if not any(part.essential for part in task.parts):
        findings.problem(task.at, "no container is essential; the task ends with one that is", at_key=True)
    for part in task.parts:
        for each in part.after:
            needed = parts.get(each.container)
            if needed is None or needed is part:
                findings.unknown(each.at, "container", each.container, [name for name in parts if name != part.name])
            elif needed.essential and each.condition is not Condition.START:
                said = f"{needed.name} is essential: its end is that of the task; wait for its start, or set `essential: false` there"
                findings.problem(each.at, said)
        if part.start_timeout_ms is not None and not part.after:
            findings.warn(part.at, f"{part.name} waits for no container, so that its start timeout means nothing")
    cycle = cycle_of(parts)
    if cycle:
        findings.problem(parts[cycle[0]].at, f"containers wait for each other: {' → '.join(cycle)}")


def cycle_of(parts: dict[str, PartLayer]) -> list[str]:
    """Names along a cycle, its first at both ends; empty where there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done or name not in parts:
            return []
        for each in parts[name].after:
            if each.container != name and (found := walk(each.container, [*path, name])):
                return found
        done.add(name)
        return []

    return next((found for name in parts if (found := walk(name, []))), [])


def spans(nodes: NodesLayer, findings: Findings) -> list[tuple[int, int, GroupLayer]]:
    """Which nodes are of which group, in order: of nested ranges the inner one wins. Wrong ones are told (aws-batch.md §8.1)."""
    last = nodes.count - 1
    ranges: list[tuple[int, int, GroupLayer]] = []
    for group in nodes.groups:
        low, high = span_of(group.text)
        high = last if high is None else high
        if high > last or low > last:
            findings.problem(group.at, f"the range {group.text!r} goes beyond the last node, which is {last}")
            continue
        for other_low, other_high, other in ranges:
            if (low, high) == (other_low, other_high):
                findings.problem(group.at, f"the range {group.text!r} is that of {other.text!r} again")
            elif low < other_low <= high < other_high or other_low < low <= other_high < high:
                said = (
                    f"the ranges {other.text!r} and {group.text!r} overlap; one must lie within the other, or beside it"
                )
                findings.problem(group.at, said)
        ranges.append((low, high, group))
    found: list[tuple[int, int, GroupLayer]] = []
    missing: list[int] = []
    for node in range(nodes.count):
        around = [each for each in ranges if each[0] <= node <= each[1]]
        if not around:
            missing.append(node)
            continue
        group = min(around, key=lambda each: each[1] - each[0])[2]
        if found and found[-1][2] is group and found[-1][1] == node - 1:
            found[-1] = (found[-1][0], node, group)
        else:
            found.append((node, node, group))
    if missing:
        findings.problem(nodes.at, f"no group is about node {missing[0]}; together they cover 0 to {last}")
    return found


def needs_tokens(layer: Layer) -> bool:
    return bool(layer.tokens) or (layer.nodes is not None and any(group.tokens for group in layer.nodes.groups))


def demand(layer: Layer, findings: Findings) -> dict[str, int]:
    """The tokens that a task of the job holds: its own, and those of its nodes, which start and end together."""
    found = dict(layer.tokens or {})
    if layer.nodes is not None and needs_tokens(layer):
        for first, last, group in spans(layer.nodes, findings):
            for name, quantity in group.tokens.items():
                found[name] = found.get(name, 0) + quantity * (last - first + 1)
    return found


# --- overrides


def overridden(layer: Layer, findings: Findings) -> None:
    """ecsPropertiesOverride of the job, upon the containers of its definition (aws-batch.md §6.3), and nodeOverrides upon its nodes
    (§8.1)."""
    if layer.ecs_overrides is not None:
        layer.task = over_task(layer.task, layer.ecs_overrides, (*layer.origins[0], "ecsPropertiesOverride"), findings)
    override_nodes(layer, findings)


def over_task(task: TaskLayer | None, overrides: EcsOverridesModel, at: Path, findings: Findings) -> TaskLayer | None:
    """Containers are found by their names."""
    if task is None:
        findings.problem(
            at, "there are no containers of its own to override; it belongs to a definition that has some", at_key=True
        )
        return None
    parts = {part.name: part for part in task.parts}
    [model] = overrides.tasks
    for index, each in enumerate(model.containers):
        where: Path = (*at, "taskProperties", 0, "containers", index)
        part = parts.get(each.name)
        if part is None:
            findings.unknown((*where, "name"), "container", each.name, list(parts))
            continue
        over = Layer((where,))
        layers.settle_container(each, over, set(), where, findings)
        parts[each.name] = replace(part, layer=merged(over, part.layer))
    return replace(task, parts=list(parts.values()))


def override_nodes(layer: Layer, findings: Findings) -> None:
    overrides, nodes = layer.node_overrides, layer.nodes
    if overrides is None:
        return
    at: Path = (*layer.origins[0], "nodeOverrides")
    if nodes is None:
        findings.problem(at, "the job is no multi-node job; it belongs to one with `nodes`", at_key=True)
        return
    count, open_range = nodes.count, any(span_of(group.text)[1] is None for group in nodes.groups)
    if overrides.count is not None and overrides.count != nodes.count:
        if not open_range:
            findings.problem(
                (*at, "numNodes"), "the number of nodes can change only where a range is open, such as '1:'"
            )
        elif nodes.main >= overrides.count or any(span_of(g.text)[0] >= overrides.count for g in nodes.groups):
            findings.problem(
                (*at, "numNodes"), f"the main node and the start of every range must be below {overrides.count}"
            )
        else:
            count = overrides.count
    groups = {group.text: group for group in nodes.groups}
    for index, each in enumerate(overrides.groups or ()):
        where = (*at, "nodePropertyOverrides", index)
        group = groups.get(each.target_nodes)
        if group is None:
            said = f"NodeOverride targets should match job definition. Non matching targets - {each.target_nodes}"
            findings.problem((*where, "targetNodes"), said)
            continue
        if each.container_overrides is not None:
            over = Layer((where,))
            layers.settle_container(each.container_overrides, over, set(), (*where, "containerOverrides"), findings)
            group = replace(group, layer=merged(over, group.layer))
        if each.ecs_overrides is not None:
            task = over_task(group.task, each.ecs_overrides, (*where, "ecsPropertiesOverride"), findings)
            group = replace(group, task=task)
        if each.consumable_resources is not None:
            at_tokens = (*where, "consumableResourcePropertiesOverride")
            group = replace(group, tokens=demand_of(each.consumable_resources, at_tokens, findings))
        groups[each.target_nodes] = group
    layer.nodes = NodesLayer(count, nodes.main, list(groups.values()), nodes.at)


# --- what is run


def plain(layer: Layer) -> Layer:
    """The job's part of each of its nodes."""
    return replace(layer, nodes=None, task=None, node_overrides=None, ecs_overrides=None)


def part_layers(task: TaskLayer, under: Layer) -> list[Layer]:
    under = replace(under, command=None)
    return [merged(part.layer, under) for part in task.parts]


def programs(layer: Layer) -> list[Layer]:
    """The layers of all that a job runs: its own, or those of its nodes and containers."""
    if layer.nodes is not None:
        found = []
        for group in layer.nodes.groups:
            over = merged(group.layer, plain(layer))
            found += [over] if group.task is None else part_layers(group.task, over)
        return found
    return [layer] if layer.task is None else part_layers(layer.task, plain(layer))


__all__ = ["GroupLayer", "NodesLayer", "PartLayer", "TaskLayer", "overridden", "programs", "settle", "spans"]
