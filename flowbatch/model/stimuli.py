"""Everything that can happen to the engine: commands of people, facts of backends. Frozen; `now` travels beside them."""

from __future__ import annotations

from msgspec import Struct

from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.definition import Registration
from flowbatch.model.ending import Evidence
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, Ticket
from flowbatch.model.jobspec import Environment, JobPlan, Queue, RunPlan
from flowbatch.model.notify import Notify, SinkProgress
from flowbatch.model.place_commands import PlaceCommand
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EndedJob, Loaded, ShelfRow
from flowbatch.model.tokens import Token, TokenOperation


class Target(Struct, frozen=True):
    """A run, a job of it, or some of a job's children (closed ranges of indices)."""

    run: RunId | None = None
    job: JobId | None = None
    indices: tuple[tuple[int, int], ...] | None = None
    failed: bool = False  # only the FAILED children (`:failed`)


# --- commands


class SubmitRun(Struct, frozen=True):
    """`must_fit`: a job that no environment of its queue can ever hold is refused; else it waits, and says why."""

    ticket: Ticket
    plan: RunPlan
    shelf: ShelfRow | None = None  # the file of the library that it comes from, written with it
    must_fit: bool = False
    ended: tuple[EndedJob, ...] = ()  # jobs outside the run that are needed in it


class Shelve(Struct, frozen=True):
    """A file of the library was accepted, taken away, or a time of its schedule dealt with, and no run comes of it."""

    ticket: Ticket
    row: ShelfRow


class SubmitJob(Struct, frozen=True):
    """A job without a run. Its needs name open jobs, or those that `ended` tells of; which of them are neither is the answer,
    `{"absent": [id, …]}`, and the asker looks for them in the store. So it is with SubmitRun's needs of jobs outside the run."""

    ticket: Ticket
    plan: JobPlan
    ended: tuple[EndedJob, ...] = ()


class Cancel(Struct, frozen=True):
    ticket: Ticket
    target: Target
    reason: str


class Terminate(Struct, frozen=True):
    ticket: Ticket
    target: Target
    reason: str


class Retry(Struct, frozen=True):
    """Reopens FAILED jobs and what failed because of them (semantics.md 8)."""

    ticket: Ticket
    target: Target


class Reload(Struct, frozen=True):
    """An ended run comes back from the store, changed in nothing, because a Retry follows."""

    loaded: Loaded


class Resume(Struct, frozen=True):
    """Held runs go on: the one named, or all. A life may begin with runs of earlier ones held."""

    ticket: Ticket
    run: RunId | None = None


class Drain(Struct, frozen=True):
    """Nothing new starts; what runs is waited for."""


class Interrupt(Struct, frozen=True):
    """What runs is stopped and goes back to RUNNABLE; the attempts do not count. Implies Drain."""


class Configure(Struct, frozen=True):
    """What the settings declare, sent once at the start of a life and on every change of them.

    `host` is the guard: what all that runs on this machine may hold together; None: there is none. Unless it is `host_fixed`
    (the settings say it), an environment that is declared larger raises it.
    """

    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]
    tokens: tuple[Token, ...] = ()
    host: Resources | None = None
    host_fixed: bool = False


class RegisterDefinition(Struct, frozen=True):
    """RegisterJobDefinition: always a new revision."""

    ticket: Ticket
    registration: Registration


class DeregisterDefinition(Struct, frozen=True):
    ticket: Ticket
    name: str
    revision: int


class CreateToken(Struct, frozen=True):
    """CreateConsumableResource."""

    ticket: Ticket
    token: Token
    tags: tuple[tuple[str, str], ...] = ()


class UpdateToken(Struct, frozen=True):
    """`once`: named by the client, so that the same update that is sent again is made once (aws-batch.md §6.9)."""

    ticket: Ticket
    name: str
    operation: TokenOperation
    quantity: int
    once: str = ""


class DeleteToken(Struct, frozen=True):
    ticket: Ticket
    name: str


class PutKey(Struct, frozen=True):
    """A key is made, rotated or revoked: it is as this row says."""

    ticket: Ticket
    key: KeyRow


class PutPolicy(Struct, frozen=True):
    ticket: Ticket
    policy: PolicyRow


class DeletePolicy(Struct, frozen=True):
    ticket: Ticket
    name: str


class PutTags(Struct, frozen=True):
    """The tags of a resource are these from now on; None: the resource is gone, and they with it."""

    ticket: Ticket
    kind: str
    name: str
    tags: tuple[tuple[str, str], ...] | None


class Audit(Struct, frozen=True):
    """What changed nothing: calls that read, or were denied."""

    rows: tuple[AuditRow, ...]


class PruneAudit(Struct, frozen=True):
    """Records of the audit log up to this one are kept no longer. `hash`: its own, for the record that says so."""

    ticket: Ticket
    seq: int
    hash: str


class OpenSinks(Struct, frozen=True):
    """The sinks of the settings, at the start of a life and on every change of them. `children`: what of arrays' children is
    logged for them from now on; None: what was."""

    ticket: Ticket
    notify: tuple[Notify, ...]
    children: ChildEvents | None = None


class TellProgress(Struct, frozen=True):
    """From a sink's dispatcher. `run`: whose events alone it has."""

    ticket: Ticket
    progress: SinkProgress
    run: int | None = None


class Redeliver(Struct, frozen=True):
    """The events of a closed range again, to the sink `source` as it was written; `key` names the new cursor."""

    ticket: Ticket
    key: str
    source: str
    first: int
    last: int


class ReviveDead(Struct, frozen=True):
    """What was given up is tried again."""

    ticket: Ticket
    key: str


class EnableSink(Struct, frozen=True):
    ticket: Ticket
    key: str


# --- facts


class Started(Struct, frozen=True):
    key: AttemptKey
    at: Millis
    handle: str = ""  # the backend's own name of it: a pid, a container id
    address: str = ""  # where the other nodes of its job reach it, if the backend gives each its own
    image: str = ""  # the very one that its container was made from: name@sha256:…


class LaunchFailed(Struct, frozen=True):
    """Answered only once it is certain that nothing of that name runs or ever will."""

    key: AttemptKey
    at: Millis
    evidence: Evidence


class Exited(Struct, frozen=True):
    """Also for an attempt whose Started was never seen; `started_at` then says when it began."""

    key: AttemptKey
    at: Millis
    evidence: Evidence
    started_at: Millis | None = None
    image: str = ""  # as Started has it


class Observation(Struct, frozen=True):
    """One attempt in a census: alive (`evidence` is None) or ended."""

    key: AttemptKey
    started_at: Millis | None
    at: Millis | None = None  # of the end
    evidence: Evidence | None = None
    handle: str = ""
    address: str = ""  # as Started has it
    image: str = ""  # likewise


class Census(Struct, frozen=True):
    """All that a backend holds, asked for in turn `asked` (attempts that changed since are skipped)."""

    backend: str
    asked: int
    observations: tuple[Observation, ...]


class Tick(Struct, frozen=True):
    """A deadline has come."""


class Audited(Struct, frozen=True):
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
    | PlaceCommand
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
