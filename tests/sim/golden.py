"""The golden law: what the store brings back is what memory had."""

from __future__ import annotations

from typing import NamedTuple

from flowbatch.core import invariants
from flowbatch.core.state import State
from flowbatch.model.ids import Millis, RunId


class Left(NamedTuple):
    """What a state comes down to. What memory and rows do not agree in stays so until
    a crash, so that some turns and each crash will do; the rows that a turn has written are compared in that turn."""

    canonical: invariants.Canonical
    now: Millis
    held: frozenset[RunId]  # runs that the life was told to leave alone: no row says so

    @classmethod
    def of(cls, state: State, now: Millis) -> Left:
        held = frozenset(name for name, run in state.runs.items() if run.held)
        return cls(invariants.canonical(state, now), now, held)

    def compare(self, again: State) -> None:
        for name in self.held:
            again.runs[name].held = True
        theirs = invariants.canonical(again, self.now)
        for key, value in self.canonical.items():
            assert value == theirs[key], f"rebuild differs in {key}:\n ours   {value}\n stored {theirs[key]}"
        for name in self.held:
            again.runs[name].held = False
