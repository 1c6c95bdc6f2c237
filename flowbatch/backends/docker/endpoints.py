"""Where the Engine is, and how it is spoken to: as Docker's own client finds it.

`DOCKER_HOST` wins over Docker's context, that over the usual sockets. `https://`, and `tcp://` with `DOCKER_TLS_VERIFY` set, is spoken to over TLS, with ca.pem,
cert.pem and key.pem from `DOCKER_CERT_PATH` (~/.docker unless given).
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import Final, NamedTuple

from flowbatch.errors import BackendUnavailable

TCP: Final = re.compile(r"(tcp|https?)://")
CONTEXT: Final = "context:"  # of Docker's own, by its name
FILES: Final = ("ca.pem", "cert.pem", "key.pem")


class Endpoint(NamedTuple):
    """`url` None: where Docker's context says, the named one or the current, or its usual sockets. Without `tls` a connection is in
    the clear, unless it is that context's."""

    url: str | None
    tls: ssl.SSLContext | None = None
    context: str | None = None


def endpoint_of(given: str | None) -> Endpoint:
    """Raises BackendUnavailable where TLS is asked for and its files do not do."""
    if given is not None and given.startswith(CONTEXT):
        return Endpoint(None, context=given.removeprefix(CONTEXT))
    url = given or os.environ.get("DOCKER_HOST") or None
    if url is None or not TCP.match(url) or not (url.startswith("https:") or os.environ.get("DOCKER_TLS_VERIFY")):
        return Endpoint(url)
    return Endpoint(TCP.sub("https://", url, count=1), tls_of(certificates()))


def certificates() -> Path:
    folder = os.environ.get("DOCKER_CERT_PATH")
    return Path(folder) if folder else Path.home() / ".docker"


def tls_of(folder: Path) -> ssl.SSLContext:
    authority, certificate, key = (folder / name for name in FILES)
    try:
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
    except OSError as error:  # as the errors of ssl are
        why = error.strerror if isinstance(error, FileNotFoundError | PermissionError) else str(error)
        raise BackendUnavailable(
            f"the Docker Engine is to be reached over TLS, and {', '.join(FILES)} in {folder} cannot be used ({why}): "
            "set DOCKER_CERT_PATH to the folder that has them"
        ) from None
    return context
