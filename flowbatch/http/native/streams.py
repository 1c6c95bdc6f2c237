"""Answers that go on: server-sent events, and logs that are followed. A client that does not read is sent away."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import anyio
from aiohttp import web
from msgspec import Struct, field
from pydantic_core import to_json

from flowbatch.logs import Logger

if TYPE_CHECKING:
    from pydantic import BaseModel

log = Logger(__name__)

EVENTS: Final = "text/event-stream"
KEEP_ALIVE: Final = b": still here\n\n"
Pieces = AsyncIterator[bytes]


class BrokenOff(Exception):
    """There is more, and it will not come: the connection is cut, for an answer that ends well says that this was all."""


class Raw(Struct, frozen=True):
    """An answer that is no JSON."""

    body: bytes
    kind: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Stream(Struct, frozen=True):
    """An answer whose pieces come as they come. `slow_s`: how long one may stay unread before the connection is cut."""

    kind: str
    pieces: Callable[[], Pieces]
    slow_s: float
    headers: Mapping[str, str] = field(default_factory=dict)

    async def send(self, raw: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={**headers, **self.headers, "content-type": self.kind, "cache-control": "no-store"}
        )
        pieces = self.pieces()
        try:
            await response.prepare(raw)
            async for piece in pieces:
                if raw.transport is None or raw.transport.is_closing():
                    break
                if not piece:
                    continue  # nothing yet: only whether somebody listens was looked at
                with anyio.fail_after(self.slow_s):
                    await response.write(piece)
            await response.write_eof()
        except TimeoutError:
            log.warning("listener_too_slow", address=raw.remote, path=raw.path)
            if raw.transport is not None:
                raw.transport.abort()
        except BrokenOff:
            if raw.transport is not None:
                raw.transport.abort()
        except (ConnectionError, web.HTTPException):
            pass  # it has gone
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await close(pieces)
        return response


async def close(pieces: Pieces) -> None:
    end: Callable[[], Awaitable[None]] | None = getattr(pieces, "aclose", None)
    if end is not None:
        await end()


class Message(Struct, frozen=True):
    """One of a subscription. `number`: where to go on from."""

    value: BaseModel | Mapping[str, object]
    number: int | None = None
    last: bool = False  # it says why no more come

    def as_event(self) -> bytes:
        """A server-sent event; JSON has no newlines of its own."""
        head = b"" if self.number is None else b"id: %d\n" % self.number
        return head + (b"event: closed\n" if self.last else b"") + b"data: " + to_json(self.value) + b"\n\n"


Messages = AsyncGenerator[Message | None, None]  # None: nothing new, and still here


def closed(reason: str) -> Message:
    return Message({"reason": reason}, last=True)


async def as_events(messages: Messages) -> AsyncIterator[bytes]:
    """The head goes out at once."""
    yield KEEP_ALIVE
    async with aclosing(messages):
        async for each in messages:
            yield KEEP_ALIVE if each is None else each.as_event()
