"""What AWS refuses of a job definition, and a workflow file may say: for its API, where that is strict.

The definition's shape has been judged already. Sections are those of aws-batch.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from flowbatch.spec.member_schema import span_of

TIMEOUT_S_MIN: Final = 60
MEMORY_MIB_MIN: Final = 4
PROPERTIES: Final[Mapping[str, Sequence[str]]] = {
    "container": ("containerProperties", "ecsProperties", "eksProperties"),
    "multinode": ("nodeProperties",),
}
NAMES: Final = tuple(name for names in PROPERTIES.values() for name in names)


def definition_objection(body: Mapping[str, Any]) -> str | None:
    """The first that there is, in words for the caller."""
    return next(objections(body), None)


def objections(body: Mapping[str, Any]) -> Iterator[str]:
    kind = body.get("type")
    wanted = PROPERTIES.get(str(kind))
    if wanted is None:
        yield (
            f"type must be container or multinode, found {kind!r}" if kind else "type is needed: container or multinode"
        )
        return
    given = [name for name in NAMES if body.get(name) is not None]
    if len(given) != 1 or given[0] not in wanted:  # §6.1
        found = f"found {' and '.join(given)}" if given else "there is none"
        yield f"a job definition of type {kind} has {' or '.join(wanted)}, and {found}"
    timeout = (body.get("timeout") or {}).get("attemptDurationSeconds")
    if isinstance(timeout, int) and timeout < TIMEOUT_S_MIN:  # §5
        yield f"timeout.attemptDurationSeconds must be at least {TIMEOUT_S_MIN}, and {timeout} is not"
    nodes = body.get("nodeProperties") or {}
    yield from uncovered(nodes)
    for path, box in boxes(body, nodes):
        yield from lacking(path, box)


def boxes(body: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(box := body.get("containerProperties"), Mapping):
        yield "containerProperties", box
    for at, group in enumerate(nodes.get("nodeRangeProperties") or ()):
        if isinstance(box := group.get("container"), Mapping):
            yield f"nodeProperties.nodeRangeProperties[{at}].container", box


def lacking(path: str, box: Mapping[str, Any]) -> Iterator[str]:
    """§6.4, of what is a container: what runs as a process may have no image here, and no size."""
    if not box.get("image"):
        return
    sizes = {each["type"]: each["value"] for each in box.get("resourceRequirements") or ()}
    for name, deprecated in (("VCPU", "vcpus"), ("MEMORY", "memory")):
        if name not in sizes and box.get(deprecated) is None:
            yield f"{path}.resourceRequirements: {name} is needed"
    memory = str(sizes.get("MEMORY", box.get("memory", MEMORY_MIB_MIN)))
    if memory.isdigit() and int(memory) < MEMORY_MIB_MIN:
        yield f"{path}.resourceRequirements: MEMORY must be at least {MEMORY_MIB_MIN} (MiB), and {memory} is not"


def uncovered(nodes: Mapping[str, Any]) -> Iterator[str]:
    """§8.1: the ranges together cover all nodes."""
    count, groups = nodes.get("numNodes"), nodes.get("nodeRangeProperties")
    if not isinstance(count, int) or not groups:
        return
    spans = [span_of(str(group["targetNodes"])) for group in groups if "targetNodes" in group]
    at = 0
    for first, last in sorted((first, count - 1 if last is None else last) for first, last in spans):
        if first > at:
            break
        at = max(at, last + 1)
    if at < count:
        yield f"nodeProperties.nodeRangeProperties: the ranges must cover all nodes, and node {at} is in none of them"
