from __future__ import annotations

from typing import Any

from flowbatch.model.notify import SinkWrites
from flowbatch.model.rows import Writes


def filled(number: int) -> Writes:
    """Every kind of row there is: a kind that is added later is here too."""
    writes = Writes()
    for name in Writes.__struct_fields__:
        holder: Any = getattr(writes, name)
        if isinstance(holder, dict):
            holder[("same", name)] = number
            holder[number] = number
        elif isinstance(holder, SinkWrites):
            for kind in SinkWrites.__struct_fields__:
                getattr(holder, kind).append(number)
        elif holder is None:
            setattr(writes, name, number)
        else:
            holder.append(number)
    return writes


def test_a_turn_on_top_of_another_loses_no_kind_of_row() -> None:
    both = filled(1)
    both.absorb(filled(2))
    for name in Writes.__struct_fields__:
        holder = getattr(both, name)
        if isinstance(holder, dict):
            assert holder == {1: 1, 2: 2, ("same", name): 2}, name
        elif isinstance(holder, SinkWrites):
            assert all(getattr(holder, kind) == [1, 2] for kind in SinkWrites.__struct_fields__)
        else:
            assert holder in ([1, 2], 2), name  # rows of both, or what the later turn says


def test_any_kind_of_row_is_a_reason_to_commit() -> None:
    for name in Writes.__struct_fields__:
        assert not Writes()
        assert Writes(**{name: getattr(filled(1), name)}), name
