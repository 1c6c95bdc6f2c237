"""What is held of an environment and of its nodes, and what the host guard leaves of the machine.

The guard (aws-batch.md §10.3): everything that runs on this machine shares it, so that the sum of what all environments hold never
exceeds the host. What an environment's `min_vcpus` keeps for it is out of reach of the other on-demand ones, idle or not; Spot
may borrow it, and gives it back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment
from flowbatch.model.places import Node, PlaceStatus
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EnvironmentRow

NOTHING = Resources()


@dataclass(slots=True, eq=False)
class Holdings:
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
            self.sum = NOTHING
            for shape, count in self.held.items():
                self.sum = self.sum.plus(shape.times(count))
        return self.sum


@dataclass(slots=True, eq=False)
class NodeState(Holdings):
    spec: Node = field(kw_only=True)

    def free(self) -> Resources:
        return self.spec.capacity.minus(self.used)


@dataclass(slots=True, eq=False)
class EnvironmentState(Holdings):
    """An environment, and what runs in it. Of an UNMANAGED one each node counts for itself too."""

    spec: Environment = field(kw_only=True)
    declared: Environment | None = None
    status: PlaceStatus = PlaceStatus.VALID
    updated_at: Millis | None = None
    replace_at: Millis | None = None
    nodes: dict[str, NodeState] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.follow_nodes()

    @property
    def name(self) -> str:
        return self.spec.name

    def free(self) -> Resources:
        return self.spec.total().minus(self.used)

    def follow_nodes(self) -> None:
        """The nodes are those of the spec. One that is gone from there must hold nothing."""
        self.nodes = {node.name: self.nodes.get(node.name) or NodeState(spec=node) for node in self.spec.nodes}
        for node in self.spec.nodes:
            self.nodes[node.name].spec = node

    def take(self, row: EnvironmentRow) -> None:
        """It is what the row says now; what runs in it stays. A node that still holds something stays too, draining."""
        kept = tuple(
            replace(node.spec, draining=True)
            for name, node in self.nodes.items()
            if node.live and all(name != each.name for each in row.spec.nodes)
        )
        self.spec = replace(row.spec, nodes=(*row.spec.nodes, *kept)) if kept else row.spec
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
