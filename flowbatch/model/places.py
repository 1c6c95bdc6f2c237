"""What environments and queues have beyond the jobs they take: their kinds, their nodes, how they stand."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from flowbatch.model.resources import Resources

SPOT_NOTICE_MS: Final = 120_000  # as EC2 gives it
SCALE_DOWN_MS: Final = 60_000
QUEUE_ENVIRONMENTS_MAX: Final = 3  # aws-batch.md §15
HERE: Final = "local"  # the endpoint of a node that is this machine
ELSEWHERE: Final = "docker@"  # before the endpoint: the backend of containers on a node that is not


class EnvironmentType(StrEnum):
    """Who decides how much there is: flowbatch, between the minimum and the maximum; or the user, who registers nodes."""

    MANAGED = "MANAGED"
    UNMANAGED = "UNMANAGED"


class PlaceStatus(StrEnum):
    """Of an environment or a queue (aws-batch.md §9.1, §10.1). DELETED ones are remembered while the settings declare them."""

    VALID = "VALID"
    UPDATING = "UPDATING"
    DELETING = "DELETING"
    DELETED = "DELETED"


class Node(Struct, frozen=True):
    """A piece of capacity that the user registered; a task must fit one."""

    name: str
    capacity: Resources
    endpoint: str = HERE
    draining: bool = False  # nothing new starts there

    @property
    def here(self) -> bool:
        """Whether it is this machine, or the Docker Engine that this machine uses."""
        return self.endpoint == HERE

    def backend(self, kind: str) -> str:
        """What runs here a job that the environment would give to the backend `kind`: each Engine is one of its own."""
        return kind if self.here or kind == "fake" else ELSEWHERE + self.endpoint


def is_of_run(name: str) -> bool:
    """Whether an environment or a queue belongs to a run alone, and goes with it."""
    return "/" in name
