"""Commands that change environments, their nodes and queues. Frozen, as all stimuli are."""

from __future__ import annotations

from flowbatch.model.container import Cpu
from flowbatch.model.ids import Ticket
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.places import Node
from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.model.record import record

Tags = tuple[tuple[str, str], ...]


@record
class CreateEnvironment:
    """`desired_vcpus_milli`: what it begins with, between the minimum and the maximum."""

    ticket: Ticket
    environment: Environment
    desired_vcpus_milli: int = 0
    tags: Tags = ()


@record
class EnvironmentChange:
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


@record
class UpdateEnvironment:
    """`terminate_jobs` and `job_timeout_minutes` are AWS's updatePolicy: what runs on what is replaced is stopped at once and counts
    as a failed attempt, or has so many minutes left."""

    ticket: Ticket
    name: str
    change: EnvironmentChange
    terminate_jobs: bool = False
    job_timeout_minutes: int = 30


@record
class DeleteEnvironment:
    ticket: Ticket
    name: str


@record
class AddNode:
    """To an UNMANAGED environment; the same name again replaces what was registered, and ends its draining."""

    ticket: Ticket
    environment: str
    node: Node


@record
class DrainNode:
    """Nothing new starts there; what runs ends by itself."""

    ticket: Ticket
    environment: str
    node: str


@record
class RemoveNode:
    """Refused while something runs there."""

    ticket: Ticket
    environment: str
    node: str


@record
class CreateQueue:
    """Where the queue has a `policy_name`, its policy is the stored one's."""

    ticket: Ticket
    queue: Queue
    tags: Tags = ()


@record
class QueueChange:
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


@record
class UpdateQueue:
    ticket: Ticket
    name: str
    change: QueueChange


@record
class DeleteQueue:
    """Its jobs are terminated (`JobQueue deleted`)."""

    ticket: Ticket
    name: str


@record
class CreateSchedulingPolicy:
    ticket: Ticket
    name: str
    policy: FairShare
    tags: Tags = ()


@record
class UpdateSchedulingPolicy:
    """All queues that have it are divided by it from now on."""

    ticket: Ticket
    name: str
    policy: FairShare


@record
class DeleteSchedulingPolicy:
    """Refused while a queue has it."""

    ticket: Ticket
    name: str
