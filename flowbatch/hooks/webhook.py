"""A webhook over HTTP: one POST a message, guarded against forgery, bounded in time and in what is read of the answer."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp
import anyio
from aiohttp.abc import AbstractResolver

from flowbatch import __version__
from flowbatch.hooks.addresses import Network, Refused, refusal
from flowbatch.hooks.escaping import plain
from flowbatch.hooks.forms import Message
from flowbatch.hooks.health import Answer, Outcome
from flowbatch.hooks.signing import headers
from flowbatch.model.ids import Millis

CONNECT_S: Final = 5.0
TOTAL_S: Final = 15.0
TRAILING_S: Final = 1.0  # for the rest of an answer whose status is known
READ_BYTES: Final = 4096
ERROR_CHARS: Final = 200
MESSAGE_STATUSES: Final = frozenset({400, 413, 422})
AGENT: Final = f"flowbatch/{__version__}"


def guard(allowed: Sequence[Network]) -> Callable[[Any], socket.socket]:
    """Sees the very address that is about to be connected to: nothing is resolved again behind it."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        why = refusal(str(address[0]), int(address[1]), allowed)
        if why is not None:
            raise Refused(why)
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


def make_session(
    allowed: Sequence[Network], *, total_s: float = TOTAL_S, resolver: AbstractResolver | None = None
) -> aiohttp.ClientSession:
    """One for all webhooks. Certificates are verified as the system does."""
    connector = aiohttp.TCPConnector(
        socket_factory=guard(allowed),
        use_dns_cache=False,
        limit=0,
        limit_per_host=32,
        keepalive_timeout=30,
        resolver=resolver,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=min(CONNECT_S, total_s)),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": AGENT},
        trust_env=False,
        auto_decompress=False,
        raise_for_status=False,
    )


class Webhook:
    """`dispatcher.Target` over HTTP. `keys`: for signatures; `bearer` goes with each request."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        now: Callable[[], Millis],
        *,
        keys: Sequence[bytes] = (),
        authorization: str = "",
    ) -> None:
        self._session = session
        self._url = url
        self._now = now
        self._keys = keys
        self._authorization = {"Authorization": authorization} if authorization else {}

    async def send(self, message: Message) -> Answer:
        begun = anyio.current_time()
        sent = {
            "Content-Type": message.content_type,
            **headers(self._keys, message.id, self._now() // 1000, message.body),
            **self._authorization,
        }
        try:
            async with self._session.post(
                self._url + message.path, data=message.body, headers=sent, allow_redirects=False
            ) as response:
                status, found = response.status, response.headers
                text = await read_some(response)
        except TimeoutError:
            return Answer(Outcome.ENDPOINT, 0, "no answer in time", since_ms(begun))
        except aiohttp.InvalidURL:
            return Answer(Outcome.ENDPOINT, 0, "its URL is none", since_ms(begun))  # which may hold a secret
        except (aiohttp.ClientError, OSError) as error:
            return Answer(Outcome.ENDPOINT, 0, reason_of(error), since_ms(begun))
        except ValueError:
            return Answer(Outcome.ENDPOINT, 0, "its URL is none", since_ms(begun))
        return judged(status, found.get("Retry-After"), found.get("Location"), text, since_ms(begun), self._now())

    async def close(self) -> None:
        """The session is everyone's."""


async def read_some(response: aiohttp.ClientResponse) -> bytes:
    """What comes quickly, and not much of it. The rest is dropped with the connection."""
    if response.content.is_eof():  # most answers have come whole, and need no clock
        return response.content.read_nowait(READ_BYTES)
    found = b""
    with anyio.move_on_after(TRAILING_S):
        while len(found) < READ_BYTES:
            part = await response.content.read(READ_BYTES - len(found))
            if not part:
                return found
            found += part
    response.close()
    return found


def since_ms(begun: float) -> int:
    return int((anyio.current_time() - begun) * 1000)


def reason_of(error: Exception) -> str:
    """Of several addresses that were tried the first that was refused by us, else what the system said."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return plain(
            f"TLS: {error.os_error if isinstance(error, aiohttp.ClientConnectorSSLError) else error.certificate_error}",
            ERROR_CHARS,
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        cause: BaseException = error.os_error
        tried = getattr(cause, "exceptions", ())
        cause = next((each for each in tried if isinstance(each, Refused)), cause)
        if isinstance(cause, Refused):
            return plain(str(cause), ERROR_CHARS)
        number = cause.errno if isinstance(cause, OSError) else None
        return plain(
            f"no connection: {os.strerror(number) if number is not None and number > 0 else cause}", ERROR_CHARS
        )
    if isinstance(error, aiohttp.ServerDisconnectedError | ConnectionResetError):
        return "it hung up before it answered"
    return plain(str(error), ERROR_CHARS) or type(error).__name__


def judged(
    status: int, retry_after: str | None, location: str | None, text: bytes, latency_ms: int, now: Millis
) -> Answer:
    said = plain(text.decode("utf-8", "replace"), ERROR_CHARS)
    error = f"{status}{' ' if said else ''}{said}"
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED, status, "", latency_ms)
    if status == 410:
        return Answer(Outcome.GONE, status, error, latency_ms)
    if status in MESSAGE_STATUSES:
        return Answer(Outcome.MESSAGE, status, error, latency_ms)
    if 300 <= status < 400:
        return Answer(Outcome.ENDPOINT, status, f"{status}: redirects are not followed", latency_ms)
    return Answer(Outcome.ENDPOINT, status, error, latency_ms, wait_ms(retry_after, now))


def wait_ms(retry_after: str | None, now: Millis) -> int | None:
    """`Retry-After`: seconds, or a date."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return int(text[:9]) * 1000
    try:
        return max(int(parsedate_to_datetime(text).timestamp() * 1000) - now, 0)
    except ValueError:
        return None
