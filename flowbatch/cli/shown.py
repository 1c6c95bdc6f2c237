"""What progress and summaries show of a run and its jobs, wherever they live: in this process, or as a server tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from flowbatch.model.events import EventRow
from flowbatch.model.status import RunStatus, Status


class ShownJob(Protocol):
    @property
    def no(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def status(self) -> Status: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def size(self) -> int | None:
        """None: a single."""

    @property
    def tasks(self) -> int: ...
    @property
    def array(self) -> bool: ...
    @property
    def counts(self) -> Sequence[int]:
        """Of its tasks, by Status."""

    @property
    def running(self) -> int: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def started_at(self) -> int | None: ...
    @property
    def stopped_at(self) -> int | None: ...


class ShownRun(Protocol):
    @property
    def no(self) -> int: ...
    @property
    def id(self) -> str: ...
    @property
    def workflow(self) -> str: ...
    @property
    def status(self) -> RunStatus: ...
    @property
    def status_reason(self) -> str | None: ...
    @property
    def created_at(self) -> int: ...
    @property
    def stopped_at(self) -> int | None: ...
    @property
    def jobs(self) -> Sequence[ShownJob]: ...


class ChildNews(Protocol):
    """A child of an array that has changed; a TaskRow is one."""

    @property
    def job(self) -> int:
        """ShownJob.no."""

    @property
    def idx(self) -> int: ...
    @property
    def status(self) -> Status: ...
    @property
    def attempt(self) -> int: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def status_reason(self) -> str | None: ...


class News(Struct, frozen=True):
    """What has changed since the last time."""

    children: Iterable[ChildNews] = ()
    events: Iterable[EventRow] = ()
