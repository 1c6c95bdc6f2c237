"""A backend at the other end of the socket: lines in, lines out, neither ever waited for."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

_RECEIVE_BYTES = 256 << 10
_UNREAD_BYTES = 64 << 20  # a client that reads nothing for so long must come again and ask for a census


class Client:
    """`on_hello` answers the first line and says whether the rest is wanted; `on_order` gets each order after it."""

    def __init__(
        self,
        connection: socket.socket,
        on_hello: Callable[[Client, dict[str, Any]], bool],
        on_order: Callable[[Client, list[Any]], None],
    ) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.base_env: dict[str, str] = {}
        self.greeted = False
        self.closing = False  # once what is unsent has gone
        self._on_hello = on_hello
        self._on_order = on_order
        self._input = b""
        self._unsent = b""

    @property
    def wants_to_write(self) -> bool:
        return bool(self._unsent)

    def receive(self) -> bool:
        """False when it is gone. A line that makes no sense ends the connection: the other end is no backend of ours."""
        try:
            data = self.connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False  # reset
        if not data:
            return False
        if self.closing:
            return True
        *lines, self._input = (self._input + data).split(b"\n") if self._input else data.split(b"\n")
        try:
            for line in lines:
                self._take(json.loads(line))
        except (ValueError, KeyError, TypeError, IndexError):
            return False
        return True

    def drain(self) -> bool:
        """Takes all that has arrived. False when it is gone: the orders of an engine that was killed end with its connection."""
        while self._has_arrived():
            if not self.receive():
                return False
        return True

    def _has_arrived(self) -> bool:
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True  # reset: receiving says so
        return True

    def _take(self, message: Any) -> None:
        if not self.greeted:
            self.greeted = True
            self.closing = not self._on_hello(self, message)
        elif not self.closing:
            for order in message:
                self._on_order(self, order)

    def queue(self, line: bytes) -> None:
        self._unsent += line

    def send(self, line: bytes) -> bool:
        """False when it is gone, or reads nothing."""
        self.queue(line)
        return self.flush()

    def flush(self) -> bool:
        try:
            sent = self.connection.send(self._unsent)
        except BlockingIOError:
            return len(self._unsent) <= _UNREAD_BYTES
        except OSError:
            return False  # gone
        self._unsent = self._unsent[sent:]
        return not (self.closing and not self._unsent)
