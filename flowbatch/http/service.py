"""What the operations work with: the engine to change things, a reader of the store to look at them, and whose resources they are."""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import anyio
from msgspec import Struct
from pydantic_core import from_json

from flowbatch.engine.verbs import Verbs
from flowbatch.http.arns import Account
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.live import HoldUps, Live, nothing
from flowbatch.http.pages import Pages
from flowbatch.http.turns import Turns
from flowbatch.model.jobspec import JobSpec
from flowbatch.spec.definitions import Reference
from flowbatch.spec.places import Surroundings
from flowbatch.spec.policy import Guard, Policy
from flowbatch.spec.submitting import Base, SubmissionRefused, Vault, base_of, submitted
from flowbatch.store.reader import Reader

if TYPE_CHECKING:
    from flowbatch.core.state import State
    from flowbatch.engine.loop import Engine
    from flowbatch.hooks.health import Answer
    from flowbatch.http.native.running import Compile, Shelves
    from flowbatch.model.access import AuditRow
    from flowbatch.model.definition import DefinitionRow
    from flowbatch.model.notify import Notify
    from flowbatch.store.pages import Listed
    from flowbatch.store.results import JobView

BASES_MAX: Final = 1000  # revisions whose layers are kept
SPECS_MAX: Final = 5000  # of ended jobs
READS_FLUSHED_MS: Final = 200


class Limits(Struct, frozen=True):
    """None: none. `strict`: AWS's own limits hold, as for its API they do unless the settings say otherwise."""

    strict: bool = True
    calls_per_s: float | None = None  # of one key
    jobs_open: int = 1_000_000
    read_s: float = 10.0  # for the head of a request, for its body, and for a handshake of TLS
    connections: int = 1024


class Service:
    """`folder`: where a process runs that says nothing of it. Use it in a `with`: it holds a connection to the store."""

    def __init__(
        self,
        engine: Engine,
        database: Path,
        logs: Path,
        master: bytes,
        *,
        account: Account | None = None,
        policy: Policy | None = None,
        folder: str = "/",
        limits: Limits | None = None,
        vault: Vault | None = None,
        hold_ups: HoldUps = nothing,
    ) -> None:
        self.engine = engine
        self.account = account or Account()
        self.limits = limits or Limits()
        self.logs = logs
        self.master = master
        self.keyed = hmac.new(master, digestmod="sha256")  # to be copied
        self.pages = Pages(master)
        self.reader = Reader(database)
        self.compile: Compile | None = None  # what is submitted as a workflow's text, by who knows how
        self.libraries: Sequence[Shelves] = ()  # of the folders that are watched
        self.try_sink: Callable[[Notify], Awaitable[Answer]] | None = None
        self.receivers: Callable[[], Sequence[Notify]] = tuple  # of the settings
        self.live = Live(engine, self.reader, hold_ups)
        self.verbs = Verbs(engine)
        self.around = Surroundings(folder, os.path.expanduser("~"), root=os.geteuid() == 0)
        self.guard = Guard(policy or Policy(), os.path.realpath)
        self.vault = vault
        self.submitting = Turns()  # of what is under way, by its id
        self.tagging = anyio.Lock()
        self._bases: dict[str, Base] = {}
        self._guards: dict[tuple[str, str], Guard] = {}
        self._bodies: dict[str, Mapping[str, Any]] = {}
        self._specs: dict[int, JobSpec] = {}
        self._reads: list[AuditRow] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reader.close()

    @property
    def state(self) -> State:
        return self.engine.machine.state

    def now(self) -> int:
        return self.engine.clock.now()

    # --- definitions

    def revision(self, text: str) -> DefinitionRow:
        """What `name`, `name:3` or an ARN means now; INACTIVE ones too where they are named. Raises ClientFailure."""
        try:
            reference = Reference.parse(text)
        except ValueError as error:
            raise ClientFailure(str(error)) from None
        if text.startswith("arn:"):
            self.account.parse(text)
        number = reference.revision
        if number is None:
            known = self.state.definitions.get(reference.name)
            number = None if known is None else known.latest
        row = None if number is None else self.stored(reference.name, number)
        if row is None:
            raise ClientFailure(f"Job definition {reference} does not exist")
        return row

    def stored(self, name: str, revision: int) -> DefinitionRow | None:
        """A revision, from what is kept where it is."""
        held = self._bases.get(f"{name}:{revision}")
        return held.row if held is not None else self.reader.revision(name, revision)

    def body(self, row: DefinitionRow) -> Mapping[str, Any]:
        """As it was registered, without name and tags."""
        held = self._bases.get(row.id)
        if held is not None:
            return held.body
        body = self._bodies.get(row.id)
        if body is None:
            if len(self._bodies) >= BASES_MAX:
                self._bodies.clear()
            body = self._bodies[row.id] = from_json(row.body)
        return body

    def govern(self, policy: Policy, vault: Vault | None) -> None:
        """By the settings as they are from now on: what was judged by the old ones is judged again."""
        self.guard = self.guard._replace(policy=policy)
        self.vault = vault
        self._bases.clear()
        self._guards.clear()

    def base(self, row: DefinitionRow, guard: Guard) -> Base:
        """Raises ClientFailure."""
        held = self._bases.get(row.id)
        if held is None or (self.guard.policy.rules and held.guard != guard):
            try:
                held = base_of(row, self.around, guard, self.vault)
            except SubmissionRefused as error:
                raise ClientFailure(f"Job definition {row.id}: {error}") from None
            if len(self._bases) >= BASES_MAX:
                self._bases.clear()
            self._bases[row.id] = held
        return held

    def effective(self, row: DefinitionRow, request: Mapping[str, Any], queue: str, principal: str) -> JobSpec:
        """What SubmitJob would run, held against what this principal's jobs may ask for in that queue. Raises ClientFailure,
        SubmissionRefused."""
        guard = self._guard_of(queue, principal)
        return submitted(self.base(row, guard), request, self.around, guard, self.vault)

    def secrets_of(self, row: DefinitionRow) -> tuple[str, ...]:
        """The names of those that its jobs want, once `effective` was asked."""
        held = self._bases.get(row.id)
        return () if held is None else held.secrets

    def _guard_of(self, queue: str, principal: str) -> Guard:
        """Without rules there is one for all."""
        if not self.guard.policy.rules:
            return self.guard
        key = (queue, principal)
        if key not in self._guards:
            if len(self._guards) >= BASES_MAX:
                self._guards.clear()
            self._guards[key] = self.guard._replace(policy=self.guard.policy.at(queue, principal), principal=principal)
        return self._guards[key]

    def active(self, row: DefinitionRow) -> bool:
        known = self.state.definitions.get(row.name)
        return known is not None and row.revision in known.active

    # --- jobs

    def spec(self, job: JobView | Listed) -> JobSpec:
        """It never changes: that of an open job is in memory."""
        known = self.state.jobs.get(job.id)
        if known is not None:
            return known.spec
        held = self._specs.get(job.no)
        if held is None:
            held = self.reader.job_plan(job).spec
            if len(self._specs) >= SPECS_MAX:
                self._specs.clear()
            self._specs[job.no] = held
        return held

    # --- tags

    def tags(self, kind: str, name: str, made_with: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        """As they are now: those that it was made with, unless they were changed."""
        changed = self.reader.tags(kind, name)
        return made_with() if changed is None else changed

    # --- the record of what changed nothing

    def note(self, row: AuditRow) -> None:
        self._reads.append(row)

    def noted(self) -> tuple[AuditRow, ...]:
        """Takes them."""
        rows, self._reads = tuple(self._reads), []
        return rows
