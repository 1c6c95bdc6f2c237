"""Holds code that is not ours to the addresses that it may go to (reliability.md §5).

Webhooks make their own sockets. A service's library makes its sockets itself, after a look-up of its own: an address that we had looked up
before is not the one that it gets. So it is Python that tells of every connection right before it is made, with the very address; what is
refused then is never connected to. Looked at is what runs in the guard's context, also on threads that it is handed on to, as apprise's
pools do. Threads that a library starts without it are not seen.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from ipaddress import ip_address
from typing import Any, Final

from flowbatch.hooks.addresses import Network, Refused, refusal

ANY_PORT: Final = 443  # mail and chat have ports of their own: it is the address that is judged
SENDING: Final = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
INTERNET: Final = frozenset({socket.AF_INET, socket.AF_INET6})


class Guard:
    """`refused`: why the last connection that was refused, was."""

    def __init__(self, allowed: Sequence[Network]) -> None:
        self._allowed = allowed
        self.refused = ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        install()
        token = _guard.set(self)
        try:
            yield
        finally:
            _guard.reset(token)

    def look(self, host: str) -> None:
        """Raises Refused."""
        try:
            ip_address(host.partition("%")[0])
        except ValueError:
            self.refused = f"{host} is looked up where nobody can see its address: write the address into the URL"
        else:
            why = refusal(host, ANY_PORT, self._allowed)
            if why is None:
                return
            self.refused = why
        raise Refused(self.refused)


_guard: ContextVar[Guard | None] = ContextVar("guard", default=None)


@cache
def install() -> None:
    """Once a process, and for good: so it is with audit hooks."""
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    """Called for whatever Python tells of: quick where it is none of ours."""
    if event in SENDING:
        guard, (connection, address, *_) = _guard.get(), args
        if guard is not None and address is not None and connection.family in INTERNET:
            guard.look(str(address[0]))
