"""Between the backend and the Engine: requests that come late, answers that are lost, streams that are cut off.

In the place of aiodocker's client, so that deadlines, shields and the translation of errors are those of the real wrapper.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import aiohttp
from aiodocker.exceptions import DockerError

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.ends import Boot
from flowbatch.model.ids import Millis
from tests.sim.docker.engine import FakeEngine, Refusal

CUT: Final = object()
LATEST_S: Final = 140.0


class Wire:
    """One life's connections. `rough`: how much of what is sent goes wrong."""

    def __init__(self, engine: FakeEngine, rng: random.Random, rough: float) -> None:
        self.engine = engine
        self.rng = rng
        self.rough = rough
        self.hung = False
        self.dead = False  # our side was killed
        self.waiting: list[tuple[Any, ...]] = []  # what a hung daemon has in its socket
        self.open: set[asyncio.Future[Any]] = set()
        self.streams: set[asyncio.Queue[Any]] = set()
        self.late: dict[str, list[float]] = {}  # by the end of "METHOD path": seconds that the next ones of these take
        self.faults = 0
        self.calls = 0
        self.calls_most = 0

    # --- what goes wrong with it

    def hang(self) -> None:
        self.hung = True

    def go_on(self) -> None:
        """What lay in the socket is done now, whoever has given up on it."""
        self.hung = False
        waiting, self.waiting = self.waiting, []
        for arguments in waiting:
            self.arrive(*arguments)

    def cut(self) -> None:
        """Every connection breaks; what the daemon had not read is lost."""
        self.waiting.clear()
        for future in list(self.open):
            if not future.done():
                future.set_exception(aiohttp.ClientOSError("connection reset"))
        for queue in list(self.streams):
            queue.put_nowait(CUT)

    # --- a call

    async def ask(self, method: str, path: str, params: Mapping[str, str], data: str | None) -> bytes:
        if not self.engine.up or self.dead:
            raise DockerError(900, "Cannot connect to Docker Engine")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.open.add(future)
        self.calls += 1
        self.calls_most = max(self.calls_most, self.calls)
        delay = self.rng.random() * 0.02
        changes = method != "GET"
        if changes and self.rng.random() < self.rough * 0.5:
            self.faults += 1
            delay += self.rng.choice(
                (1.0, 20.0, LATEST_S, LATEST_S)
            )  # longer than any deadline: the caller has given up
        for end, seconds in self.late.items():
            if seconds and f"{method} {path}".startswith(end.split(" ")[0]) and path.endswith(end.split(" ")[1]):
                delay += seconds.pop(0)
        try:
            self.engine.at(delay, self.arrive, future, method, path, params, data)
            answer = await future
        finally:
            self.calls -= 1
            self.open.discard(future)
        return b"" if answer is None else json.dumps(answer).encode()

    def arrive(
        self, future: asyncio.Future[Any], method: str, path: str, params: Mapping[str, str], data: str | None
    ) -> None:
        if self.hung:
            self.waiting.append((future, method, path, params, data))
            return
        if not self.engine.up:
            return  # lost with the socket
        rough = self.rng.random() < self.rough
        if rough and path != "_ping" and self.rng.random() < 0.3:
            self.faults += 1
            self.answer(future, DockerError(500, "containerd: deadline exceeded"))  # nothing was done
            return
        if self.dead and method != "GET":
            self.engine.haunt(path)
        try:
            answer = None if path == "_ping" else self.engine.handle(method, path, params, data)
        except Refusal as refusal:
            answer = DockerError(refusal.status, refusal.message)
        if rough and path != "_ping":
            self.faults += 1
            answer = (
                aiohttp.ServerDisconnectedError() if self.rng.random() < 0.7 else DockerError(500, "lost the result")
            )
        self.engine.at(self.rng.random() * 0.02, self.answer, future, answer)

    def answer(self, future: asyncio.Future[Any], answer: object) -> None:
        if future.done():
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    # --- a stream

    async def events(self, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        for event in self.engine.remembered(params):
            queue.put_nowait(event)
        self.streams.add(queue)
        listener = self.hear(queue)
        self.engine.listeners.append(listener)
        try:
            while (event := await queue.get()) is not CUT:
                yield json.dumps(event).encode() + b"\n"
        finally:
            self.engine.listeners.remove(listener)
            self.streams.discard(queue)

    def hear(self, queue: asyncio.Queue[Any]) -> Any:
        """Some are lost, come late or twice (F12)."""

        def listen(event: dict[str, Any]) -> None:
            if self.rng.random() < self.rough:
                self.faults += 1
                kind = self.rng.random()
                if kind < 0.5:
                    return
                self.engine.at(self.rng.random() * 20, queue.put_nowait, event)
                if kind < 0.75:
                    return
            queue.put_nowait(event)

        return listen

    async def pull(self, image: str) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(self.rng.random() * 3)
        wrong = self.engine.pulls.get(image)
        if wrong:
            yield json.dumps({"errorDetail": {"message": wrong.pop(0)}}).encode() + b"\n"
            return
        yield b'{"status": "Pull complete"}\n'
        self.engine.images.add(image)


class Answer:
    """As much of aiohttp's response as the wrapper touches."""

    def __init__(self, data: bytes = b"", chunks: AsyncIterator[bytes] | None = None) -> None:
        self.data = data
        self.chunks = chunks
        self.content = self

    async def read(self) -> bytes:
        return self.data

    def iter_any(self) -> AsyncIterator[bytes]:
        assert self.chunks is not None
        return self.chunks

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


class Client:
    """In the place of aiodocker.Docker."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.api_version = ""

    async def close(self) -> None:
        pass

    @asynccontextmanager
    async def _query(
        self, path: str, method: str = "GET", *, params: Any = None, data: Any = None, **_: Any
    ) -> AsyncIterator[Answer]:
        wire, params = self.wire, params or {}
        if path == "events" or path == "images/create" or path.endswith("/logs"):
            await wire.ask("GET", "_ping", {}, None)  # the connection, and the answer's head
            async with aclosing(self._chunks(path, params)) as chunks:
                yield Answer(chunks=chunks)
        else:
            yield Answer(await wire.ask(method, path, params, data))

    def _chunks(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        if path == "events":
            return self.wire.events(params)
        if path == "images/create":
            return self.wire.pull(f"{params['fromImage']}:{params['tag']}")
        try:
            return once(self.wire.engine.log_of(path.split("/")[1], params))
        except Refusal as refusal:
            raise DockerError(refusal.status, refusal.message) from None


async def once(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


class WireApi(Api):
    """The real wrapper, but for whom it asks and what it knows of that machine."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self._wire = wire

    def open(self) -> None:
        self._clients = [Client(self._wire) for _ in range(4)]  # type: ignore[misc]
        self.where = "the wire"
        self.socket_path = "/the/wire"  # it is this machine whose restarts are seen

    def boot(self) -> Boot:
        engine = self._wire.engine
        return Boot(f"boot-{engine.boot}", Millis(int(engine.booted * 1000)))

    def lives(self, container: str, pid: int) -> bool:
        return self._wire.engine.lives(container, pid)

    def daemon_started_at(self) -> Millis | None:
        return Millis(int(self._wire.engine.started_at * 1000))
