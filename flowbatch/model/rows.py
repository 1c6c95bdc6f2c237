"""The rows of the store, as the core writes them and as `load` gives them back."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct, field

from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.definition import DefinitionRow, KnownRevision
from flowbatch.model.ending import EndClass, Halt
from flowbatch.model.events import EventRow
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan, Stage
from flowbatch.model.notify import SinkWrites
from flowbatch.model.places import PlaceStatus
from flowbatch.model.queues import FairShare
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.tokens import TokenRow, TokenUpdateRow


class RunRow(NamedTuple):
    """The changing part of a run; its plan is stored once, by `Writes.new_runs`."""

    no: int  # in order of submission, given by the core, never reused
    id: RunId
    status: RunStatus
    stage: Stage
    stop: Halt  # NONE or TERMINATE
    cancelled: bool
    generation: int
    status_reason: str | None
    created_at: Millis
    deadline_at: Millis | None
    finally_at: Millis | None  # when the finally stage began
    stopped_at: Millis | None


class JobRow(NamedTuple):
    """The changing part of a job; its plan is stored once, by `Writes.new_jobs`.

    `rest` is the status of every child that has no TaskRow. A single has one too (index 0) once it leaves `rest`; `status` is
    then the same. Of an array, `status` is the parent's: SUBMITTED, PENDING, SUCCEEDED or FAILED.
    """

    no: int  # in order of submission, over all runs
    id: JobId
    run: int | None
    stage: Stage
    status: Status
    rest: Status
    rest_reason: str | None  # statusReason of the resting children, once they are terminal
    rest_at: Millis | None  # stoppedAt likewise
    generation: int
    cancelled: bool
    terminated: bool
    skipped: bool
    status_reason: str | None
    created_at: Millis
    started_at: Millis | None
    stopped_at: Millis | None


class TaskRow(NamedTuple):
    """A child (or single) that has left its job's `rest`; its last attempt is in it, earlier ones are AttemptRows."""

    job: int  # JobRow.no
    idx: int
    status: Status
    attempt: int  # the last one begun; 0: none yet
    base: int  # attempts that do not count (earlier generations, interruptions, free losses)
    lost: int  # attempts lost with the host that were free
    memory_mib: int  # of the last or next attempt; 0: as the spec says
    environment: str | None
    life: int  # the engine's life in which the attempt was placed
    halt: Halt
    not_before: Millis | None  # RUNNABLE: a retry's backoff
    started_at: Millis | None
    stopped_at: Millis | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool = False  # the log was capped
    node: str | None = None  # of an UNMANAGED environment
    cancelled: bool = False  # by its index, while it ran: what runs ends by itself and is not tried again

    @property
    def plain(self) -> bool:
        """Whether a life that begins needs no more of it than a PlainTasks says: it holds nothing, and nothing sets it apart."""
        if self.status.terminal:
            return True
        odd = self.base or self.lost or self.memory_mib or self.not_before is not None or self.cancelled
        return not self.status.live and not odd


class PlainTasks(NamedTuple):
    """Tasks of one job by what counts of them where they are `plain`. An array has thousands: a column each, in the same order."""

    job: int  # JobRow.no
    indices: list[int]
    statuses: list[int]
    attempts: list[int]  # the number of the last one begun; 0: none yet


class AttemptRow(NamedTuple):
    """A finished attempt that was followed by another, or that may be (its task went back to RUNNABLE)."""

    job: int
    idx: int
    attempt: int
    environment: str | None
    started_at: Millis | None
    stopped_at: Millis
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool = False  # the log was capped


class EnvironmentRow(NamedTuple):
    """An environment of the engine's own. Those of a workflow file live in the plan of their run."""

    name: str
    spec: Environment
    declared: Environment | None  # what the settings said when they were last looked at; None: made by a command
    status: PlaceStatus
    updated_at: Millis | None = None  # UPDATING: attempts that began before are on what is being replaced
    replace_at: Millis | None = None  # UPDATING: and end at the latest then


class QueueRow(NamedTuple):
    name: str
    spec: Queue
    declared: Queue | None
    status: PlaceStatus


class SchedulingPolicyRow(NamedTuple):
    """A scheduling policy that queues share by its name (aws-batch.md §9.4)."""

    name: str
    policy: FairShare


class MemberRow(NamedTuple):
    """A member of an attempt that was launched, or never will be; one that waits has a row only where a clock runs for it."""

    job: int
    idx: int
    attempt: int
    member: int
    status: Status  # RUNNABLE: it waits
    life: int  # the engine's life in which it was launched
    asked: bool  # to stop
    address: str | None
    due_at: Millis | None  # RUNNABLE: when it gives up waiting for what it depends on
    started_at: Millis | None
    stopped_at: Millis | None
    end: EndClass | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool = False  # the log was capped


class ImageRow(NamedTuple):
    """The very image that a container was made from."""

    job: int
    idx: int
    attempt: int
    member: int  # ids.ALONE: the attempt is one container
    image: str


class ShelfRow(NamedTuple):
    """The content that was last accepted under a name in a server's library."""

    name: str  # of the file; `inbox/NAME` in the drop box
    digest: str  # SHA-256 of the content
    content: str
    seen_at: Millis  # times of its schedule up to here are dealt with, or queued
    gone: bool  # the file was taken away, or moved out of the drop box
    run: RunId | None  # the last one that it made
    queued: tuple[Millis, ...] = ()  # times that wait for the run before to end, in order


class UsageRow(NamedTuple):
    """What a share of a queue has used in one cell of its window (core/shares.py)."""

    queue: str
    share: str
    at: Millis  # when the cell begins
    used: int  # thousandths of a vCPU × milliseconds
    until: Millis  # when the share was last counted: what it holds counts from then on


