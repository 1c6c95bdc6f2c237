"""The supervisor's one thread: a turn is news → ends → deadlines → starts → journal → told."""

from __future__ import annotations

import json
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from flowbatch.backends.supervisor import wire
from flowbatch.backends.supervisor.attempts import Attempts
from flowbatch.backends.supervisor.clients import Client
from flowbatch.backends.supervisor.journal import Journal
from flowbatch.backends.supervisor.memory import CgroupMemory
from flowbatch.backends.supervisor.proctable import ProcTable
from flowbatch.backends.supervisor.spawn import Order

_EVENTS_PER_TURN = 256
_FULL_DISK_S = 1.0
_STARTS_KEPT_S = (
    0.005  # nobody waits for the news of a start: told with the next end it costs the engine no turn of its own
)


class Supervisor:
    def __init__(
        self, listener: socket.socket, journal: Journal, table: ProcTable, cgroups: CgroupMemory | None, idle_s: float
    ) -> None:
        self._listener = listener
        self._journal = journal
        self._idle_s = idle_s
        self._memory = "resident memory, sampled" if cgroups is None else cgroups.title
        self._epoll = select.epoll()
        self._ready: dict[int, Callable[[], bool]] = {}  # False: done with this descriptor, close it
        self._clients: dict[int, Client] = {}
        self._tell_at: float | None = None
        self._attempts = Attempts(journal, table, cgroups, self._watch, self._unwatch)
        self._watch(listener.fileno(), self._accept)

    def run(self) -> None:
        """Returns when nobody is connected and nothing has run for `idle_s`."""
        idle_since = time.monotonic()
        while True:
            timeout = self._timeout()
            if self._clients or self._attempts:
                idle_since = time.monotonic()
            else:
                left = idle_since + self._idle_s - time.monotonic()
                if left <= 0:
                    return
                timeout = left if timeout < 0 else min(timeout, left)
            self._turn(self._epoll.poll(timeout, _EVENTS_PER_TURN))

    def _timeout(self) -> float:
        timeout = self._attempts.timeout()
        if self._tell_at is None:
            return timeout
        left = max(self._tell_at - time.monotonic(), 0)
        return left if timeout < 0 else min(timeout, left)

    def _turn(self, events: list[tuple[int, int]]) -> None:
        ready = self._ready
        for fd, _ in events:
            handler = ready.get(fd)
            if handler is not None and not handler():
                self._unwatch(fd)
        self._attempts.turn()
        try:
            self._journal.sync()
        except OSError:
            # The disk is full: what the journal does not hold may be neither told nor started.
            self._attempts.hold(_FULL_DISK_S)
            return
        if self._attempts.news:
            self._tell_when_due()

    def _watch(self, fd: int, handler: Callable[[], bool]) -> None:
        self._ready[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        """Taken out of the epoll by name. Closing alone would not do: a process that we have just spawned holds all of our descriptors for
        some more microseconds, up to the close-on-exec that comes after the end of its vfork; and what has been closed here would go on
        to tell of itself under a number that belongs to the next task by then."""
        if self._ready.pop(fd, None) is not None:
            self._epoll.unregister(fd)
            os.close(fd)

    def _tell_when_due(self) -> None:
        if self._attempts.urgent:
            self._tell()
        elif self._tell_at is None:
            self._tell_at = time.monotonic() + _STARTS_KEPT_S
        elif time.monotonic() >= self._tell_at:
            self._tell()

    def _tell(self) -> None:
        self._tell_at = None
        self._attempts.urgent = False
        line = f"[{','.join(self._attempts.news)}]\n".encode()
        self._attempts.news.clear()
        for client in list(self._clients.values()):
            if client.greeted and not client.closing:
                self._send(client, line)

    # --- clients

    def _accept(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return True  # it went away again, or no descriptor is left for it: it stays in the backlog
        fd = connection.fileno()
        client = self._clients[fd] = Client(connection, self._hello, self._order)

        def on_ready() -> bool:
            if client.receive() and (not client.wants_to_write or client.flush()):
                self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if client.wants_to_write else 0))
                return True
            self._drop(client)
            return False

        self._watch(fd, on_ready)
        return True

    def _drop(self, client: Client) -> None:
        """Its descriptor is closed by whoever noticed; here it is only let go of."""
        del self._clients[client.connection.detach()]

    def _send(self, client: Client, line: bytes) -> None:
        fd = client.connection.fileno()
        if not client.send(line):
            self._drop(client)
            self._unwatch(fd)
        elif client.wants_to_write:
            self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    def _hello(self, client: Client, message: dict[str, Any]) -> bool:
        hello = {
            "flowbatch": wire.PROTOCOL,
            "pid": os.getpid(),
            "boot": self._journal.boot,
            "memory": self._memory,
            "alive": len(self._attempts),
        }
        client.queue(json.dumps(hello).encode() + b"\n")
        if message["flowbatch"] != wire.PROTOCOL:
            return False
        client.base_env = dict(message["env"])
        self._drain_earlier(client)
        return True

    def _drain_earlier(self, client: Client) -> None:
        """What an engine before this one has ordered, and we have not read yet, must be in this one's first census: an attempt
        that is missing there may be started again. Those that came later are not touched: they in turn drain this one."""
        for fd, other in list(self._clients.items()):  # in the order in which they came
            if other is client:
                return
            if not other.drain():
                self._drop(other)
                self._unwatch(fd)

    def _order(self, client: Client, order: list[Any]) -> None:
        kind = order[0]
        if kind == "L":
            self._attempts.launch(Order(client.base_env, *order[1:]))
        elif kind == "F":
            for attempt in order[1:]:
                self._attempts.forget(attempt)
        elif kind == "S":
            self._attempts.stop(order[1], order[2])
        elif kind == "C":
            # Among the news, so that it is told in its place, and after a sync. The token names who asked.
            now = time.time_ns() // 1_000_000
            self._attempts.tell(f'["c",{order[1]},{now},[{self._attempts.census()}]]')
        else:
            raise ValueError(kind)
