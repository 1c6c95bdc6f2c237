"""What a request must be before anybody asks who sent it: for this host, from no foreign page, of a kind and size we take.

A page in the user's browser can reach a server on loopback, under its own name by DNS rebinding too: the Host header tells (security.md §3).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct, field

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
FOREIGN_SITES: Final = frozenset({"cross-site", "same-site"})
JSON_TYPES: Final = frozenset({"application/json", "application/x-amz-json-1.1", "application/x-amz-json-1.0"})


class Refusal(Struct, frozen=True):
    status: int
    code: str  # AWS's name where it has one
    message: str


class Gate(Struct, frozen=True):
    """`addresses`: those that are listened on, as literals. `names`: what else the server is called, in lower case."""

    addresses: frozenset[str]
    names: frozenset[str] = field(default_factory=frozenset)

    def refusal(self, method: str, headers: Mapping[str, str], *, has_body: bool) -> Refusal | None:
        """`headers` by names in lower case. None: the request may go on."""
        host = host_of(headers.get("host", ""))
        if host is None or not self.knows(host):
            shown = headers.get("host", "")[:100]
            return Refusal(421, "MisdirectedRequest", f"This server is not {shown!r}; `serve --host-name` adds a name")
        if headers.get("sec-fetch-site") in FOREIGN_SITES:
            return Refusal(403, "AccessDeniedException", "Requests of other sites' pages are not answered")
        origin = headers.get("origin")
        acts = method not in SAFE_METHODS or "upgrade" in headers  # no rule of browsers keeps a page from a WebSocket
        if origin is not None and acts and not self.same_origin(origin, headers["host"]):
            return Refusal(403, "AccessDeniedException", "The Origin is not this server's")
        if has_body and headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON_TYPES:
            return Refusal(415, "UnsupportedMediaType", "The body is JSON, and Content-Type: application/json says so")
        return None

    def knows(self, host: str) -> bool:
        if host == "localhost" or host in self.names or host in self.addresses:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        if str(address) in self.addresses:
            return True
        return any(listens_on_all(each) and not address.is_unspecified for each in self.addresses)

    def same_origin(self, origin: str, host: str) -> bool:
        scheme, separator, rest = origin.partition("://")
        return separator != "" and scheme in ("http", "https") and rest.lower() == host.lower()


def listens_on_all(address: str) -> bool:
    return ipaddress.ip_address(address).is_unspecified


@lru_cache(maxsize=256)
def host_of(header: str) -> str | None:
    """The host of a Host header in lower case, without its port and brackets; None where it is none."""
    if header.startswith("["):
        host, bracket, rest = header[1:].partition("]")
        if not bracket or (rest and not is_port(rest)):
            return None
        return host.lower() or None
    host, colon, port = header.partition(":")
    if colon and not is_port(":" + port):
        return None
    return host.lower().removesuffix(".") or None


def is_port(text: str) -> bool:
    digits = text[1:]
    return text[:1] == ":" and digits.isascii() and digits.isdigit() and len(digits) <= 5


def make_gate(addresses: Iterable[str], names: Iterable[str]) -> Gate:
    """Raises ValueError where an address is none."""
    return Gate(
        frozenset(str(ipaddress.ip_address(address)) for address in addresses),
        frozenset(name.lower().removesuffix(".") for name in names),
    )
