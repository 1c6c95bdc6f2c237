"""What the native API says and takes, as JSON: snake_case keys, names of statuses, times in epoch milliseconds.

A shape is made of what the readers give (`of`), and a client makes that of it again (`view`): both ends print the same.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from msgspec.json import encode
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from flowbatch.model.ending import Halt
from flowbatch.model.events import KINDS, EventKind, EventRow, facts_of, kind_of
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import Stage
from flowbatch.model.rows import JobRow, RunRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.store.results import AttemptView, Event, Found, JobView, MemberView, RunView, TaskView


def by_name(kind: type[Status] | type[RunStatus]) -> BeforeValidator:
    return BeforeValidator(lambda value: kind[value] if isinstance(value, str) else value)


NAMED = PlainSerializer(lambda value: value.name, return_type=str)
StatusName = Annotated[
    Status, by_name(Status), NAMED, WithJsonSchema({"type": "string", "enum": [each.name for each in Status]})
]
RunStatusName = Annotated[
    RunStatus, by_name(RunStatus), NAMED, WithJsonSchema({"type": "string", "enum": [each.name for each in RunStatus]})
]
Time = int  # epoch milliseconds


class Said(BaseModel):
    """An answer. A client of another version ignores what it does not know."""

    model_config = ConfigDict(defer_build=True)


class RunSaid(Said):
    id: str
    no: int = Field(description="In order of submission; `before` of a list of runs.")
    workflow: str
    file: str
    status: RunStatusName
    interrupted: bool = Field(description="Open, and held back until it is resumed.")
    status_reason: str | None
    stage: Stage
    cancelled: bool
    generation: int
    created_at: Time
    deadline_at: Time | None
    finally_at: Time | None
    stopped_at: Time | None

    @classmethod
    def of(cls, run: RunView, *, interrupted: bool) -> Self:
        row = run.row
        return cls(
            id=run.id, no=row.no, workflow=run.workflow, file=run.file, status=row.status, interrupted=interrupted,
            status_reason=row.status_reason, stage=row.stage, cancelled=row.cancelled, generation=row.generation,
            created_at=row.created_at, deadline_at=row.deadline_at, finally_at=row.finally_at, stopped_at=row.stopped_at,
        )  # fmt: skip

    def view(self) -> RunView:
        row = RunRow(
            self.no, RunId(self.id), self.status, self.stage, Halt.NONE, self.cancelled, self.generation,
            self.status_reason, Millis(self.created_at), millis(self.deadline_at), millis(self.finally_at),
            millis(self.stopped_at),
        )  # fmt: skip
        return RunView(row, self.workflow, self.file)


class TaskSaid(Said):
    """A single job's one task, or a child of an array."""

    id: str
    job_id: str
    job: str
    index: int | None
    status: StatusName
    status_reason: str | None
    exit_code: int | None
    reason: str | None
    attempts: int
    environment: str | None
    created_at: Time
    started_at: Time | None
    stopped_at: Time | None
    not_before: Time | None
    truncated: bool
    cancelled: bool
    node: str | None = Field(None, description="Of an unmanaged environment.")

    @classmethod
    def of(cls, task: TaskView) -> Self:
        return cls(
            id=task.id, job_id=task.job_id, job=task.job, index=task.index, status=task.status,
            status_reason=task.status_reason, exit_code=task.exit_code, reason=task.reason, attempts=task.attempts,
            environment=task.environment, created_at=task.created_at, started_at=task.started_at,
            stopped_at=task.stopped_at, not_before=task.not_before, truncated=task.truncated, cancelled=task.cancelled,
            node=task.node,
        )  # fmt: skip

    def view(self) -> TaskView:
        return TaskView(
            JobId(self.job_id), self.job, self.index, self.status, self.status_reason, self.exit_code, self.reason,
            self.attempts, self.environment, Millis(self.created_at), millis(self.started_at), millis(self.stopped_at),
            millis(self.not_before), self.truncated, self.cancelled, self.node,
        )  # fmt: skip


