"""HTTP to a server of ours, for the command line: over its unix socket as the folder's owner, or by its URL with a key."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from flowbatch.errors import BackendUnavailable, InputError
from flowbatch.folder import short_socket_path

SECONDS: Final = 30.0
SILENCE_S: Final = 45.0  # of a stream that says every 15 s that it is still there
PREFIX: Final = "/api/v1"
READ_BYTES: Final = 65_536
MESSAGE_BYTES: Final = 64 * 1024 * 1024  # of a stream


class ConnectionLost(BackendUnavailable):
    """In the middle of an answer."""


class NotThere(InputError):
    """The server knows nothing of that."""


class OverUnix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_socket_path(self._path) as path:
            self.sock.connect(path)


class Channel:
    """`where`: the server's unix socket, or its URL; `key`: as `flowbatch key create` prints it. Raises InputError where the URL is none."""

    def __init__(self, where: Path | str, key: str | None = None) -> None:
        self.where = where
        self._key = key
        self._kept: http.client.HTTPConnection | None = None
        self._stream: http.client.HTTPConnection | None = None
        if isinstance(where, str):
            self._url = judged(where, key)

    def __str__(self) -> str:
        return str(self.where)

    # --- questions

    def get(self, *steps: str, **query: object) -> Any:
        """The answer's JSON. Raises InputError where the server refuses, BackendUnavailable where it does not answer."""
        return json.loads(self.raw(*steps, **query)[0])

    def raw(self, *steps: str, **query: object) -> tuple[bytes, Mapping[str, str]]:
        """The answer as it came, and its headers by names in lower case."""
        return self._ask("GET", target(steps, query), None)

    def post(self, *steps: str, body: Mapping[str, object]) -> Any:
        return json.loads(self._ask("POST", target(steps, {}), json.dumps(body).encode())[0])

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[bytes, Mapping[str, str]]:
        """A kept connection may have been closed meanwhile: what only reads is asked once more then."""
        for again in (method == "GET" and self._kept is not None, False):
            if self._kept is None:
                self._kept = self._connection(SECONDS)
            try:
                answer = self._send(self._kept, method, path, body)
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not again:
                    raise self._unreachable(error) from error
                continue
            self._judge(answer, data)
            return data, {name.lower(): value for name, value in answer.getheaders()}
        raise AssertionError("asked twice, and neither answered nor refused")

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, **headers: str
    ) -> http.client.HTTPResponse:
        told = {"Accept": "application/json", **headers}
        if self._key is not None:
            told["Authorization"] = f"Bearer {self._key}"
        if body is not None:
            told["Content-Type"] = "application/json"
        connection.request(method, path, body, told)
        return connection.getresponse()

    # --- streams

    def stream(self, *steps: str, **query: object) -> Iterator[tuple[str, Any]]:
        """Server-sent events: their kind (`message` unless they say one) and their JSON. Ends where the server ends it.
        Raises ConnectionLost where that was not its last word."""
        self._stream = connection = self._connection(SILENCE_S)
        try:
            try:
                answer = self._send(connection, "GET", target(steps, query), None, Accept="text/event-stream")
                if answer.status != 200:
                    self._judge(answer, answer.read())
                yield from messages(answer)
            except (OSError, http.client.HTTPException, AttributeError) as error:  # the last: it was cut meanwhile
                raise ConnectionLost(f"{self}: the connection was lost: {error}") from error
        finally:
            connection.close()
            self._stream = None

    def lines(self, *steps: str, **query: object) -> Iterator[bytes]:
        """Of an answer that goes on, as they come."""
        connection = self._connection(None)
        try:
            answer = self._send(connection, "GET", target(steps, query), None, Accept="*/*")
            if answer.status != 200:
                self._judge(answer, answer.read())
            yield from lines_of(answer)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionLost(f"{self}: the connection was lost: {error}") from error
        finally:
            connection.close()

    def cut(self) -> None:
        """Ends a stream that another thread waits for."""
        connection = self._stream
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended by itself

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # --- what goes wrong

    def _connection(self, timeout: float | None) -> http.client.HTTPConnection:
        if isinstance(self.where, Path):
            return OverUnix(self.where, timeout or SECONDS)
        scheme, host, port = self._url
        if scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=timeout)

    def _unreachable(self, error: Exception) -> BackendUnavailable:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        return BackendUnavailable(f"{self}: the server does not answer: {why}")

    def _judge(self, answer: http.client.HTTPResponse, data: bytes) -> None:
        if answer.status < 400:
            return
        try:
            said = str(json.loads(data)["message"])
        except (ValueError, KeyError, TypeError):
            said = data[:200].decode("utf-8", "replace") or answer.reason
        if answer.status in (429, 503) or answer.status >= 500:
            raise BackendUnavailable(f"{self}: {said} ({answer.status})")
        if answer.status == 403 and self._key is None:
            said += "; FLOWBATCH_KEY or --key-file gives a key"
        if answer.status == 404:
            raise NotThere(said)
        raise InputError(said if answer.status == 400 else f"{self}: {said}")


def lines_of(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Without their newlines. The response's own `readline` takes an answer that was cut for one that has ended.
    Raises OSError, HTTPException."""
    rest = b""
    while data := answer.read1(READ_BYTES):
        if b"\n" in data:
            *whole, rest = (rest + data).split(b"\n")
            yield from whole
        else:
            rest += data
        if len(rest) > MESSAGE_BYTES:
            raise http.client.LineTooLong("answer")
    if rest:
        yield rest


def messages(answer: http.client.HTTPResponse) -> Iterator[tuple[str, Any]]:
    kind, data = "message", b""
    for line in lines_of(answer):
        text = line.rstrip(b"\r")
        name, _, value = text.partition(b": ")
        if name == b"event":
            kind = value.decode("ascii", "replace")
        elif name == b"data":
            data += value
        elif not text:
            if data:
                yield kind, json.loads(data)
            kind, data = "message", b""


def target(steps: tuple[str, ...], query: Mapping[str, object]) -> str:
    path = "/".join([PREFIX, *(quote(step, safe="") for step in steps)])
    asked = {key: word_of(value) for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(asked)}" if asked else path


def word_of(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def judged(url: str, key: str | None) -> tuple[str, str, int]:
    """Scheme, host and port. Raises InputError."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = None
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/") or parts.username:
        raise InputError(f"--server {url}: a server's URL is needed, such as https://batch.example:7070")
    if parts.scheme == "http" and key is not None and not is_here(host):
        raise InputError(f"--server {url}: the key would cross the network in the clear; use https")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 7070)


def is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
