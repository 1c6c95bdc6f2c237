"""Everything that can happen to the engine: commands of people, facts of backends. Frozen; `now` travels beside them."""

from __future__ import annotations

from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.definition import Registration
from flowbatch.model.ending import Evidence
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, Ticket
from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan
from flowbatch.model.notify import Notify, SinkProgress
from flowbatch.model.place_commands import (
    AddNode,
    CreateEnvironment,
    CreateQueue,
    CreateSchedulingPolicy,
    DeleteEnvironment,
    DeleteQueue,
    DeleteSchedulingPolicy,
    DrainNode,
    RemoveNode,
    UpdateEnvironment,
    UpdateQueue,
    UpdateSchedulingPolicy,
)
from flowbatch.model.record import record
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EndedJob, Loaded, ShelfRow
from flowbatch.model.tokens import Token, TokenOperation


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
    """`must_fit`: a job that no environment of its queue can ever hold is refused; else it waits, and says why."""

    ticket: Ticket
    plan: RunPlan
    shelf: ShelfRow | None = None  # the file of the library that it comes from, written with it
    must_fit: bool = False
    ended: tuple[EndedJob, ...] = ()  # jobs outside the run that are needed in it


@record
class Shelve:
    """A file of the library was accepted, taken away, or a time of its schedule dealt with, and no run comes of it."""

    ticket: Ticket
    row: ShelfRow


@record
class SubmitJob:
    """A job without a run. Its needs name open jobs, or those that `ended` tells of; which of them are neither is the answer,
    `{"absent": [id, …]}`, and the asker looks for them in the store. So it is with SubmitRun's needs of jobs outside the run."""

    ticket: Ticket
    plan: JobPlan
    ended: tuple[EndedJob, ...] = ()


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
    """What the settings declare, sent once at the start of a life and on every change of them.

    `host` is the guard: what all that runs on this machine may hold together; None: there is none. Unless it is `host_fixed`
    (the settings say it), an environment that is declared larger raises it.
    """

    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]
    tokens: tuple[Token, ...] = ()
    host: Resources | None = None
    host_fixed: bool = False


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


@record
class CreateToken:
    """CreateConsumableResource."""

    ticket: Ticket
    token: Token
    tags: tuple[tuple[str, str], ...] = ()


@record
class UpdateToken:
    """`once`: named by the client, so that the same update that is sent again is made once (aws-batch.md §6.9)."""

    ticket: Ticket
    name: str
    operation: TokenOperation
    quantity: int
    once: str = ""


@record
class DeleteToken:
    ticket: Ticket
    name: str


@record
class PutKey:
    """A key is made, rotated or revoked: it is as this row says."""

    ticket: Ticket
    key: KeyRow


@record
class PutPolicy:
    ticket: Ticket
    policy: PolicyRow


@record
class DeletePolicy:
    ticket: Ticket
    name: str


@record
class PutTags:
    """The tags of a resource are these from now on; None: the resource is gone, and they with it."""

    ticket: Ticket
    kind: str
    name: str
    tags: tuple[tuple[str, str], ...] | None


@record
class Audit:
    """What changed nothing: calls that read, or were denied."""

    rows: tuple[AuditRow, ...]


@record
class PruneAudit:
    """Records of the audit log up to this one are kept no longer. `hash`: its own, for the record that says so."""

    ticket: Ticket
    seq: int
    hash: str


@record
class OpenSinks:
    """The sinks of the settings, at the start of a life and on every change of them. `children`: what of arrays' children is
    logged for them from now on; None: what was."""

    ticket: Ticket
    notify: tuple[Notify, ...]
    children: ChildEvents | None = None


@record
class TellProgress:
    """From a sink's dispatcher. `run`: whose events alone it has."""

    ticket: Ticket
    progress: SinkProgress
    run: int | None = None


@record
class Redeliver:
    """The events of a closed range again, to the sink `source` as it was written; `key` names the new cursor."""

    ticket: Ticket
    key: str
    source: str
    first: int
    last: int


@record
class ReviveDead:
    """What was given up is tried again."""

    ticket: Ticket
    key: str


@record
class EnableSink:
    ticket: Ticket
    key: str


# --- facts


@record
class Started:
    key: AttemptKey
    at: Millis
    handle: str = ""  # the backend's own name of it: a pid, a container id
    address: str = ""  # where the other nodes of its job reach it, if the backend gives each its own
    image: str = ""  # the very one that its container was made from: name@sha256:…


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
    image: str = ""  # as Started has it


@record
class Observation:
    """One attempt in a census: alive (`evidence` is None) or ended."""

    key: AttemptKey
    started_at: Millis | None
    at: Millis | None = None  # of the end
    evidence: Evidence | None = None
    handle: str = ""
    address: str = ""  # as Started has it
    image: str = ""  # likewise


@record
class Census:
    """All that a backend holds, asked for in turn `asked` (attempts that changed since are skipped)."""

    backend: str
    asked: int
    observations: tuple[Observation, ...]


@record
class Tick:
    """A deadline has come."""


@record
class Audited:
    """A call and the record of it, durable together. What the call is answered completes the record."""

    command: Stimulus
    row: AuditRow


Stimulus = (
    SubmitRun
    | Shelve
    | SubmitJob
    | Cancel
    | Terminate
    | Retry
    | Reload
    | Resume
    | Drain
    | Interrupt
    | Configure
    | CreateEnvironment
    | UpdateEnvironment
    | DeleteEnvironment
    | AddNode
    | DrainNode
    | RemoveNode
    | CreateQueue
    | UpdateQueue
    | DeleteQueue
    | CreateSchedulingPolicy
    | UpdateSchedulingPolicy
    | DeleteSchedulingPolicy
    | RegisterDefinition
    | DeregisterDefinition
    | PutKey
    | PutPolicy
    | DeletePolicy
    | PutTags
    | Audit
    | Audited
    | PruneAudit
    | OpenSinks
    | TellProgress
    | Redeliver
    | ReviveDead
    | EnableSink
    | CreateToken
    | UpdateToken
    | DeleteToken
    | Started
    | LaunchFailed
    | Exited
    | Census
    | Tick
)
