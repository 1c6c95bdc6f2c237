"""What is held of an environment and of its nodes, and what the host guard leaves of the machine.

The guard (aws-batch.md §10.3): everything that runs on this machine shares it, so that the sum of what all environments hold never
exceeds the host (host.py).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment
from flowbatch.model.places import Node, PlaceStatus
from flowbatch.model.resources import NOTHING, Resources, sum_of
from flowbatch.model.rows import EnvironmentRow


class Holdings(Struct, eq=False):
    """What is in use is counted by shape: an attempt that ends takes one from a number, and adds up nothing."""

    live: int = 0
    held: dict[Resources, int] = field(default_factory=dict)
    sum: Resources | None = NOTHING  # of what is held; None: to be added up anew

    def hold(self, shape: Resources, count: int) -> None:
        self.live += count
        self.held[shape] = self.held.get(shape, 0) + count
        self.sum = None

    def let_go(self, shape: Resources) -> None:
        self.live -= 1
        self.sum = None
        left = self.held[shape] - 1
        if left:
            self.held[shape] = left
        else:
            del self.held[shape]

    @property
    def used(self) -> Resources:
        if self.sum is None:
            self.sum = sum_of(shape if count == 1 else shape.times(count) for shape, count in self.held.items())
        return self.sum


class NodeState(Holdings, eq=False, kw_only=True):
    spec: Node

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def here(self) -> bool:
        """Whether it is a part of this machine, so that the host guard counts it."""
        return self.spec.here

    def free(self) -> Resources:
        return self.spec.capacity.minus(self.used)


TAKING_WORK: Final = (PlaceStatus.VALID, PlaceStatus.UPDATING)
ONE_SLOT: Final[tuple[NodeState | None, ...]] = (None,)


class EnvironmentState(Holdings, eq=False, kw_only=True):
    """An environment, and what runs in it. Of an UNMANAGED one each node counts for itself too."""

    spec: Environment
    declared: Environment | None = None
    status: PlaceStatus = PlaceStatus.VALID
    updated_at: Millis | None = None
    replace_at: Millis | None = None
    nodes: dict[str, NodeState] = field(default_factory=dict)
    desired_vcpus_milli: int = 0
    idle_since: Millis | None = None  # demand is below what is desired since then
    watched: bool = False  # a timer will look at that
    lowered: bool = False  # more runs than there is, since the capacity was lowered

    def __post_init__(self) -> None:
        self.follow_nodes()

    @property
    def name(self) -> str:
        return self.spec.name

    def free(self) -> Resources:
        return self.spec.total().minus(self.used)

    @property
    def takes_work(self) -> bool:
        return self.spec.enabled and self.status in TAKING_WORK

    def slots(self) -> tuple[NodeState | None, ...]:
        """Where in it a task may be put: None is the environment itself."""
        return ONE_SLOT if self.spec.managed else tuple(self.nodes.values())

    def room(self, node: NodeState | None) -> Resources:
        """What is free there; less than nothing where the capacity was lowered below what runs."""
        return self.free() if node is None else node.free()

    def used_here(self) -> Resources:
        """What it holds of this machine."""
        if self.spec.managed:
            return self.used
        return sum_of(node.used for node in self.nodes.values() if node.here)

    def rooms_here(self) -> tuple[Resources, ...]:
        """What is declared of this machine."""
        if self.spec.managed:
            return (self.spec.capacity,)
        return tuple(node.spec.capacity for node in self.nodes.values() if node.here)

    def idle_minimum(self) -> Resources:
        """What `min_vcpus` keeps for it beyond what it uses."""
        if not self.spec.min_vcpus_milli:
            return NOTHING
        return Resources(max(0, self.spec.min_vcpus_milli - self.used.vcpus_milli))

    def follow_nodes(self) -> None:
        """The nodes are those of the spec. One that is gone from there must hold nothing."""
        self.nodes = {node.name: self.nodes.get(node.name) or NodeState(spec=node) for node in self.spec.nodes}
        for node in self.spec.nodes:
            self.nodes[node.name].spec = node

    def take(self, row: EnvironmentRow) -> None:
        """It is what the row says now; what runs in it stays. A node that still holds something stays too, draining, and where
        it is: one of that name elsewhere is another, and comes with a later declaration."""
        held = {name: replace(node.spec, draining=True) for name, node in self.nodes.items() if node.live}
        nodes = tuple(
            held[each.name] if each.name in held and held[each.name].endpoint != each.endpoint else each
            for each in row.spec.nodes
        )
        named = {each.name for each in nodes}
        kept = tuple(each for name, each in held.items() if name not in named)
        self.spec = replace(row.spec, nodes=(*nodes, *kept))
        self.declared = row.declared
        self.status = row.status
        self.updated_at, self.replace_at = row.updated_at, row.replace_at
        self.follow_nodes()

    def row(self) -> EnvironmentRow:
        return EnvironmentRow(self.name, self.spec, self.declared, self.status, self.updated_at, self.replace_at)

    @classmethod
    def of(cls, row: EnvironmentRow) -> EnvironmentState:
        return cls(
            spec=row.spec,
            declared=row.declared,
            status=row.status,
            updated_at=row.updated_at,
            replace_at=row.replace_at,
        )
