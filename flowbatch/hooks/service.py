"""One of apprise's services, by its URL. Its answer is yes or no; why not is what apprise logs meanwhile.

Wherever it connects to, it is held to the rule of webhooks: the networks that the settings allow, else public addresses. The very address
is seen (guard.py) but where a service connects on threads of its own, as XMPP's and MQTT's do: so names are looked up before each message,
too.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread

from flowbatch.hooks.addresses import Network, Refused
from flowbatch.hooks.escaping import plain
from flowbatch.hooks.forms import Message
from flowbatch.hooks.guard import Guard
from flowbatch.hooks.health import Answer, Outcome
from flowbatch.hooks.targets import Unready


class Service:
    """Raises Unready where apprise is not there, or knows no such URL."""

    def __init__(self, url: str, allowed: Sequence[Network]) -> None:
        try:
            import apprise
        except ModuleNotFoundError:
            said = "apprise is not installed: `pip install 'flowbatch[notify]'` brings it"
            raise Unready(said) from None
        theirs = logging.getLogger("apprise")
        theirs.addHandler(logging.NullHandler())
        theirs.propagate = False  # the terminal is the run's
        self._apprise = apprise.Apprise()
        if not self._apprise.add(url):
            raise Unready(f"{url.partition('://')[0]}://…: apprise does not know such a URL")
        self._allowed = allowed
        self._warnings = Warnings()
        own = logging.Logger("apprise", logging.WARNING)  # noqa: LOG001 - others may fail at the same time, and it goes with us
        own.addHandler(self._warnings)
        for plugin in self._apprise:
            plugin.redirects = False
            plugin.logger = own

    async def send(self, message: Message) -> Answer:
        begun = anyio.current_time()
        title, _, body = message.body.decode().partition("\n")
        error = await anyio.to_thread.run_sync(self._notify, title, body or title, abandon_on_cancel=True)
        latency_ms = int((anyio.current_time() - begun) * 1000)
        return Answer(Outcome.ENDPOINT if error else Outcome.DELIVERED, 0, error, latency_ms)

    def _notify(self, title: str, body: str) -> str:
        """On a thread. Why it did not go, or nothing."""
        self._warnings.last, guard = "", Guard(self._allowed)
        with guard.watching():
            try:
                for plugin in self._apprise:
                    look_ahead(guard, plugin)
                done = bool(self._apprise.notify(body=body, title=title, body_format="text"))
            except (Refused, TypeError):
                done = False  # the latter is what apprise raises for a service that it cannot load
        return "" if done else plain(guard.refused or self._warnings.last or "the service refused it", 200)

    async def close(self) -> None:
        """It keeps nothing open."""


def look_ahead(guard: Guard, plugin: Any) -> None:
    """At all that its hosts are called now. Raises Refused."""
    hosts = [plugin.host] if any("{host}" in template for template in plugin.templates) else []
    for host in {str(each) for each in (*hosts, getattr(plugin, "smtp_host", None)) if each}:
        try:
            found = socket.getaddrinfo(host.strip("[]"), None)
        except (OSError, UnicodeError):
            continue  # no address, or no host: ntfy://topic
        for *_, address in found:
            guard.look(str(address[0]))


class Warnings(logging.Handler):
    """The last thing that a service warned of."""

    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()
