"""The Engine's HTTP API through aiodocker, by the rules that its traps ask for (notes §3).

Clients of their own for calls, streams, events and pings, so that no stream can take a connection from a call; our own limits stay below those of their connectors.
Every call has a deadline of ours, no timeout is ever passed to aiodocker. Errors come out as EngineError alone. Calls that change something
finish although their caller is cancelled, within their deadline: an effect that nobody waited for is the worst outcome.
"""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import aiodocker
import aiohttp
import anyio
from aiodocker.exceptions import DockerContextError, DockerError

from flowbatch.backends.docker.endpoints import endpoint_of
from flowbatch.backends.docker.ends import Boot
from flowbatch.backends.docker.errors import EngineError, Kind, kind_of
from flowbatch.backends.docker.host import boot_of, daemon_started_at, lives
from flowbatch.backends.docker.tunnel import Tunnel
from flowbatch.errors import BackendUnavailable
from flowbatch.model.ids import Millis

TESTED_MAX: Final = (1, 41)  # the newest API whose lies were seen; a daemon that needs a newer one gets its oldest
CALLS: Final = 32
STREAMS: Final = 16
PING_S: Final = 2.0
CALL_S: Final = 30.0
START_S: Final = 120.0  # a machine on its knees starts slowly, and a start that timed out costs a look
REMEMBERS_S: Final = 5.0
CLOSING_S: Final = 5.0  # what a call may still take once the engine ends
LINE_MAX: Final = 1 << 20  # a longer event is skipped, not fatal (D24)
NO_ENGINE: Final = "what answers there is no Docker Engine, or does not speak as one"
HOW_TO_REACH_IT: Final = (
    "see that its daemon listens there and lets you in; over TLS it needs DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, the folder of "
    "ca.pem, cert.pem and key.pem"
)
HOW_TO_GET_ONE: Final = (
    "install Docker (https://docs.docker.com/engine/install/, on Debian `apt install docker.io`), see that its daemon runs "
    "and that you may use its socket (group docker), or set DOCKER_HOST"
)


