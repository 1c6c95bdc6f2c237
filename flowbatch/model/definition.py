"""Job definitions as the registry keeps them: a name, revisions that only ever grow, each ACTIVE or INACTIVE (aws-batch.md §6.1)."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from flowbatch.model.ids import Millis


class Registration(Struct, frozen=True):
    """What is asked to be registered. Made by `spec.definitions` or, of a workflow file, by `spec.registering`.

    `body` is JSON: RegisterJobDefinition without its name and its tags, in AWS's spelling, with what AWS has no word for in that
    of a workflow file. `digest` tells whether two bodies with their tags say the same.
    """

    name: str
    body: str
    digest: str
    tags: tuple[tuple[str, str], ...] = ()


class DefinitionRow(NamedTuple):
    """One revision in the store. Only its status and its tags ever change."""

    name: str
    revision: int  # from 1
    active: bool
    body: str
    digest: str
    tags: tuple[tuple[str, str], ...]
    registered_at: Millis
    deregistered_at: Millis | None

    @property
    def id(self) -> str:
        return revision_id(self.name, self.revision)


class KnownRevision(NamedTuple):
    """What the engine keeps in memory of a revision."""

    name: str
    revision: int
    active: bool
    digest: str


def revision_id(name: str, revision: int) -> str:
    return f"{name}:{revision}"
