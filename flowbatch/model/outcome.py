"""What one turn decided: rows to make durable, then effects to perform."""

from __future__ import annotations

from msgspec import Struct, field

from flowbatch.model.effects import Effect
from flowbatch.model.rows import Writes


class Outcome(Struct):
    turn: int
    writes: Writes = field(default_factory=Writes)
    effects: list[Effect] = field(default_factory=list)