class HeadRow(NamedTuple):
    """The job at the head of a queue that is blocked for a reason which the queue limits in time (core/limits.py)."""

    queue: str
    job: int  # JobRow.no
    reason: str
    since: Millis


UsageKey = tuple[str, str, Millis]  # queue, share, at


class Writes(Struct):
    """One turn's changes, committed in one transaction. Rows replace what the store has under their key."""

    new_runs: list[tuple[int, RunPlan]] = field(default_factory=list)  # (RunRow.no, plan)
    new_jobs: list[tuple[int, int | None, JobPlan]] = field(default_factory=list)  # (JobRow.no, RunRow.no, plan)
    runs: dict[int, RunRow] = field(default_factory=dict)
    jobs: dict[int, JobRow] = field(default_factory=dict)
    tasks: dict[tuple[int, int], TaskRow] = field(default_factory=dict)
    # (job, first, last): before anything else, the tasks' last attempts become AttemptRows (INSERT OR IGNORE … SELECT)
    reopened: list[tuple[int, int, int]] = field(default_factory=list)
    attempts: list[AttemptRow] = field(default_factory=list)
    members: dict[tuple[int, int, int, int], MemberRow] = field(default_factory=dict)
    images: list[ImageRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    definitions: list[DefinitionRow] = field(default_factory=list)  # new revisions
    deregistered: list[tuple[str, int, Millis]] = field(
        default_factory=list
    )  # (name, revision, at): INACTIVE from now on
    environments: dict[str, EnvironmentRow | None] = field(default_factory=dict)  # None: it is deleted
    queues: dict[str, QueueRow | None] = field(default_factory=dict)
    scheduling: dict[str, SchedulingPolicyRow | None] = field(default_factory=dict)
    shelves: dict[str, ShelfRow] = field(default_factory=dict)
    keys: dict[str, KeyRow] = field(default_factory=dict)
    policies: dict[str, PolicyRow | None] = field(default_factory=dict)
    tags: dict[tuple[str, str], tuple[tuple[str, str], ...] | None] = field(default_factory=dict)  # (kind, name)
    audit: list[AuditRow] = field(default_factory=list)
    audit_pruned: tuple[int, Millis] | None = None  # (the last record that goes, when)
    usage: dict[UsageKey, UsageRow | None] = field(default_factory=dict)  # None: the row goes
    heads: dict[str, HeadRow | None] = field(default_factory=dict)  # by queue; likewise
    sinks: SinkWrites = field(default_factory=SinkWrites)
    tokens: dict[str, TokenRow | None] = field(default_factory=dict)  # None: they are deleted
    token_updates: dict[tuple[str, str], Millis | None] = field(
        default_factory=dict
    )  # (name, once); None: it is forgotten

    def absorb(self, later: Writes) -> None:
        """What a later turn wrote comes on top: its rows replace ours under the same keys."""
        for name in self.__struct_fields__:
            ours, theirs = getattr(self, name), getattr(later, name)
            if name == "audit_pruned":
                self.audit_pruned = theirs or ours
            elif isinstance(ours, dict):
                ours.update(theirs)
            else:
                ours.extend(theirs)

    def __bool__(self) -> bool:
        return bool(
            self.new_runs or self.new_jobs or self.runs or self.jobs or self.tasks or self.reopened or self.attempts
            or self.members or self.images or self.events or self.definitions or self.deregistered or self.environments or self.queues
            or self.scheduling or self.shelves or self.usage or self.heads or self.tokens or self.token_updates
            or self.keys or self.policies or self.tags or self.audit or self.sinks
            or self.audit_pruned is not None
        )  # fmt: skip


class EndedJob(Struct, frozen=True):
    """A job that has left the memory, as those who would wait for it need it: a status per task, and its own."""

    id: JobId
    name: str
    status: Status
    size: int | None
    cells: bytes
    again: bool = False  # it is of a `finally` stage, and runs again with each retry of its run


class Loaded(Struct, frozen=True):
    """What a life begins with: every open run with all of its jobs, open jobs without a run, and their tasks that left `rest`."""

    life: int  # this engine's, from 1
    same_boot_since: int  # the first life since this machine booted
    next_run: int
    next_job: int
    runs: list[tuple[RunRow, RunPlan]]  # plan.jobs and plan.source may be empty here
    jobs: list[tuple[JobRow, JobPlan]]
    tasks: list[TaskRow]  # those of `plain` may be absent here
    definitions: list[KnownRevision] = field(default_factory=list)  # all there are; of a run that comes back, none
    environments: list[EnvironmentRow] = field(default_factory=list)  # the engine's own; likewise
    queues: list[QueueRow] = field(default_factory=list)
    scheduling: list[SchedulingPolicyRow] = field(default_factory=list)
    members: list[MemberRow] = field(default_factory=list)  # of the attempts that are STARTING or RUNNING
    keys: list[KeyRow] = field(default_factory=list)
    policies: list[PolicyRow] = field(default_factory=list)
    usage: list[UsageRow] = field(default_factory=list)
    heads: list[HeadRow] = field(default_factory=list)
    token_updates: list[TokenUpdateRow] = field(default_factory=list)  # in the order of time
    tokens: list[TokenRow] = field(default_factory=list)  # everybody's, and those of the runs
    sinks: list[str] = field(default_factory=list)  # keys of those that are open
    any_sink: bool = False  # open or not
    ended: list[EndedJob] = field(default_factory=list)  # of a run that comes back: what it needs of jobs outside it
    plain: list[PlainTasks] = field(default_factory=list)
