"""What is submitted with an `Idempotency-Key` is made once, however often it is sent (the IETF's draft of that header).

The id of the run or job says so itself: its first half is worked out of the key and who sent it, the second of the body. So it is as durable
as what was made, also across lives, for as long as that is kept.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct

from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure, Failure
from flowbatch.model.ids import uuid_text

HEADER: Final = "Idempotency-Key"
KEY_MAX: Final = 255  # characters
HALF: Final = 8  # bytes of an id


class KeyReused(Failure):
    status = 422
    code = "IdempotencyKeyReusedException"


class Once(Struct, frozen=True):
    id: str
    again: bool  # it was made before


@asynccontextmanager
async def once(call: Call, ids: Callable[[str], list[str]]) -> AsyncIterator[Once | None]:
    """None without a key. `ids`: of what the store has, by how they begin. While one submission is under way, another with its key
    waits. Raises ClientFailure, KeyReused."""
    said = call.request.headers.get(HEADER.lower())
    if said is None:
        yield None
        return
    made = id_of(call, key_of(said))
    head = made[:18]  # all of the key's half: `01234567-89ab-4cde`
    turns = call.service.submitting
    await turns.enter(head)
    try:
        known = ids(head)
        if known and made not in known:
            raise KeyReused(f"{HEADER}: this key was sent before with another body; a new submission needs a new key")
        yield Once(made, bool(known))
    finally:
        turns.leave(head)


def key_of(said: str) -> str:
    """In the quotes that the draft has around it, or without. Raises ClientFailure."""
    key = said[1:-1] if len(said) > 1 and said[0] == said[-1] == '"' else said
    if not (1 <= len(key) <= KEY_MAX and key.isascii() and key.isprintable()):
        raise ClientFailure(f"{HEADER}: 1 to {KEY_MAX} printable characters of ASCII are needed, such as a UUID")
    return key


def id_of(call: Call, key: str) -> str:
    """Of each principal its own, and of each operation."""
    master, request = call.service.master, call.request
    seed = f"once|{call.principal.arn}|{call.action}|{key}"
    own = hmac.digest(master, seed.encode(), "sha256")[:HALF]
    body = hmac.digest(master, f"{request.query}|{request.digest}|{seed}".encode(), "sha256")[:HALF]
    return uuid_text(own + body)
