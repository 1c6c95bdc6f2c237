"""The registry of job definitions: which revision a registration becomes, which one a name means (aws-batch.md §6.1).

Memory holds numbers and digests alone; the bodies are in the store. What a job runs with is pinned in its own spec, so that
nothing here changes a job that was submitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.definition import DefinitionRow, KnownRevision, Registration, revision_id
from flowbatch.model.jobspec import RunPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flowbatch.core.state import State
    from flowbatch.core.turn import Turn
    from flowbatch.model.stimuli import DeregisterDefinition, RegisterDefinition


class Revisions(Struct):
    """Of one name. Revisions up to `last` exist; those in `active` are ACTIVE, in the order of their numbers."""

    last: int = 0
    active: dict[int, str] = field(default_factory=dict)  # revision → digest

    @property
    def latest(self) -> int | None:
        """What the name alone means."""
        return next(reversed(self.active), None)


def restore(known: Iterable[KnownRevision]) -> dict[str, Revisions]:
    """`known` in the order of the revisions of each name."""
    found: dict[str, Revisions] = {}
    for each in known:
        revisions = found.get(each.name)
        if revisions is None:
            revisions = found[each.name] = Revisions()
        revisions.last = max(revisions.last, each.revision)
        if each.active:
            revisions.active[each.revision] = each.digest
    return found


def on_register(state: State, command: RegisterDefinition, out: Turn) -> None:
    """Each registration makes a revision, also one that says what the last one said: AWS's rule for its API."""
    revision = register(state, command.registration, out)
    out.answer(command.ticket, value={"name": command.registration.name, "revision": revision})


def on_deregister(state: State, command: DeregisterDefinition, out: Turn) -> None:
    """ACTIVE → INACTIVE; jobs that were submitted from it go on. Again is no error, as with AWS's idempotent call."""
    revisions = state.definitions.get(command.name)
    if revisions is None or command.revision > revisions.last:
        out.answer(command.ticket, f"there is no job definition {revision_id(command.name, command.revision)}")
        return
    changed = revisions.active.pop(command.revision, None) is not None
    if changed:
        out.writes.deregistered.append((command.name, command.revision, out.now))
    out.answer(command.ticket, value={"changed": changed, "latest": revisions.latest})


def register(state: State, registration: Registration, out: Turn) -> int:
    revisions = state.definitions.setdefault(registration.name, Revisions())
    revisions.last += 1
    revisions.active[revisions.last] = registration.digest
    out.writes.definitions.append(
        DefinitionRow(
            registration.name, revisions.last, True, registration.body, registration.digest, registration.tags, out.now, None
        )
    )  # fmt: skip
    return revisions.last


def pin(state: State, plan: RunPlan, out: Turn) -> RunPlan:
    """The plan with the revision of each job's definition. What the file defines is registered first, unless the latest ACTIVE
    revision says the same already."""
    numbers: dict[str, str] = {}
    for registration in plan.definitions:
        revisions = state.definitions.get(registration.name)
        latest = None if revisions is None else revisions.latest
        if latest is None or revisions is None or revisions.active[latest] != registration.digest:
            latest = register(state, registration, out)
        numbers[registration.name] = revision_id(registration.name, latest)
    if not numbers:
        return plan
    jobs = tuple(
        replace(job, spec=replace(job.spec, definition=numbers[job.spec.definition]))
        if job.spec.definition in numbers
        else job
        for job in plan.jobs
    )
    return replace(plan, jobs=jobs, definitions=())
