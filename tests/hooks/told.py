"""Three-word builders of events as they are told."""

from __future__ import annotations

import json

from msgspec.structs import replace

from flowbatch.model.events import EventKind, EventRow, JobFacts, LoggedEvent, SinkChange
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import JobSpec, RetryPolicy, RunFacts
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus, Status

T0 = Millis(1_700_000_000_000)
RUN = RunFacts(RunId("1a2b3c4d-0000-4000-8000-000000000000"), "film-render", T0)
JOB = JobId("00000001-0000-4000-9000-000000000000")


def spec(key: str = "render", size: int | None = None, **changed: object) -> JobSpec:
    made = JobSpec(
        key, "default", ("true",), Resources(2000, 512), size, retry=RetryPolicy(3), definition="film--render:3"
    )
    return replace(made, **changed)


def event(kind: EventKind, status: int, *, seq: int = 1, job: JobSpec | None = None, **changed: object) -> LoggedEvent:
    row = EventRow(Millis(T0 + 5000), kind, 1, None if job is None else 1, None, None, status, None, None, None)
    facts = None if job is None else JobFacts(JOB, job, T0, RUN)
    return LoggedEvent(seq, row._replace(**changed), RUN, facts)  # type: ignore[arg-type]


def run(status: RunStatus = RunStatus.FAILED, **changed: object) -> LoggedEvent:
    detail = json.dumps({"jobs": {"SUCCEEDED": 3, "FAILED": 1}}) if status is not RunStatus.RUNNING else None
    return event(EventKind.RUN, status, **{"detail": detail, **changed})  # type: ignore[arg-type]


def job(status: Status = Status.FAILED, *, of: JobSpec | None = None, **changed: object) -> LoggedEvent:
    ended = (
        {"attempt": 2, "exit_code": 3, "status_reason": "Essential container in task exited"} if status.terminal else {}
    )
    return event(EventKind.JOB, status, job=of or spec(), **{**ended, **changed})  # type: ignore[arg-type]


def child(index: int = 17, status: Status = Status.FAILED, *, seq: int = 1, **changed: object) -> LoggedEvent:
    values = {
        "idx": index,
        "attempt": 1,
        "exit_code": 3,
        "status_reason": "Essential container in task exited",
        **changed,
    }
    return event(EventKind.CHILD, status, seq=seq, job=spec(size=1000), **values)


def dead(sink: str = "slack") -> LoggedEvent:
    return event(
        EventKind.SINK, SinkChange.DEAD, detail=json.dumps({"sink": sink, "seq": 4}), status_reason="400 Bad Request"
    )
