"""What a file says of environments, judged and made into what the engine knows."""

from __future__ import annotations

from flowbatch.model.container import Cpu
from flowbatch.model.jobspec import Environment
from flowbatch.model.places import HERE, SCALE_DOWN_MS, SPOT_NOTICE_MS, EnvironmentType, Node
from flowbatch.model.resources import Resources, vcpus_text
from flowbatch.spec.environment_schema import EnvironmentModel, NodeModel
from flowbatch.spec.findings import Findings
from flowbatch.spec.positions import Path

NONE_OF_UNMANAGED = ("vcpus", "max_vcpus", "min_vcpus", "memory", "gpus", "scale_down")


def environment_of(name: str, model: EnvironmentModel, machine: Resources) -> Environment:
    """What the model leaves out is the machine's."""
    kind = EnvironmentType(model.type)
    capacity, nodes = Resources(), tuple[Node, ...]()
    if kind is EnvironmentType.MANAGED:
        capacity = capacity_of(model, machine)
    else:
        nodes = tuple(node_of(each, node, machine) for each, node in (model.nodes or {}).items())
    return Environment(
        name=name,
        backend=model.backend,
        capacity=capacity,
        enabled=model.state is not False,
        title=name,
        cpu=Cpu(model.cpu),
        type=kind,
        spot=model.spot,
        notice_ms=SPOT_NOTICE_MS if model.notice is None else model.notice,
        min_vcpus_milli=model.min_vcpus or 0,
        scale_down_ms=SCALE_DOWN_MS if model.scale_down is None else model.scale_down,
        nodes=nodes,
    )


def capacity_of(model: EnvironmentModel, machine: Resources) -> Resources:
    vcpus_milli = model.vcpus if model.vcpus is not None else model.max_vcpus
    return Resources(
        machine.vcpus_milli if vcpus_milli is None else vcpus_milli,
        machine.memory_mib if model.memory is None else model.memory,
        model.gpus or 0,
    )


def node_of(name: str, model: NodeModel, machine: Resources) -> Node:
    memory_mib = machine.memory_mib if model.memory is None else model.memory
    return Node(name, Resources(model.vcpus, memory_mib, model.gpus), model.endpoint)


def judge_environment(name: str, model: EnvironmentModel, findings: Findings, *, of_settings: bool) -> None:
    """A workflow file names no other machine: an Engine is given the credentials of registries (security.md §6)."""
    path: Path = ("environments", name)
    if model.vcpus is not None and model.max_vcpus is not None:
        findings.problem((*path, "max_vcpus"), "says the same as 'vcpus'; give one of them", at_key=True)
    if model.type == "UNMANAGED":
        for key in NONE_OF_UNMANAGED:
            if getattr(model, key) is not None:
                text = "is for managed environments; of an unmanaged one the nodes say what there is"
                findings.problem((*path, key), text, at_key=True)
        for each, node in (model.nodes or {}).items():
            if node.endpoint == HERE:
                continue
            where: Path = (*path, "nodes", each, "endpoint")
            if not of_settings:
                text = "another Engine is declared in the settings (flowbatch.yaml) or by `flowbatch environments nodes add`"
                findings.problem(where, text)
            elif model.backend not in ("docker", "fake"):
                text = "only containers run on another Engine: the environment must have `backend: docker`"
                findings.problem(where, text)
            elif node.memory is None:
                text = "'memory' is needed: how much a machine elsewhere has is not known here"
                findings.problem((*path, "nodes", each), text)
        if model.spot:
            findings.problem((*path, "spot"), "is for managed environments", at_key=True)
        return
    if model.nodes is not None:
        findings.problem((*path, "nodes"), "are for `type: unmanaged`; give that, or leave them out", at_key=True)
    most = model.vcpus if model.vcpus is not None else model.max_vcpus
    if model.min_vcpus is not None and most is not None and model.min_vcpus > most:
        least = vcpus_text(model.min_vcpus)
        findings.problem((*path, "min_vcpus"), f"{least} is more than the most it may have, {vcpus_text(most)}")
    if model.spot and model.min_vcpus is not None:
        findings.problem(
            (*path, "min_vcpus"), "Spot keeps nothing, it has what others leave; leave it out", at_key=True
        )
    if model.notice is not None and not model.spot:
        findings.problem((*path, "notice"), "is for `spot: true`", at_key=True)