class Api:
    """One Engine, at an endpoint of the settings or, without one, where Docker's own client finds it. `open` finds it, `negotiate` learns its version; until then only these two work."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint
        self._clients: list[aiodocker.Docker] = []
        self._room = anyio.CapacityLimiter(CALLS)
        self._stream_room = anyio.CapacityLimiter(STREAMS)
        self._shields: set[anyio.CancelScope] = set()
        self._closing = False
        self._tunnel: Tunnel | None = None  # where it is reached by ssh
        self.version: dict[str, Any] = {}
        self.api_version = ""
        self.where = endpoint or ""
        self.socket_path: str | None = None  # of a daemon on this machine
        self.ahead_ms = 0  # the clock of its machine

    def open(self) -> None:
        """Raises BackendUnavailable where no Engine is configured or found. Connects to nothing yet."""
        url, tls, context = endpoint_of(self._endpoint)
        try:
            if url is None:
                url = ssh_of(context)
            far = url
            if url is not None and url.startswith("ssh://"):
                self._tunnel = Tunnel(url)
                url = f"unix://{self._tunnel.socket}"
            self._clients = [aiodocker.Docker(url=url, ssl_context=tls, context=context) for _ in range(4)]
        except (AssertionError, ValueError):
            raise BackendUnavailable(f"there is no Docker Engine here: {HOW_TO_GET_ONE}") from None
        except DockerContextError as error:
            raise BackendUnavailable(
                f"Docker's own configuration cannot be used: {error.message}; `docker context ls` lists what there is"
            ) from None
        self.where = self._clients[0]._connection_info
        if self._tunnel is not None and far is not None:
            self.where = far
        local = self.where.startswith("unix://")
        self.socket_path = self.where.removeprefix("unix://") if local else None

    async def close(self) -> None:
        clients, self._clients = self._clients, []
        with anyio.move_on_after(2, shield=True):  # sockets are closed at once; only a TLS goodbye could take time
            for client in clients:
                await client.close()
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.close()

    def hurry(self) -> None:
        """The engine ends: what is under way gets a little time, and no more."""
        self._closing = True
        for scope in self._shields:
            scope.deadline = min(scope.deadline, anyio.current_time() + CLOSING_S)

    async def negotiate(self) -> None:
        """Renewed after every return of the daemon: it may be another version."""
        version = decoded(await self._send("GET", "version", seconds=PING_S * 5, versioned=False), dict)
        try:
            newest, oldest = _pair(version["ApiVersion"]), _pair(version.get("MinAPIVersion") or "1.12")
        except (KeyError, ValueError, AttributeError):
            raise EngineError(Kind.UNKNOWN, NO_ENGINE) from None
        used = max(min(newest, TESTED_MAX), oldest)
        self.version = version
        self.api_version = f"{used[0]}.{used[1]}"
        for client in self._clients:
            client.api_version = f"v{self.api_version}"

    # --- its machine

    def boot(self) -> Boot:
        return boot_of(self.socket_path)

    def daemon_started_at(self) -> Millis | None:
        return daemon_started_at(self.socket_path)

    def lives(self, container: str, pid: int) -> bool:
        """A look at this machine's processes, a hundredth of the work of an inspection. False where they do not say: ask the Engine."""
        return self.socket_path is not None and pid > 0 and lives(container, pid)

    # --- calls

    async def ping(self) -> None:
        """Over a connection of its own: a daemon that stops answers its old ones until the last container is dead (D16). Where there is a
        tunnel, it is what keeps it up."""
        if self._tunnel is not None:
            await self._tunnel.up()
        with translated(), anyio.fail_after(PING_S):
            query = self._clients[3]._query("_ping", headers={"Connection": "close"}, versioned_api=False)
            async with answered(query) as response:
                try:
                    await response.read()
                finally:
                    response.close()

    async def info(self) -> dict[str, Any]:
        answer: dict[str, Any] = decoded(await self._send("GET", "info"), dict)
        return answer

    async def create(self, name: str, body: Mapping[str, Any]) -> str:
        data = json.dumps(body)
        answer = await self._send("POST", "containers/create", {"name": name}, data, seconds=CALL_S * 2)
        return str(decoded(answer, dict)["Id"])

    async def start(self, container: str) -> None:
        """By id alone: a request that is late in the daemon's socket must not meet another container of that name."""
        await self._send("POST", f"containers/{container}/start", seconds=START_S)

    async def inspect(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = decoded(await self._send("GET", f"containers/{container}/json"), dict)
        return answer

    async def digests(self, image: str) -> list[str]:
        """The names by digest (`busybox@sha256:…`) of an image, by its id; none where it never was in a registry."""
        answer = decoded(await self._send("GET", f"images/{image}/json"), dict)
        return [name for name in answer.get("RepoDigests") or () if "<none>" not in name]

    async def containers(self, label: str, states: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All that carry the label, ended ones too, or those in one of these states. The list may be stale, a hint at best (D25)."""
        filters = {"label": [label], "status": list(states)} if states else {"label": [label]}
        params = {"all": "1", "filters": json.dumps(filters)}
        answer: list[dict[str, Any]] = decoded(await self._send("GET", "containers/json", params), list)
        return answer

    async def kill(self, container: str, signal: str) -> None:
        await self._send("POST", f"containers/{container}/kill", {"signal": signal})

    async def remove(self, container: str) -> None:
        """Never by force: what runs stays, with a conflict."""
        await self._send("DELETE", f"containers/{container}", {"v": "1"}, seconds=CALL_S * 2)

    async def image(self, reference: str) -> dict[str, Any]:
        answer: dict[str, Any] = decoded(await self._send("GET", f"images/{reference}/json"), dict)
        return answer

    async def import_image(self, name: str, tree: bytes, change: str) -> None:
        """Of a tar file, with one line of a Dockerfile upon it. The answer is a stream that may end in an error."""
        repository, _, tag = name.rpartition(":")
        params = {"fromSrc": "-", "repo": repository, "tag": tag, "changes": change}
        answer = await self._send("POST", "images/create", params, tree, seconds=CALL_S * 2)
        if b'"errorDetail"' in answer:
            raise EngineError(Kind.FAILED, answer.decode("utf-8", "replace")[-300:])

    async def networks(self, labels: list[str]) -> list[dict[str, Any]]:
        params = {"filters": json.dumps({"label": labels})}
        answer: list[dict[str, Any]] = decoded(await self._send("GET", "networks", params), list)
        return answer

    async def create_network(self, name: str, labels: Mapping[str, str]) -> None:
        body = {"Name": name, "CheckDuplicate": True, "Driver": "bridge", "Labels": dict(labels)}
        await self._send("POST", "networks/create", data=json.dumps(body), seconds=CALL_S * 2)

    async def remove_network(self, name: str) -> None:
        """Refused while a container is in it."""
        await self._send("DELETE", f"networks/{name}")

    async def volumes(self, labels: list[str]) -> list[dict[str, Any]]:
        params = {"filters": json.dumps({"label": labels})}
        return decoded(await self._send("GET", "volumes", params), dict).get("Volumes") or []

    async def remove_volume(self, name: str) -> None:
        await self._send("DELETE", f"volumes/{name}")

    # --- streams

    @asynccontextmanager
    async def events(self, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        async with (
            self._stream(self._clients[2], "events", "GET", params) as response,
            aclosing(lines_of(response)) as lines,
        ):
            yield lines

    async def began(self, container: str) -> bool:
        """Whether a container that is gone had begun, by what the Engine remembers: its events from the first to `destroy`. False
        where it remembers nothing of it any more."""
        params = {"since": "0", "filters": json.dumps({"type": ["container"], "container": [container]})}
        with anyio.move_on_after(REMEMBERS_S):
            async with self.events(params) as lines:
                async for line in lines:
                    action = decoded(line, dict).get("Action")
                    if action in ("start", "destroy"):
                        return bool(action == "start")
        return False

    @asynccontextmanager
    async def logs(self, container: str, params: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Chunks of multiplexed frames; never followed, so that it ends by itself."""
        path = f"containers/{container}/logs"
        async with (
            self._stream_room,
            self._stream(self._clients[1], path, "GET", params) as response,
            aclosing(chunks_of(response)) as chunks,
        ):
            yield chunks

    @asynccontextmanager
    async def pull(self, params: Mapping[str, str], auth: str | None) -> AsyncIterator[AsyncIterator[bytes]]:
        headers = {} if auth is None else {"X-Registry-Auth": auth}
        async with (
            self._stream(self._clients[1], "images/create", "POST", params, headers) as response,
            aclosing(lines_of(response)) as lines,
        ):
            yield lines

    # --- below

    @asynccontextmanager
    async def _stream(
        self,
        client: aiodocker.Docker,
        path: str,
        method: str,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        with translated():
            query = client._query(path, method, params=dict(params), headers=headers, timeout=None)
            async with answered(query) as response:
                try:
                    yield response
                finally:
                    response.close()  # aiodocker never does (30 of 30 leaked)

    async def _send(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        data: str | bytes | None = None,
        *,
        seconds: float = CALL_S,
        versioned: bool = True,
    ) -> bytes:
        """What changes something is shielded: the Engine does it whether we listen or not."""
        shield = method != "GET"
        async with self._room:
            limit = min(seconds, CLOSING_S) if self._closing else seconds
            with translated(), anyio.fail_after(limit, shield=shield) as scope:
                self._shields.add(scope)
                try:
                    return await self._read(method, path, params, data, versioned)
                finally:
                    self._shields.discard(scope)

    async def _read(
        self, method: str, path: str, params: dict[str, str] | None, data: str | bytes | None, versioned: bool
    ) -> bytes:
        query = self._clients[0]._query(path, method, params=params, data=data, versioned_api=versioned)
        async with answered(query) as response:
            try:
                return await response.read()
            finally:
                response.release()


def ssh_of(context: str | None) -> str | None:
    """Where Docker's context, the named one or the current, leads to by ssh: there our own tunnel goes, aiodocker's would need another package.
    Raises DockerContextError."""
    found = aiodocker.Docker._get_docker_context_endpoint(context)
    return found.host if found is not None and found.host.startswith("ssh://") else None


@contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except DockerError as error:
        message = (
            unreachable(error.__context__) or error.message or f"it answered with HTTP status {error.status} alone"
        )
        raise EngineError(kind_of(error.status), message, error.status) from None
    except TimeoutError:
        raise EngineError(Kind.UNKNOWN, "the Docker Engine does not answer in time") from None
    except (aiohttp.ClientError, OSError) as error:
        raise EngineError(Kind.UNKNOWN, f"the Docker Engine hung up: {str(error) or type(error).__name__}") from None


@asynccontextmanager
async def answered(query: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> AsyncIterator[aiohttp.ClientResponse]:
    """An error that is none of the Engine's, of a proxy say, is one that aiodocker stumbles over."""
    async with AsyncExitStack() as stack:
        try:
            response = await stack.enter_async_context(query)
        except (KeyError, TypeError, ValueError):
            raise EngineError(Kind.UNKNOWN, NO_ENGINE) from None
        yield response


Shape = TypeVar("Shape", dict[str, Any], list[dict[str, Any]])


def decoded(data: bytes, shape: type[Shape]) -> Shape:
    """Raises EngineError where something answers that is no Engine: a proxy, or a server of something else."""
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, shape):
        raise EngineError(Kind.UNKNOWN, NO_ENGINE)
    return answer


def unreachable(error: BaseException | None) -> str | None:
    """What the system says of a connection that could not be made, in its own words and no more; None of anything else."""
    cause = getattr(error, "os_error", None)
    if not isinstance(cause, OSError) or isinstance(cause, ssl.SSLError) or cause.errno is None:
        return None
    return os.strerror(cause.errno) if cause.errno > 0 else cause.strerror or None


async def chunks_of(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    async for chunk in response.content.iter_any():
        yield chunk


async def lines_of(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Whole lines; one that is too long is left out."""
    rest, skipping = b"", False
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not skipping and line.strip():
                yield line
            skipping = False
        if len(rest) > LINE_MAX:
            rest, skipping = b"", True
    if rest.strip() and not skipping:
        yield rest


def _pair(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor)
