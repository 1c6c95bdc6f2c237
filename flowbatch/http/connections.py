"""Connections with limits: how many there may be, and how long a request may take to come."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from flowbatch.http.service import Limits


class Connection(RequestHandler):
    """Closed where the head of a request does not come within its time: nobody may hold a connection with half a line."""

    __slots__ = ("_head_timer", "_read_s")
    _head_timer: asyncio.TimerHandle | None

    def __init__(self, listener: Listener, read_s: float, **more: Any) -> None:
        super().__init__(listener, **more)
        self._head_timer = None
        self._read_s = read_s

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages or self._current_request is not None:
            self._drop_timer()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(self._read_s, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._drop_timer()
        super().connection_lost(exc)

    def _drop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        self.force_close()


class Turnstile(asyncio.Protocol):
    """What a connection gets where there are too many: a word, and its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.close()


class Listener(web.Server):
    """aiohttp's, with our connections and their number bounded."""

    def __init__(self, handler: Any, limits: Limits, **more: Any) -> None:
        super().__init__(handler, **more)
        self._limits = limits

    def __call__(self) -> Any:
        if len(self._connections) >= self._limits.connections:
            return Turnstile()
        return Connection(self, self._limits.read_s, loop=self._loop, **self._kwargs)
