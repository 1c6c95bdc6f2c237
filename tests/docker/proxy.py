"""A socket before the Engine's that loses answers, stands still or is not there, as the test says."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from anyio.abc import ByteStream, SocketStream

REQUEST = re.compile(rb"(?:^|\r\n\r\n|\})(GET|POST|DELETE) (\S+) HTTP/1\.1\r\n")


class Proxy:
    """`lose` has patterns of "METHOD /path": the Engine gets the request, its answer reaches nobody, and the pattern is spent."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = str(path)
        self.engine = engine
        self.lose: list[str] = []
        self.lost = anyio.Event()
        self.requests: list[str] = []
        self.open = 0  # connections
        self._flowing = anyio.Event()
        self._flowing.set()
        self._serving: anyio.CancelScope | None = None
        self._up = anyio.Event()

    def hang(self) -> None:
        """Takes what comes, and answers nothing."""
        self._flowing = anyio.Event()

    def flow(self) -> None:
        self._flowing.set()

    def drop(self) -> None:
        """The daemon goes: every connection breaks, and there is nobody at the socket."""
        self._up = anyio.Event()
        Path(self.path).unlink(missing_ok=True)
        if self._serving is not None:
            self._serving.cancel()

    def back(self) -> None:
        self._up.set()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        told = False
        self._up.set()
        while True:
            await self._up.wait()
            with anyio.CancelScope() as self._serving:
                async with await anyio.create_unix_listener(self.path) as listener:
                    if not told:
                        task_status.started()
                        told = True
                    await listener.serve(self._handle)

    async def _handle(self, client: SocketStream) -> None:
        self.open += 1
        losing = anyio.Event()
        try:
            async with client, await anyio.connect_unix(self.engine) as engine, anyio.create_task_group() as tasks:

                async def up() -> None:
                    async for data in client:
                        for method, target in REQUEST.findall(data):
                            if self._asked(f"{method.decode()} {target.decode()}"):
                                losing.set()
                        await self._flowing.wait()
                        await engine.send(data)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(up)
                await self._down(engine, client, losing)
                tasks.cancel_scope.cancel()
        except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, BaseExceptionGroup):
            if anyio.get_cancelled_exc_class() and self._serving is not None and self._serving.cancel_called:
                raise
        finally:
            self.open -= 1

    def _asked(self, request: str) -> bool:
        self.requests.append(request)
        for pattern in self.lose:
            if re.search(pattern, request):
                self.lose.remove(pattern)
                return True
        return False

    async def _down(self, engine: ByteStream, client: ByteStream, losing: anyio.Event) -> None:
        async for data in engine:
            await self._flowing.wait()
            if losing.is_set():
                self.lost.set()
                return
            await client.send(data)


@asynccontextmanager
async def a_proxy(folder: Path, engine: str) -> AsyncIterator[Proxy]:
    proxy = Proxy(folder / "p.sock", engine)
    async with anyio.create_task_group() as tasks:
        await tasks.start(proxy.run)
        yield proxy
        tasks.cancel_scope.cancel()
