"""Consumable resources (aws-batch.md §6.9), `tokens` in a workflow file: what jobs hold while they run, beside vCPUs and memory."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple

from msgspec import Struct

from flowbatch.model.ids import Millis

Demand = tuple[tuple[str, int], ...]  # name and quantity of each, in the order of names; a task holds all of it or none


class TokenKind(IntEnum):
    REPLENISHABLE = 0  # given back when the attempt is over: a licence, a connection
    NON_REPLENISHABLE = 1  # used up by the attempt, whatever becomes of it: a budget


class TokenOperation(StrEnum):
    SET = "SET"
    ADD = "ADD"
    REMOVE = "REMOVE"


class Token(Struct, frozen=True):
    """As settings or a workflow file declare one."""

    name: str
    total: int
    kind: TokenKind = TokenKind.REPLENISHABLE


class TokenUpdateRow(NamedTuple):
    """An update that is not made again, whoever sends it again."""

    name: str
    once: str  # the client's token, and what it asked for
    at: Millis


class TokenRow(NamedTuple):
    """How one stands in the store. What is in use of a replenishable one follows from the live attempts."""

    name: str
    kind: TokenKind
    total: int  # of a non-replenishable one: what is left
    declared: int | None  # the total that the settings said last: only another one changes ours
    run: int | None  # RunRow.no of the run whose file declares it
    tags: tuple[tuple[str, str], ...]
    created_at: Millis


def figures(row: TokenRow, used: int) -> dict[str, object]:
    """As people are shown it. `used`: what live attempts ask for."""
    in_use = used if row.kind is TokenKind.REPLENISHABLE else 0
    return {
        "name": row.name,
        "type": row.kind.name,
        "total": row.total,
        "in_use": in_use,
        "available": max(row.total - in_use, 0),
        "tags": dict(row.tags),
        "created_at": row.created_at,
    }
