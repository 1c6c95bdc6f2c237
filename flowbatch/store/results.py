"""What the readers give: rows with what people want to see beside them."""

from __future__ import annotations

from msgspec import Struct

from flowbatch.model.events import EventRow
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, node_id
from flowbatch.model.rows import JobRow, RunRow
from flowbatch.model.status import RunStatus, Status


class RunView(Struct, frozen=True):
    row: RunRow
    workflow: str
    file: str  # absolute path of the workflow file; may be empty

    @property
    def id(self) -> RunId:
        return self.row.id

    @property
    def no(self) -> int:
        return self.row.no

    @property
    def status(self) -> RunStatus:
        return self.row.status


class JobView(Struct, frozen=True):
    row: JobRow
    name: str  # the job's key in the file
    size: int | None  # None: a single
    counts: dict[Status, int]  # of children (a single is its own); statuses that occur, in their order

    @property
    def id(self) -> JobId:
        return self.row.id

    @property
    def no(self) -> int:
        return self.row.no

    @property
    def status(self) -> Status:
        return self.row.status

    @property
    def tasks(self) -> int:
        return 1 if self.size is None else self.size


class TaskView(Struct, frozen=True):
    """A child of an array, or a single; one that still rests has its job's resting status."""

    job_id: JobId
    job: str  # its name
    index: int | None  # None: a single
    status: Status
    status_reason: str | None
    exit_code: int | None
    reason: str | None
    attempts: int  # begun so far
    environment: str | None
    created_at: Millis
    started_at: Millis | None  # of the last attempt
    stopped_at: Millis | None
    not_before: Millis | None  # RUNNABLE, in a retry's backoff
    truncated: bool  # the log of the last attempt was capped
    cancelled: bool = False  # by its index, while it ran
    node: str | None = None  # of an unmanaged environment

    @property
    def id(self) -> str:
        return self.job_id if self.index is None else f"{self.job_id}:{self.index}"


class AttemptView(Struct, frozen=True):
    key: AttemptKey
    environment: str | None
    started_at: Millis | None
    stopped_at: Millis | None  # None: it has not ended
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool  # its log was capped
    image: str | None = None  # the very one that its container was made from


class Described(Struct, frozen=True):
    """A job as DescribeJobs shows it: with one of its tasks."""

    job: JobView  # of a child, without the counts of its siblings
    tags: dict[str, str] | None  # None: never changed
    task: TaskView
    attempts: list[AttemptView]  # of the task, the oldest first


class MemberView(Struct, frozen=True):
    """A node or a container in one attempt; one that has no row waits, or never began."""

    key: AttemptKey
    label: str  # `3`, `sidecar`, `3.sidecar`
    node: int | None  # of a multi-node parallel job
    main: bool  # it is of the main node
    status: Status
    address: str | None
    started_at: Millis | None
    stopped_at: Millis | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool
    image: str | None = None  # the very one that it was made from

    @property
    def id(self) -> str:
        """AWS's, of a node."""
        return self.key.job if self.node is None else node_id(self.key.job, self.node)


class FailureGroup(Struct, frozen=True):
    """Tasks of one job that failed alike. `example` is the first that has an attempt to look at, if any has."""

    job_id: JobId
    job: str
    size: int | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    count: int
    example: AttemptKey | None


class Event(Struct, frozen=True):
    seq: int
    row: EventRow
    run_id: RunId | None  # None too where the run has been collected
    job_id: JobId | None
    job: str | None
    id: str  # evt_…, as receivers see it


class Found(Struct, frozen=True):
    """What an address means: it exists, and its indices lie within its job."""

    run: RunView | None  # None: a job without a run
    job: JobView | None = None
    indices: tuple[tuple[int, int], ...] | None = None
    failed: bool = False
    attempt: int | None = None
    member: int | None = None  # a node or a container of the one task that is meant

    @property
    def run_id(self) -> RunId | None:
        return None if self.run is None else self.run.id

    @property
    def job_id(self) -> JobId | None:
        return None if self.job is None else self.job.id

    @property
    def index(self) -> int | None:
        """Of the one task that is meant: 0 for a single; None where the address means more."""
        if self.job is None or self.failed:
            return None
        if self.indices is None:
            return 0 if self.job.size is None else None
        first, last = self.indices[0]
        return first if len(self.indices) == 1 and first == last else None


class Totals(Struct, frozen=True):
    """The store in figures, for `doctor`."""

    size_bytes: int
    free_bytes: int  # inside the file, to be used again
    wal_bytes: int
    version: int
    instance: str
    lives: int
    runs: int
    open_runs: int
    jobs: int
    events: int  # at most: some may have been collected


class Violation(Struct, frozen=True):
    """A law of the store that does not hold."""

    law: str
    example: str
