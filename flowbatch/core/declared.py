"""What the settings declare, held against what is stored.

A change made by a command lasts until the settings' own value of that field changes: stored beside each object is what the
settings said last, and only what they say otherwise now is taken over. What they declare no more goes once nothing uses it; what
a command deleted stays deleted while they declare it unchanged. What a command made is none of their business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.places import Node, PlaceStatus
from flowbatch.model.rows import EnvironmentRow, QueueRow

Spec = TypeVar("Spec", Environment, Queue)
Row = TypeVar("Row", EnvironmentRow, QueueRow)


def reconciled(
    stored: Mapping[str, Row],
    declared: Iterable[Spec],
    take: Callable[[Row | None, Spec], Row],
    in_use: Callable[[str], bool],
) -> dict[str, Row | None]:
    """What changes: name → the new row, None where it goes. `take` makes the row of what is declared."""
    changes: dict[str, Row | None] = {}
    names = set()
    for spec in declared:
        names.add(spec.name)
        row = stored.get(spec.name)
        if row is None or row.declared != spec:
            changes[spec.name] = take(None if row is not None and row.status is PlaceStatus.DELETED else row, spec)
    for name, row in stored.items():
        if name not in names and row.declared is not None and not in_use(name):
            changes[name] = None
    return changes


def take_environment(row: EnvironmentRow | None, spec: Environment) -> EnvironmentRow:
    if row is None:
        return EnvironmentRow(spec.name, spec, spec, PlaceStatus.VALID)
    if row.declared is None:
        return row._replace(spec=spec, declared=spec)
    nodes = merged_nodes(row.spec.nodes, row.declared.nodes, spec.nodes)
    return row._replace(spec=replace(row.spec, **{**differences(row.declared, spec), "nodes": nodes}), declared=spec)


def take_queue(row: QueueRow | None, spec: Queue) -> QueueRow:
    if row is None:
        return QueueRow(spec.name, spec, spec, PlaceStatus.VALID)
    if row.declared is None:
        return row._replace(spec=spec, declared=spec)
    said = differences(row.declared, spec)
    if "policy" in said:
        said["policy_name"] = ""  # it is the settings' own again
    if "environments" in said:
        said["orders"] = ()
    return row._replace(spec=replace(row.spec, **said), declared=spec)


def differences(before: Spec, after: Spec) -> dict[str, Any]:
    """The fields that are declared otherwise now."""
    names = after.__struct_fields__
    return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


def merged_nodes(current: tuple[Node, ...], before: tuple[Node, ...], after: tuple[Node, ...]) -> tuple[Node, ...]:
    """Node by node; those of the settings first, in their order, then those that a command added."""
    held, old, new = ({node.name: node for node in nodes} for nodes in (current, before, after))
    names = [*new, *(name for name in held if name not in new)]
    found = (new.get(name) if new.get(name) != old.get(name) else held.get(name) for name in names)
    return tuple(node for node in found if node is not None)


def environments_of(stored: Mapping[str, EnvironmentRow], declared: Iterable[Environment]) -> tuple[Environment, ...]:
    """What a new run may use in a life that begins with these settings."""
    changes = reconciled(stored, declared, take_environment, lambda _: False)
    return tuple(row.spec for row in {**stored, **changes}.values() if row is not None and usable(row.status))


def queues_of(stored: Mapping[str, QueueRow], declared: Iterable[Queue]) -> tuple[Queue, ...]:
    changes = reconciled(stored, declared, take_queue, lambda _: False)
    return tuple(row.spec for row in {**stored, **changes}.values() if row is not None and usable(row.status))


def usable(status: PlaceStatus) -> bool:
    return status in (PlaceStatus.VALID, PlaceStatus.UPDATING)
