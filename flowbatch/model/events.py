"""The event log: changed facts only; a body is made from an event, the pinned spec and a format's version."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from flowbatch.model.ids import Millis


class EventKind(IntEnum):
    """What changed its status."""

    RUN = 1  # status is a RunStatus
    JOB = 2  # a single or an array's parent; status is a Status
    CHILD = 3  # a child of an array; written only where someone subscribes


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
