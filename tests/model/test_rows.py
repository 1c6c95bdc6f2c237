from __future__ import annotations

from dataclasses import fields
from typing import Any

from flowbatch.model.notify import SinkWrites
from flowbatch.model.rows import Writes


def filled(number: int) -> Writes:
    """Every kind of row there is: a kind that is added later is here too."""
    writes = Writes()
    for each in fields(Writes):
        holder: Any = getattr(writes, each.name)
        if isinstance(holder, dict):
            holder[("same", each.name)] = number
            holder[number] = number
        elif isinstance(holder, SinkWrites):
            for kind in fields(SinkWrites):
                getattr(holder, kind.name).append(number)
        elif holder is None:
            setattr(writes, each.name, number)
        else:
            holder.append(number)
    return writes


def test_a_turn_on_top_of_another_loses_no_kind_of_row() -> None:
    both = filled(1)
    both.absorb(filled(2))
    for each in fields(Writes):
        holder = getattr(both, each.name)
        if isinstance(holder, dict):
            assert holder == {1: 1, 2: 2, ("same", each.name): 2}, each.name
        elif isinstance(holder, SinkWrites):
            assert all(getattr(holder, kind.name) == [1, 2] for kind in fields(SinkWrites))
        else:
            assert holder in ([1, 2], 2), each.name  # rows of both, or what the later turn says


def test_any_kind_of_row_is_a_reason_to_commit() -> None:
    for each in fields(Writes):
        assert not Writes()
        assert Writes(**{each.name: getattr(filled(1), each.name)}), each.name
