"""Where the Docker Engine of a node is."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from flowbatch.model.places import HERE
from flowbatch.spec.scalars import shown

ENDPOINTS: Final = (
    f"{HERE} is this machine; another Docker Engine is unix:///path, tcp://host:2376, ssh://user@host or context:NAME"
)
CONTEXT: Final = re.compile(r"context:[a-zA-Z0-9][a-zA-Z0-9_.+-]*")
LOCAL_ENDPOINTS: Final = (HERE, "unix:///var/run/docker.sock", "unix:///run/docker.sock")


def endpoint_of(value: object) -> str:
    """`local`, or where another Docker Engine is. Raises ValueError with a sentence."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"an endpoint is text, found {shown(value)}; {ENDPOINTS}")
    if value in LOCAL_ENDPOINTS:
        return HERE
    if CONTEXT.fullmatch(value):
        return value
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError as error:
        raise ValueError(f"{shown(value)} is not an endpoint: {error}") from None
    if url.password is not None:
        raise ValueError("an endpoint holds no password: everybody may read it; use keys or certificates")
    if url.query or url.fragment or any(char.isspace() for char in value):
        raise ValueError(f"{shown(value)} is not an endpoint; {ENDPOINTS}")
    if url.scheme == "unix" and not url.netloc and url.path.startswith("/"):
        return value
    if url.scheme in ("tcp", "https") and url.hostname and port and url.path in ("", "/"):
        return f"{url.scheme}://{url.netloc}"
    if url.scheme in ("tcp", "https") and url.hostname and not port:
        raise ValueError(f"{value}: a port is missing: 2376 is usual with TLS, 2375 without")
    if (
        url.scheme == "ssh"
        and url.hostname
        and not url.hostname.startswith("-")
        and not (url.username or "").startswith("-")
        and ":" not in url.path
    ):
        return value
    raise ValueError(f"{shown(value)} is not an endpoint; {ENDPOINTS}")
