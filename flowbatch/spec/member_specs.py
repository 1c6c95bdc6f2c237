"""Settled nodes and containers, made into what the engine runs; what must agree between them is judged here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from flowbatch.model.container import HOLDER_IMAGE, Container, Pull
from flowbatch.model.jobspec import After, FakeScript, JobSpec, Members, NodeGroup, Part
from flowbatch.model.resources import Resources
from flowbatch.spec.findings import Findings
from flowbatch.spec.layers import Layer, merged
from flowbatch.spec.members import TaskLayer, part_layers, plain, spans
from flowbatch.spec.positions import Path

FOR_EVER_MS: Final = 10**12  # of a script; it is stopped with the others
GRACE_MS: Final = 0  # nothing of a holder's own is lost

Program = Callable[[Layer], JobSpec]


def members_of(layer: Layer, program: Program, findings: Findings) -> Members | None:
    """None where something is wrong with them; reported."""
    before = len(findings.problems)
    if layer.nodes is None:
        assert layer.task is not None
        parts = parts_of(layer.task, plain(layer), program, findings)
        members = Members((NodeGroup(0, 0, parts, layer.task.share_ipc, layer.task.share_pid),))
        at = layer.task.at
    else:
        members = Members(tuple(groups_of(layer, program, findings)), layer.nodes.count, layer.nodes.main)
        at = layer.nodes.at
        judge_networks(members, at, findings)
    judge_kinds(members, at, findings)
    return members if members.groups and len(findings.problems) == before else None


def groups_of(layer: Layer, program: Program, findings: Findings) -> list[NodeGroup]:
    assert layer.nodes is not None
    made: dict[int, tuple[tuple[Part, ...], bool, bool]] = {}
    found = []
    for first, last, group in spans(layer.nodes, findings):
        if id(group) not in made:
            over, task = merged(group.layer, plain(layer)), group.task
            if task is None:
                made[id(group)] = ((Part("", program(over)),), False, False)
            else:
                made[id(group)] = (parts_of(task, over, program, findings), task.share_ipc, task.share_pid)
        found.append(NodeGroup(first, last, *made[id(group)]))
    return found


def parts_of(task: TaskLayer, under: Layer, program: Program, findings: Findings) -> tuple[Part, ...]:
    """And, of several containers, the one that holds their network, on whose start all of them depend."""
    places = {part.name: place for place, part in enumerate(task.parts)}
    specs = [program(layer) for layer in part_layers(task, under)]
    boxes = [spec.container for spec in specs if spec.container is not None]
    networks = {box.network for box in boxes}
    if len(networks) > 1:
        findings.problem(
            task.at, f"its containers share one network, and these are several: {', '.join(sorted(networks))}"
        )
    held = len(specs) > 1 and bool(boxes) and "host" not in networks
    first = (After(len(specs)),) if held else ()
    parts = [
        Part(
            part.name, spec, part.essential,
            first + tuple(After(places[each.container], each.condition) for each in part.after if each.container in places),
            part.start_timeout_ms,
        )
        for part, spec in zip(task.parts, specs, strict=True)
    ]  # fmt: skip
    return (*parts, holder(specs[0], networks.pop())) if held else tuple(parts)


def holder(like: JobSpec, network: str) -> Part:
    """Does nothing, for as long as the task lasts; the network that the containers share is its own."""
    container = Container(HOLDER_IMAGE, Pull.NEVER, readonly=True, init=False, network=network)
    spec = replace(
        like, command=(), resources=Resources(), env=(), secrets=(), parameters=(), workdir="", stop_grace_ms=GRACE_MS,
        container=container, user=None, fake=FakeScript(duration_ms=FOR_EVER_MS),
    )  # fmt: skip
    return Part("", spec, essential=False, holder=True)


def judge_kinds(members: Members, at: Path, findings: Findings) -> None:
    kinds = {part.spec.container is None for group in members.groups for part in group.parts}
    if len(kinds) > 1:
        findings.problem(
            at, "some have an `image` and some have none; all are containers, or all are processes", at_key=True
        )
    processes = kinds == {True}
    if processes and any(group.share_ipc or group.share_pid for group in members.groups):
        findings.problem(
            at, "ipcMode and pidMode belong to containers, and these are processes; leave them out", at_key=True
        )


def judge_networks(members: Members, at: Path, findings: Findings) -> None:
    for group in members.groups:
        for part in group.parts:
            box = part.spec.container
            if box is not None and box.network != "bridge":
                said = (
                    f"nodes reach each other over a network of their own, not over {box.network}; leave `network` out"
                )
                findings.problem(at, said, at_key=True)
                return


def principal_of(members: Members) -> JobSpec:
    """What stands for the whole in a line: the first essential program of the main node."""
    groups = [group for group in members.groups if group.first <= members.main <= group.last] or list(members.groups)
    return next((part.spec for part in groups[0].parts if part.essential), groups[0].parts[0].spec)


def total_of(members: Members) -> Resources:
    """Of all nodes and containers together: what is placed, or not."""
    total = Resources()
    for group in members.groups:
        total = total.plus(sum_of(group.parts).times(group.last - group.first + 1))
    return total


def sum_of(parts: Sequence[Part]) -> Resources:
    total = Resources()
    for part in parts:
        total = total.plus(part.spec.resources)
    return total
