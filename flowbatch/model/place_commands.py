"""Commands that change environments, their nodes and queues. Frozen, as all stimuli are."""

from __future__ import annotations

from msgspec import Struct

from flowbatch.model.container import Cpu
from flowbatch.model.ids import Ticket
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.places import Node
from flowbatch.model.queues import FairShare, TimeLimit

Tags = tuple[tuple[str, str], ...]


class CreateEnvironment(Struct, frozen=True):
    """`desired_vcpus_milli`: what it begins with, between the minimum and the maximum."""

    ticket: Ticket
    environment: Environment
    desired_vcpus_milli: int = 0
    tags: Tags = ()


class EnvironmentChange(Struct, frozen=True):
    """What an UpdateEnvironment changes; None leaves a field alone. The first five are scaling updates, the others replace what
    the environment runs on (aws-batch.md §10.2)."""

    enabled: bool | None = None
    min_vcpus_milli: int | None = None
    max_vcpus_milli: int | None = None
    desired_vcpus_milli: int | None = None
    scale_down_ms: int | None = None
    memory_mib: int | None = None
    gpus: int | None = None
    notice_ms: int | None = None
    backend: str | None = None
    cpu: Cpu | None = None
    spot: bool | None = None
    share_vcpus_milli: int | None = None  # of an UNMANAGED one
    aws: str | None = None


class UpdateEnvironment(Struct, frozen=True):
    """`terminate_jobs` and `job_timeout_minutes` are AWS's updatePolicy: what runs on what is replaced is stopped at once and counts
    as a failed attempt, or has so many minutes left."""

    ticket: Ticket
    name: str
    change: EnvironmentChange
    terminate_jobs: bool = False
    job_timeout_minutes: int = 30


class DeleteEnvironment(Struct, frozen=True):
    ticket: Ticket
    name: str


class AddNode(Struct, frozen=True):
    """To an UNMANAGED environment; the same name again replaces what was registered, and ends its draining."""

    ticket: Ticket
    environment: str
    node: Node


class DrainNode(Struct, frozen=True):
    """Nothing new starts there; what runs ends by itself."""

    ticket: Ticket
    environment: str
    node: str


class RemoveNode(Struct, frozen=True):
    """Refused while something runs there."""

    ticket: Ticket
    environment: str
    node: str


class CreateQueue(Struct, frozen=True):
    """Where the queue has a `policy_name`, its policy is the stored one's."""

    ticket: Ticket
    queue: Queue
    tags: Tags = ()


class QueueChange(Struct, frozen=True):
    """None leaves a field alone."""

    enabled: bool | None = None
    priority: int | None = None
    environments: tuple[str, ...] | None = None
    max_running: int | None = None  # 0: no limit
    policy_name: str | None = (
        None  # of a scheduling policy: FIFO stays FIFO, and no policy is dropped (aws-batch.md §9.1)
    )
    limits: tuple[TimeLimit, ...] | None = None
    orders: tuple[int, ...] = ()  # of the environments


class UpdateQueue(Struct, frozen=True):
    ticket: Ticket
    name: str
    change: QueueChange


class DeleteQueue(Struct, frozen=True):
    """Its jobs are terminated (`JobQueue deleted`)."""

    ticket: Ticket
    name: str


class CreateSchedulingPolicy(Struct, frozen=True):
    ticket: Ticket
    name: str
    policy: FairShare
    tags: Tags = ()


class UpdateSchedulingPolicy(Struct, frozen=True):
    """All queues that have it are divided by it from now on."""

    ticket: Ticket
    name: str
    policy: FairShare


class DeleteSchedulingPolicy(Struct, frozen=True):
    """Refused while a queue has it."""

    ticket: Ticket
    name: str


PlaceCommand = (
    CreateEnvironment
    | UpdateEnvironment
    | DeleteEnvironment
    | AddNode
    | DrainNode
    | RemoveNode
    | CreateQueue
    | UpdateQueue
    | DeleteQueue
    | CreateSchedulingPolicy
    | UpdateSchedulingPolicy
    | DeleteSchedulingPolicy
)
