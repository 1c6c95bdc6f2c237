"""Connections with limits: how many there may be, and how long a request may take to come."""

from __future__ import annotations

import asyncio
import logging
import resource
import traceback
from collections import deque
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from flowbatch.http.service import Limits
from flowbatch.logs import Logger

log = Logger(__name__)

BACKLOG: Final = 1024  # that the kernel keeps for us
ACCEPTED_AT_ONCE: Final = 32  # before those are looked at: each takes a descriptor, also one that is turned away
KEPT_BACK: Final = 256  # descriptors for all that is no connection: the store, backends, logs, folders


def room() -> int:
    """Connections that the limit of descriptors leaves: whoever opens more must not keep us from opening a file."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BACKLOG * 64 if soft == resource.RLIM_INFINITY else max(8, soft - min(KEPT_BACK, soft // 2))


def make_room(connections: int) -> None:
    """Raises our own limit of descriptors to what so many connections need, as far as we may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + KEPT_BACK
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


class Connection(RequestHandler):
    """Closed where the head of a request does not come within its time: nobody may hold a connection with half a line."""

    __slots__ = ("_head_timer", "_read_s")
    _head_timer: asyncio.TimerHandle | None

    def __init__(self, listener: Listener, read_s: float, **more: Any) -> None:
        super().__init__(listener, **more)
        self._head_timer = None
        self._read_s = read_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._read_s, self._too_slow)  # also for who says nothing at all

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


class Complaints(logging.Handler):
    """What aiohttp logs by itself, in our log. A request that it cannot read is a line there, however much of it came: whoever scans
    a port writes as many as they like."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        said = record.getMessage()
        if isinstance(error, HttpProcessingError):
            log.info("request_unreadable", status=error.code, said=said, error=error.message.partition("\n")[0][:200])
        elif error is not None:
            lines = "".join(traceback.format_exception(error))
            log.error("connection_failed", said=said, error=f"{type(error).__name__}: {error}", traceback=lines)
        else:
            log.info("connection", said=said)


def complaints() -> logging.Logger:
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [Complaints()]
    return logger


class Listener(web.Server):
    """aiohttp's, with our connections and their number bounded."""

    def __init__(self, handler: Any, limits: Limits, **more: Any) -> None:
        super().__init__(handler, logger=complaints(), **more)
        self._limits = limits
        self._most = min(limits.connections, room())
        self._begun: deque[float] = deque()  # when those began that are not yet known: in a handshake of TLS

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if self._begun:
            self._begun.popleft()

    def __call__(self) -> Any:
        now = self._loop.time()
        while self._begun and now - self._begun[0] > self._limits.read_s:
            self._begun.popleft()  # given up
        if len(self._connections) + len(self._begun) >= self._most:
            return Turnstile()
        self._begun.append(now)
        return Connection(self, self._limits.read_s, loop=self._loop, **self._kwargs)
