"""What AWS refuses, and a workflow file may say: for its API, where that is strict. Sections are those of aws-batch.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowbatch.spec.member_schema import span_of

if TYPE_CHECKING:
    from flowbatch.model.jobspec import JobSpec

OVERRIDES_SIZE_MAX: Final = 8192  # characters of the overrides that AWS passes on
TIMEOUT_S_MIN: Final = 60
MEMORY_MIB_MIN: Final = 4
PROPERTIES: Final[Mapping[str, Sequence[str]]] = {
    "container": ("containerProperties", "ecsProperties", "eksProperties"),
    "multinode": ("nodeProperties",),
}
NAMES: Final = tuple(name for names in PROPERTIES.values() for name in names)


def job_objection(spec: JobSpec) -> str | None:
    """To a job about to be submitted (§15)."""
    if spec.timeout_ms is not None and spec.timeout_ms < TIMEOUT_S_MIN * 1000:
        return too_short(spec.timeout_ms // 1000)
    length = sum(map(len, spec.command)) + sum(len(name) + len(value) for name, value in spec.env)
    if length > OVERRIDES_SIZE_MAX:
        return f"Container Overrides length must be at most {OVERRIDES_SIZE_MAX}, and command and environment have {length}"
    return None


def too_short(seconds: int) -> str:
    return f"timeout.attemptDurationSeconds must be at least {TIMEOUT_S_MIN}, and {seconds} is not"


def definition_objection(body: Mapping[str, Any]) -> str | None:
    """The first that there is to a job definition whose shape has been judged already."""
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
    yield from hasty(body.get("timeout"))
    nodes = body.get("nodeProperties") or {}
    yield from uncovered(nodes)
    for path, together in boxes(body, nodes):
        yield from lacking(path, together)


def hasty(timeout: object) -> Iterator[str]:
    """§5. A workflow file's `timeout: 30m` is no AWS's, nor is a part of a second."""
    if timeout is None:
        return
    seconds = timeout.get("attemptDurationSeconds") if isinstance(timeout, Mapping) else None
    if type(seconds) is not int:
        yield 'timeout must be {"attemptDurationSeconds": SECONDS}, with a whole number of them'
    elif seconds < TIMEOUT_S_MIN:
        yield too_short(seconds)


def boxes(body: Mapping[str, Any], nodes: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Containers that run together, with where they stand: one, or those of a task."""
    if isinstance(box := body.get("containerProperties"), Mapping):
        yield "containerProperties", [box]
    yield from of_tasks("ecsProperties", body)
    for at, group in enumerate(nodes.get("nodeRangeProperties") or ()):
        path = f"nodeProperties.nodeRangeProperties[{at}]"
        if isinstance(box := group.get("container"), Mapping):
            yield f"{path}.container", [box]
        yield from of_tasks(f"{path}.ecsProperties", group)


def of_tasks(path: str, holder: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    for at, task in enumerate((holder.get("ecsProperties") or {}).get("taskProperties") or ()):
        yield f"{path}.taskProperties[{at}].containers", task.get("containers") or ()


def lacking(path: str, together: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """§6.4, of what is a container: what runs as a process may have no image here, and no size."""
    sizes = [sizes_of(box) for box in together if box.get("image")]
    for name in ("VCPU", "MEMORY"):
        if sizes and not any(name in size for size in sizes):
            yield f"{path}.resourceRequirements: {name} is needed"
    for size in sizes:
        memory = size.get("MEMORY", "")
        if memory.isdigit() and int(memory) < MEMORY_MIB_MIN:
            yield f"{path}.resourceRequirements: MEMORY must be at least {MEMORY_MIB_MIN} (MiB), and {memory} is not"


def sizes_of(box: Mapping[str, Any]) -> dict[str, str]:
    """By type; those with deprecated keys of their own count."""
    old = {"VCPU": box.get("vcpus"), "MEMORY": box.get("memory")}
    found = {name: str(value) for name, value in old.items() if value is not None}
    return found | {each["type"]: str(each["value"]) for each in box.get("resourceRequirements") or ()}


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
