"""Everything that can happen to the engine: commands of people, facts of backends. Frozen; `now` travels beside them."""

from __future__ import annotations

from dataclasses import dataclass

from flowbatch.model.ending import Evidence
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, Queue, RunPlan
from flowbatch.model.rows import Loaded

Ticket = int  # given by the caller of a command; the Answer carries it back


@dataclass(frozen=True, slots=True)
class Target:
    """A run, a job of it, or some of a job's children (closed ranges of indices)."""

    run: RunId | None = None
    job: JobId | None = None
    indices: tuple[tuple[int, int], ...] | None = None
    failed: bool = False  # only the FAILED children (`:failed`)


# --- commands


@dataclass(frozen=True, slots=True)
class SubmitRun:
    ticket: Ticket
    plan: RunPlan


@dataclass(frozen=True, slots=True)
class Cancel:
    ticket: Ticket
    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Terminate:
    ticket: Ticket
    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Reopens FAILED jobs and what failed because of them (semantics.md 8)."""

    ticket: Ticket
    target: Target


@dataclass(frozen=True, slots=True)
class Reload:
    """An ended run comes back from the store, changed in nothing, because a Retry follows."""

    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Resume:
    """Held runs go on: the one named, or all. A life may begin with runs of earlier ones held."""

    ticket: Ticket
    run: RunId | None = None


@dataclass(frozen=True, slots=True)
class Drain:
    """Nothing new starts; what runs is waited for."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """What runs is stopped and goes back to RUNNABLE; the attempts do not count. Implies Drain."""


@dataclass(frozen=True, slots=True)
class Configure:
    """The engine's own environments and queues, sent once at the start of a life and on every change of settings."""

    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]


# --- facts


@dataclass(frozen=True, slots=True)
class Started:
    key: AttemptKey
    at: Millis
    handle: str = ""  # the backend's own name of it: a pid, a container id


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """Answered only once it is certain that nothing of that name runs or ever will."""

    key: AttemptKey
    at: Millis
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Exited:
    """Also for an attempt whose Started was never seen; `started_at` then says when it began."""

    key: AttemptKey
    at: Millis
    evidence: Evidence
    started_at: Millis | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """One attempt in a census: alive (`evidence` is None) or ended."""

    key: AttemptKey
    started_at: Millis | None
    at: Millis | None = None  # of the end
    evidence: Evidence | None = None
    handle: str = ""


@dataclass(frozen=True, slots=True)
class Census:
    """All that a backend holds, asked for in turn `asked` (attempts that changed since are skipped)."""

    backend: str
    asked: int
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has come."""


Stimulus = (
    SubmitRun
    | Cancel
    | Terminate
    | Retry
    | Reload
    | Resume
    | Drain
    | Interrupt
    | Configure
    | Started
    | LaunchFailed
    | Exited
    | Census
    | Tick
)
