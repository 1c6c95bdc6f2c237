"""The connection to a supervisor: starts one where there is none, greets it, and cuts what it says into lines."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from flowbatch.backends.process_start import Starting
from flowbatch.backends.supervisor import wire
from flowbatch.backends.supervisor.proctable import ProcTable
from flowbatch.errors import BackendUnavailable

_ATTEMPTS = 20  # to catch a supervisor between its start, its listening and its end
_GREETING_S = 30.0
_SILENCES = 2  # of a supervisor that is there: what says nothing for a minute will not in ten
_PAUSE_S = 0.05
_DRAIN_S = 30.0
_UCRED = struct.Struct("3i")  # pid, uid, gid


class VersionDiffers(Exception):
    def __init__(self, version: object, pid: object, alive: object) -> None:
        self.alive = alive
        super().__init__(f"supervisor {pid} speaks version {version} and still follows {alive} tasks")


class Silent(TimeoutError):
    """Somebody listens, and does not greet."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} has the socket and has not answered for {_GREETING_S:g} s{_doing(pid)}")


class Link(asyncio.Protocol):
    """One connection. `on_lines` gets whole lines, undecoded; `lost` is set when the connection is gone."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.hello: dict[str, Any] = {}
        self.greeting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.on_lines: Callable[[list[bytes]], None] | None = None
        self.peer = 0  # who listens: its pid
        self._transport: asyncio.WriteTransport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        stream = transport.get_extra_info("socket")
        self.peer = _UCRED.unpack(stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[0]

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        if not self.greeting.done() and lines:
            self.greeting.set_result(json.loads(lines.pop(0)))
        if lines and self.on_lines is not None:
            self.on_lines(lines)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        if not self.greeting.done():
            self.greeting.set_exception(ConnectionResetError("the supervisor hung up before its greeting"))
            self.greeting.exception()  # taken note of: where the start was given up, nobody waits for it any more

    def write(self, data: bytes) -> None:
        """On a connection that is gone the data is dropped: `lost` says so, and whoever sent it sends it again."""
        if self._transport is not None and not self.lost.is_set():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connect(folder: Path, base_env: dict[str, str], starting: Starting | None = None) -> Link:
    """`starting`: a supervisor that is on its way already. Raises BackendUnavailable; waits for one of another version to
    finish its tasks, for a while."""
    deadline = anyio.current_time() + _DRAIN_S
    while True:
        try:
            return await _connect_or_start(folder, base_env, starting)
        except VersionDiffers as error:
            if anyio.current_time() > deadline:
                raise BackendUnavailable(
                    f"{folder}: {error}; wait for them with the flowbatch that started them, or stop them"
                ) from None
            await anyio.sleep(_PAUSE_S * 10)


async def _connect_or_start(folder: Path, base_env: dict[str, str], starting: Starting | None) -> Link:
    if starting is not None:
        await anyio.to_thread.run_sync(starting.finish)
    problem: Exception = ConnectionRefusedError()
    silences = 0
    for attempt in range(_ATTEMPTS):
        try:
            return await _greet(folder, base_env)
        except OSError as error:
            # None is there, or it goes just now.
            problem = error
        silences += isinstance(problem, Silent)
        if silences == _SILENCES:
            break
        if attempt:
            await anyio.sleep(_PAUSE_S)
        await anyio.to_thread.run_sync(lambda: Starting(folder).finish())
    raise BackendUnavailable(f"{folder}: the supervisor takes no connection: {problem}{_last_words(folder)}")


async def _greet(folder: Path, base_env: dict[str, str]) -> Link:
    loop = asyncio.get_running_loop()
    with wire.socket_path(str(folder)) as path:
        _, link = await loop.create_unix_connection(Link, path)
    link.write(json.dumps({"flowbatch": wire.PROTOCOL, "env": base_env}).encode() + b"\n")
    try:
        async with asyncio.timeout(_GREETING_S):
            hello = link.hello = await link.greeting
    except TimeoutError:
        link.close()
        raise Silent(link.peer) from None
    except BaseException:
        link.close()
        raise
    if hello["flowbatch"] != wire.PROTOCOL:
        link.close()
        raise VersionDiffers(hello["flowbatch"], hello.get("pid"), hello.get("alive"))
    return link


def _doing(pid: int) -> str:
    """What the kernel says of it: a D is a wait for a disk, say, that not even `kill -9` ends."""
    process = ProcTable().read(pid)
    if process is None:
        return ""
    try:
        place = Path("/proc", str(pid), "wchan").read_text(encoding="utf-8", errors="replace").strip("0\n")
    except OSError:
        place = ""
    return f" (state {process.state}{f' in {place}' if place else ''})"


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / "errors.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return ""  # it had none
    return f" ({lines[-1]})" if lines else ""
