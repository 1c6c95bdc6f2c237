"""Everything that can happen to the engine: commands of people, facts of backends. Frozen; `now` travels beside them."""

from __future__ import annotations

from flowbatch.model.definition import Registration
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, Queue, RunPlan
from flowbatch.model.record import record
from flowbatch.model.rows import Loaded, ShelfRow

Ticket = int  # given by the caller of a command; the Answer carries it back


@record
class Target:
    """A run, a job of it, or some of a job's children (closed ranges of indices)."""

    run: RunId | None = None
    job: JobId | None = None
    indices: tuple[tuple[int, int], ...] | None = None
    failed: bool = False  # only the FAILED children (`:failed`)


# --- commands


@record
class SubmitRun:
    ticket: Ticket
    plan: RunPlan
    shelf: ShelfRow | None = None  # the file of the library that it comes from, written with it


@record
class Shelve:
    """A file of the library was accepted, taken away, or a time of its schedule dealt with, and no run comes of it."""

    ticket: Ticket
    row: ShelfRow


@record
class Cancel:
    ticket: Ticket
    target: Target
    reason: str


@record
class Terminate:
    ticket: Ticket
    target: Target
    reason: str


@record
class Retry:
    """Reopens FAILED jobs and what failed because of them (semantics.md 8)."""

    ticket: Ticket
    target: Target


@record
class Reload:
    """An ended run comes back from the store, changed in nothing, because a Retry follows."""

    loaded: Loaded


@record
class Resume:
    """Held runs go on: the one named, or all. A life may begin with runs of earlier ones held."""

    ticket: Ticket
    run: RunId | None = None


@record
class Drain:
    """Nothing new starts; what runs is waited for."""


@record
class Interrupt:
    """What runs is stopped and goes back to RUNNABLE; the attempts do not count. Implies Drain."""


@record
class Configure:
    """The engine's own environments and queues, sent once at the start of a life and on every change of settings."""

    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]


@record
class RegisterDefinition:
    """RegisterJobDefinition: always a new revision."""

    ticket: Ticket
    registration: Registration


@record
class DeregisterDefinition:
    ticket: Ticket
    name: str
    revision: int


# --- facts


@record
class Started:
    key: AttemptKey
    at: Millis
    handle: str = ""  # the backend's own name of it: a pid, a container id
    address: str = ""  # where the other nodes of its job reach it, if the backend gives each its own


@record
class LaunchFailed:
    """Answered only once it is certain that nothing of that name runs or ever will."""

    key: AttemptKey
    at: Millis
    evidence: Evidence


@record
class Exited:
    """Also for an attempt whose Started was never seen; `started_at` then says when it began."""

    key: AttemptKey
    at: Millis
    evidence: Evidence
    started_at: Millis | None = None


@record
class Observation:
    """One attempt in a census: alive (`evidence` is None) or ended."""

    key: AttemptKey
    started_at: Millis | None
    at: Millis | None = None  # of the end
    evidence: Evidence | None = None
    handle: str = ""
    address: str = ""  # as Started has it


@record
class Census:
    """All that a backend holds, asked for in turn `asked` (attempts that changed since are skipped)."""

    backend: str
    asked: int
    observations: tuple[Observation, ...]


@record
class Tick:
    """A deadline has come."""


Stimulus = (
    SubmitRun
    | Shelve
    | Cancel
    | Terminate
    | Retry
    | Reload
    | Resume
    | Drain
    | Interrupt
    | Configure
    | RegisterDefinition
    | DeregisterDefinition
    | Started
    | LaunchFailed
    | Exited
    | Census
    | Tick
)