class JobSaid(Said):
    id: str
    no: int
    run_no: int | None
    job: str = Field(description="Its key in the workflow file, or its name.")
    array: int | None = Field(description="How many children; null for a single.")
    status: StatusName
    status_reason: str | None
    stage: Stage
    counts: dict[str, int] = Field(description="Of its tasks, by status; those that occur.")
    generation: int
    cancelled: bool
    terminated: bool
    skipped: bool
    created_at: Time
    started_at: Time | None
    stopped_at: Time | None
    task: TaskSaid | None = Field(description="Of a single.")

    @classmethod
    def of(cls, job: JobView, task: TaskView | None) -> Self:
        row = job.row
        return cls(
            id=job.id, no=row.no, run_no=row.run, job=job.name, array=job.size, status=row.status,
            status_reason=row.status_reason, stage=row.stage,
            counts={status.name: count for status, count in job.counts.items()}, generation=row.generation,
            cancelled=row.cancelled, terminated=row.terminated, skipped=row.skipped, created_at=row.created_at,
            started_at=row.started_at, stopped_at=row.stopped_at, task=None if task is None else TaskSaid.of(task),
        )  # fmt: skip

    def view(self) -> JobView:
        """What it says of resting children is in `counts`."""
        row = JobRow(
            self.no, JobId(self.id), self.run_no, self.stage, self.status, self.status, None, None, self.generation,
            self.cancelled, self.terminated, self.skipped, self.status_reason, Millis(self.created_at),
            millis(self.started_at), millis(self.stopped_at),
        )  # fmt: skip
        return JobView(row, self.job, self.array, {Status[name]: count for name, count in self.counts.items()})


class AttemptSaid(Said):
    id: str
    job_id: str
    index: int
    attempt: int
    environment: str | None
    started_at: Time | None
    stopped_at: Time | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool
    image: str | None = None

    @classmethod
    def of(cls, each: AttemptView) -> Self:
        key = each.key
        return cls(
            id=key.id, job_id=key.job, index=key.idx, attempt=key.attempt, environment=each.environment,
            started_at=each.started_at, stopped_at=each.stopped_at, exit_code=each.exit_code, reason=each.reason,
            status_reason=each.status_reason, truncated=each.truncated, image=each.image,
        )  # fmt: skip

    def view(self) -> AttemptView:
        return AttemptView(
            AttemptKey(JobId(self.job_id), self.index, self.attempt), self.environment, millis(self.started_at),
            millis(self.stopped_at), self.exit_code, self.reason, self.status_reason, self.truncated, self.image,
        )  # fmt: skip


class MemberSaid(Said):
    """A node or a container of an attempt."""

    id: str
    attempt_id: str
    label: str
    node: int | None
    main: bool
    status: StatusName
    address: str | None
    started_at: Time | None
    stopped_at: Time | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    truncated: bool
    image: str | None = None

    @classmethod
    def of(cls, each: MemberView) -> Self:
        return cls(
            id=each.id, attempt_id=each.key.id, label=each.label, node=each.node, main=each.main, status=each.status,
            address=each.address, started_at=each.started_at, stopped_at=each.stopped_at, exit_code=each.exit_code,
            reason=each.reason, status_reason=each.status_reason, truncated=each.truncated, image=each.image,
        )  # fmt: skip

    def view(self) -> MemberView:
        return MemberView(
            AttemptKey.parse(self.attempt_id), self.label, self.node, self.main, self.status, self.address,
            millis(self.started_at), millis(self.stopped_at), self.exit_code, self.reason, self.status_reason,
            self.truncated, self.image,
        )  # fmt: skip


