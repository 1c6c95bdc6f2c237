"""The event log: changed facts only; a body is made from an event, the pinned spec and a format's version."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, NamedTuple

from msgspec import Struct
from msgspec.json import decode

from flowbatch.model.globs import matches
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import JobSpec, RunFacts
from flowbatch.model.notify import Arrays, Filter
from flowbatch.model.status import RunStatus, Status


class EventKind(IntEnum):
    """What changed."""

    RUN = 1  # status is a RunStatus
    JOB = 2  # a single or an array's parent; status is a Status
    CHILD = 3  # a child of an array; written only where someone subscribes
    NODE = 4  # a node of a multi-node job; `idx` is its number
    QUEUE = 5  # the job at the head of a queue can never start as its places are; status is RUNNABLE, `status_reason` says why
    SINK = 6  # of deliveries; status is a SinkChange, `detail` says of which sink


class SinkChange(IntEnum):
    DEAD = 0  # a message was given up after all its tries
    DISABLED = 1  # its receiver is gone (410), or has failed for days
    GAP = 2  # events were collected before they could be delivered


class ChildEvents(IntEnum):
    """What of array children goes into the event log; somebody must ask for it."""

    NONE = 0
    ENDS = 1
    ALL = 2


class EventRow(NamedTuple):
    """`seq` is given by the store. `idx` and `attempt` are None where they mean nothing."""

    at: Millis
    kind: EventKind
    run: int | None  # RunRow.no
    job: int | None  # JobRow.no
    idx: int | None
    attempt: int | None
    status: int
    exit_code: int | None
    reason: str | None  # container.reason
    status_reason: str | None
    detail: str | None = None  # more changed facts, as a JSON object: started_at, counts of what ended, a sink


WORDS: Final = {
    EventKind.RUN: "run",
    EventKind.JOB: "job",
    EventKind.CHILD: "child",
    EventKind.NODE: "node",
    EventKind.QUEUE: "queue",
    EventKind.SINK: "delivery",
}
RUN_WORDS: Final = tuple(status.name.lower() for status in RunStatus)
STATUS_WORDS: Final = tuple(status.name.lower() for status in Status)
SINK_WORDS: Final = tuple(change.name.lower() for change in SinkChange)


STATUSES: Final = {EventKind.RUN: RUN_WORDS, EventKind.SINK: SINK_WORDS, EventKind.QUEUE: ("blocked",) * len(Status)}
KINDS: Final = {
    (kind, status): f"{WORDS[kind]}.{word}"
    for kind in EventKind
    for status, word in enumerate(STATUSES.get(kind, STATUS_WORDS))
}
EVERY_KIND: Final = tuple(dict.fromkeys(KINDS.values()))


def kind_of(row: EventRow) -> str:
    """`run.failed`, `job.runnable`, `child.succeeded`, `queue.blocked`, `delivery.dead`."""
    return KINDS[row.kind, row.status]


class JobFacts(Struct, frozen=True):
    """What never changes of a job that an event tells of."""

    id: JobId
    spec: JobSpec
    created_at: Millis
    run: RunFacts | None


class LoggedEvent(Struct, frozen=True):
    """An event with what was pinned when its run was submitted; both None where the run has been collected."""

    seq: int
    row: EventRow
    run: RunFacts | None
    job: JobFacts | None


def children_wanted(filters: tuple[Filter, ...]) -> ChildEvents:
    """What must go into the log of children so that these filters see what they ask for."""
    wanted = ChildEvents.NONE
    for each in filters:
        asked = each.events or ("*",)
        if each.arrays is Arrays.PARENTS:
            kinds = [glob for glob in asked if glob.startswith("child.")]
        else:
            kinds = [glob.replace("job.", "child.", 1) if glob.startswith("job.") else glob for glob in asked]
        ends = any(matches(glob, f"child.{word}") for glob in kinds for word in ("succeeded", "failed"))
        others = any(
            matches(glob, f"child.{word}") for glob in kinds for word in ("pending", "runnable", "starting", "running")
        )
        retried = not each.final and any(matches(glob, "child.failed") for glob in kinds)
        if others or retried:
            return ChildEvents.ALL
        if ends:
            wanted = ChildEvents.ENDS
    return wanted


def facts_of(row: EventRow) -> dict[str, Any] | None:
    """What the event has beside what all events have: of deliveries the sink and the numbers, of ends how many succeeded and failed."""
    return None if row.detail is None else decode(row.detail, type=dict[str, Any])
