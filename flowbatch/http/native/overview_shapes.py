"""Queues, environments, schedules, deliveries, tokens and the library, as the native API says them: for its document."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from flowbatch.http.native.policy_changes import DivisionSaid
from flowbatch.http.native.shapes import Said, Time

Enabled = Literal["ENABLED", "DISABLED"]


class LimitSaid(Said):
    reason: str
    max_time_ms: int


class QueueSaid(Said):
    queue: str = Field(description="`RUN/NAME` where a workflow file made it for its own run.")
    state: Enabled
    status: str = Field(description="VALID, or what AWS says of one that is not.")
    priority: int
    environments: list[str] = Field(description="In the order they are tried.")
    max_running: int | None
    policy: DivisionSaid | None = Field(description="null: by priority, then by age.")
    limits: list[LimitSaid]
    runnable: int = Field(description="Tasks that wait for their turn.")
    running: int = Field(description="Tasks.")


class QueuesSaid(Said):
    queues: list[QueueSaid]


class FrontSaid(Said):
    job: str = Field(description="Its id, of a child with its index.")
    name: str
    run: str | None
    share: str | None
    earliest_at: Time = Field(description="Since when at the latest it stands where it stands.")
    status_reason: str | None


class BlockedSaid(Said):
    job: str
    name: str
    reason: str


class ShareSaid(Said):
    share: str
    weight: float
    vcpus: float
    jobs: int
    used_vcpu_s: float = Field(description="Inside the window, old ones for less.")
    rank: float = Field(description="The lowest is served next.")


class UtilizationSaid(Said):
    vcpus: float
    active_shares: int | None = Field(None, description="Of a queue with a policy.")
    shares: list[ShareSaid] | None = Field(None, description="Those that use most.")


class QueueDetailsSaid(QueueSaid):
    at: Time
    front: list[FrontSaid]
    blocked: list[BlockedSaid] = Field(description="Jobs that cannot start as the environments are now.")
    utilization: UtilizationSaid


class AmountsSaid(Said):
    vcpus: float
    memory_mib: int
    gpus: int


class NodeSaid(Said):
    node: str
    endpoint: str
    state: Literal["ACTIVE", "DRAINING"]
    vcpus: float
    memory_mib: int
    gpus: int
    running: int
    used: AmountsSaid


class EnvironmentSaid(Said):
    environment: str
    type: Literal["MANAGED", "UNMANAGED"]
    spot: bool
    backend: str
    state: Enabled
    status: str
    min_vcpus: float
    desired_vcpus: float
    max_vcpus: float
    memory_mib: int
    gpus: int
    running: int
    used: AmountsSaid
    queues: list[str] = Field(description="That use it.")
    cpu: str
    changed: list[str] = Field(description="What a command has changed, so that it is not what the settings say.")
    notice_ms: int | None = Field(None, description="Of Spot.")
    scale_down_ms: int | None = Field(None, description="Of a managed one.")
    nodes: list[NodeSaid] | None = Field(None, description="Of an unmanaged one.")


class HostSaid(Said):
    guard: AmountsSaid | None = Field(description="What everything on this machine may hold together.")
    used: AmountsSaid


class EnvironmentsSaid(Said):
    host: HostSaid
    environments: list[EnvironmentSaid]


class ScheduleSaid(Said):
    workflow: str = Field(description="The file.")
    cron: str
    tz: str
    missed: Literal["skip", "latest", "all"]
    overlap: Literal["skip", "queue", "allow"]
    next: list[Time]
    queued: list[Time] = Field(description="Times that wait for the run before to end (`overlap: queue`).")
    seen_at: Time
    last_run: str | None


class SchedulesSaid(Said):
    schedules: list[ScheduleSaid]


class SinkSaid(Said):
    sink: str
    to: str
    form: str = Field(alias="as")
    status: Literal["OPEN", "CLOSED", "DISABLED"]
    status_reason: str | None
    cursor: int = Field(description="The number of the event up to which all is delivered or given up.")
    lag: int = Field(description="Events behind its cursor.")
    delivered: int
    failed: int = Field(description="Tries.")
    dead: int
    failing_since: Time | None
    tries: int
    error: str | None
    delivered_at: Time | None


class DeliverySaid(Said):
    sink: str
    seq: int
    at: Time
    tries: int
    status: int | None = Field(description="Of HTTP, where it has one.")
    latency_ms: int


class RefusalSaid(Said):
    sink: str
    state: Literal["parked", "dead", "gap"] = Field(description="To be tried again, given up, or left out.")
    seq: int | None = None
    first: int | None = Field(None, alias="from", description="Of a gap or a digest: its first event.")
    last: int | None = Field(None, alias="to", description="Of a gap.")
    tries: int | None = None
    next_at: Time | None = None
    at: Time | None = None
    error: str | None = None


class DeliveriesSaid(Said):
    sinks: list[SinkSaid]
    deliveries: list[DeliverySaid] | None = Field(None, description="Unless `failed` is asked for.")
    failed: list[RefusalSaid] | None = None


class TokenSaid(Said):
    name: str
    type: Literal["REPLENISHABLE", "NON_REPLENISHABLE"]
    total: int
    in_use: int
    available: int
    tags: dict[str, str]
    created_at: Time


class TokensSaid(Said):
    tokens: list[TokenSaid]


class FileSaid(Said):
    file: str
    folder: str
    understood: bool = Field(description="A version of it is in force.")
    start: str | None
    last_run: str | None


class LibrarySaid(Said):
    files: list[FileSaid]
