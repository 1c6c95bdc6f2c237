"""What the native API says of job definitions; a client makes the row of it again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from pydantic_core import from_json, to_json

from flowbatch.http.native.shapes import Said, Time
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import Millis


class DefinitionSaid(Said):
    name: str
    revision: int
    status: Literal["ACTIVE", "INACTIVE"]
    registered_at: Time
    deregistered_at: Time | None
    tags: dict[str, str]
    definition: dict[str, Any] = Field(description="As it was registered, without its name and tags.")

    @classmethod
    def of(cls, row: DefinitionRow) -> DefinitionSaid:
        return cls(
            name=row.name,
            revision=row.revision,
            status="ACTIVE" if row.active else "INACTIVE",
            registered_at=row.registered_at,
            deregistered_at=row.deregistered_at,
            tags=dict(row.tags),
            definition=from_json(row.body),
        )

    def view(self) -> DefinitionRow:
        """Without its digest, which only the engine compares."""
        return DefinitionRow(
            self.name,
            self.revision,
            self.status == "ACTIVE",
            to_json(self.definition).decode(),
            "",
            tuple(self.tags.items()),
            Millis(self.registered_at),
            None if self.deregistered_at is None else Millis(self.deregistered_at),
        )


class DefinitionsSaid(Said):
    definitions: list[DefinitionSaid]
    next: str | None = Field(description="`after` of the next page; null: there is none.")