class EventSaid(Said):
    id: str = Field("", description="evt_…, as receivers see it")
    seq: int
    at: Time
    kind: str = Field(description="run.failed, job.runnable, child.succeeded, queue.blocked, delivery.dead …")
    run: str | None
    job: str | None
    job_id: str | None
    index: int | None
    attempt: int | None
    exit_code: int | None
    reason: str | None
    status_reason: str | None
    detail: dict[str, Any] | None = Field(
        None, description="Of a delivery: sink, and seq, tries, first or last. Of an end: jobs or children by status."
    )

    @classmethod
    def of(cls, event: Event) -> Self:
        row = event.row
        return cls(
            id=event.id, seq=event.seq, at=row.at, kind=kind_of(row), run=event.run_id, job=event.job, job_id=event.job_id,
            index=row.idx, attempt=row.attempt, exit_code=row.exit_code, reason=row.reason,
            status_reason=row.status_reason, detail=facts_of(row),
        )  # fmt: skip

    def view(self, job: int | None = None) -> Event:
        """`job`: the number of its job, where it matters."""
        kind, status = EVENT_KINDS[self.kind]
        row = EventRow(
            Millis(self.at), kind, None, job, self.index, self.attempt, status, self.exit_code, self.reason,
            self.status_reason, None if self.detail is None else encode(self.detail).decode(),
        )  # fmt: skip
        run, job_id = self.run, self.job_id
        return Event(
            self.seq,
            row,
            None if run is None else RunId(run),
            None if job_id is None else JobId(job_id),
            self.job,
            self.id,
        )


EVENT_KINDS: Final[dict[str, tuple[EventKind, int]]] = {
    **{name: key for key, name in KINDS.items()},
    "queue.blocked": (EventKind.QUEUE, Status.RUNNABLE),
}


class FoundSaid(Said):
    """What an address means."""

    run: RunSaid | None
    job: JobSaid | None
    indices: list[tuple[int, int]] | None
    failed: bool
    attempt: int | None
    member: int | None

    def view(self) -> Found:
        return Found(
            None if self.run is None else self.run.view(),
            None if self.job is None else self.job.view(),
            None if self.indices is None else tuple(self.indices),
            self.failed,
            self.attempt,
            self.member,
        )


class RunsSaid(Said):
    runs: list[RunSaid] = Field(description="The newest first.")
    next: int | None = Field(description="`before` of the next page; null: these are the last.")


class RunDetailsSaid(RunSaid):
    params: dict[str, Any]
    jobs: list[JobSaid]


class JobsSaid(Said):
    jobs: list[JobSaid]


class ChildrenSaid(Said):
    children: list[TaskSaid]
    next: int | None = Field(description="`first` of the next page; null: these are the last.")


class AttemptsSaid(Said):
    attempts: list[AttemptSaid] = Field(description="The oldest first.")


class MembersSaid(Said):
    members: list[MemberSaid]


class EventsSaid(Said):
    events: list[EventSaid]
    last: int = Field(description="The number of the newest event there is.")


class WhySaid(Said):
    why: str | None = Field(description="A sentence; null: the job has ended.")


class SubmittedSaid(Said):
    run: str
    warnings: list[str]


class QueuedSaid(Said):
    job: str = Field(description="Its id.")
    name: str
    queue: str
    warnings: list[str]


class JobProgress(Said):
    id: str
    no: int
    key: str
    status: StatusName
    status_reason: str | None
    size: int | None
    tasks: int
    counts: list[int] = Field(
        description="Of its tasks: SUBMITTED, PENDING, RUNNABLE, STARTING, RUNNING, SUCCEEDED, FAILED."
    )
    running: int
    skipped: bool
    started_at: Time | None
    stopped_at: Time | None


class RunProgress(Said):
    id: str
    no: int
    workflow: str
    status: RunStatusName
    status_reason: str | None
    created_at: Time
    stopped_at: Time | None


class ChildProgress(Said):
    """A child of an array that began first, or failed among the first."""

    job: int
    idx: int
    status: StatusName
    attempt: int
    exit_code: int | None
    reason: str | None
    status_reason: str | None


class ProgressSaid(Said):
    """A message of `follow`: what has changed since the one before; of the first all there is."""

    run: RunProgress
    jobs: list[JobProgress] = []
    events: list[EventSaid] = []
    children: list[ChildProgress] = []
    waits: list[tuple[str, str]] = Field(default=[], description="What everything waits for, and how far that is.")
    over: bool = False


def millis(value: int | None) -> Millis | None:
    return None if value is None else Millis(value)
