"""The edges of the world, as Protocols: everything flowbatch touches is here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
from anyio.abc import TaskStatus
from msgspec import Struct

from flowbatch.model.container import Container, Cpu
from flowbatch.model.effects import Place
from flowbatch.model.ending import Halt
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import FakeScript
from flowbatch.model.notify import Parked, SinkRow, SinkStatus, Trouble
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EndedJob, Loaded, Writes
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started

Fact = Started | LaunchFailed | Exited
Report = Callable[[Sequence[Fact]], None]  # never blocks, never raises; called on the event loop's thread


class Clock(Protocol):
    def now(self) -> Millis: ...

    async def wait(self, event: anyio.Event, until: Millis | None) -> None:
        """Returns when the event is set or `until` has come (None: never)."""

    async def sleep_until(self, at: Millis) -> None: ...


class Store(Protocol):
    """The writer. Called by the engine's turn alone."""

    async def load(self) -> Loaded:
        """Begins a life: numbers it, records this boot, and reads what is open."""

    async def load_run(self, run: RunId) -> Loaded | None:
        """An ended run with all of its jobs and tasks, for a retry; None where there is none of that id."""

    async def ended_jobs(self, ids: Sequence[JobId]) -> list[EndedJob]:
        """Those of them that have ended, as who needs one must know it."""

    async def commit(self, writes: Writes) -> None:
        """One transaction, durable on return. Raises StoreFull where the disk is full (nothing is written; the same
        call may be tried again), StoreError where the store can no longer be trusted."""

    async def collect(self, before: Millis) -> int:
        """Deletes runs that ended before then, with all that is theirs; returns how many. Bounded work a call."""

    async def close(self) -> None: ...


class Capabilities(Struct, frozen=True):
    durable_exit: bool  # ends survive the engine; a census after a crash knows them
    reports_oom: bool
    enforces_timeout: bool  # the backend itself stops an attempt at its timeout, engine or no engine
    logs_after_exit: bool
    group_network: bool = False  # gives each node of a job an address of its own, which Started tells


class LaunchOrder(Struct, frozen=True):
    """All that a backend needs to start an attempt. Secrets are resolved in it: never stored, logged or shown."""

    key: AttemptKey
    command: tuple[str, ...]
    env: dict[str, str]  # on top of the backend's base environment
    workdir: str
    resources: Resources
    log: str  # absolute path of the attempt's log file; its folder exists not necessarily
    log_cap_bytes: int
    timeout_ms: int | None
    stop_grace_ms: int
    user: str | None = None
    container: Container | None = None
    fake: FakeScript | None = None
    cpu: Cpu = Cpu.SHARES  # of the environment, for a container that does not say itself
    place: Place | None = None  # of a member among the others of its attempt


class Finding(Struct, frozen=True):
    """One line of `doctor`."""

    level: str  # ok | note | warning | error
    subject: str
    text: str


class Backend(Protocol):
    """Starts, follows and stops attempts; never queues, never retries.

    launch, stop and forget only hand over: they return at once, keep their order per attempt, may be repeated, and are
    answered through `report`. Each launched attempt is answered by exactly one LaunchFailed, or one Started followed by one
    Exited (an Exited may stand alone where the start was never seen); duplicates may happen after a reconnect. A stop for
    an attempt that has not begun makes it LaunchFailed with evidence that has no exit code. An attempt that is unknown
    to stop or forget is fine.
    """

    @property
    def name(self) -> str: ...

    @property
    def caps(self) -> Capabilities: ...

    async def check(self) -> list[Finding]:
        """Raises BackendUnavailable, with one clear sentence, where nothing could run."""

    async def run(self, report: Report, *, task_status: TaskStatus[None]) -> None:
        """Never ends; reconnects inside. `started()` once calls are taken."""

    def launch(self, orders: Sequence[LaunchOrder]) -> None: ...

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None: ...

    def forget(self, keys: Sequence[AttemptKey]) -> None: ...

    def waits_for(self, key: AttemptKey) -> str | None:
        """What holds an attempt up that was launched, in words that follow "it waits for"; None where nothing is known."""

    def watch_log(self, key: AttemptKey) -> None:
        """Somebody reads its log along, for the next seconds. Where logs are written as tasks print, there is nothing to do."""

    async def census(self) -> list[Observation]:
        """Everything of this state folder that the backend holds, alive or ended, and not forgotten. Includes all launches
        handed over before the call (those still waiting inside count as alive)."""


class StoredSink(Struct, frozen=True):
    """Where a sink stands, on disk."""

    row: SinkRow
    status: SinkStatus
    cursor: int
    trouble: Trouble | None
    digest: tuple[int, int] | None  # the closed range of the digest that is on its way
    run_over: int | None  # of a run's sink: the number of the event that ended the run, where it has ended


class Page(Struct, frozen=True):
    """All that the log has of (after, to], at most `limit` events; `more`: it goes on behind `to`."""

    events: list[LoggedEvent]
    to: int
    more: bool
    gaps: list[tuple[int, int]]  # closed ranges of events that were collected


class EventLog(Protocol):
    """The outbox, read only. Its calls are short and may be made side by side."""

    async def open_sinks(self, run: int | None = None) -> list[str]:
        """Keys; those of a run (RunRow.no) where it is given."""

    async def sink(self, key: str) -> StoredSink | None: ...

    async def parked(self, key: str) -> list[tuple[Parked, LoggedEvent | None]]:
        """In order of seq; None: the event was collected."""

    async def page(self, after: int, limit: int, *, until: int | None = None, run: int | None = None) -> Page: ...
