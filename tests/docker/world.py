"""A DockerBackend on the real Engine, and orders for it. What a test made is removed by its instance's label."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import anyio
from msgspec.structs import replace

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.instance import instance_of
from flowbatch.backends.docker.names import container_name
from flowbatch.clock import SystemClock
from flowbatch.model.container import Container
from flowbatch.model.ids import AttemptKey, log_name
from flowbatch.model.resources import Resources
from flowbatch.ports import LaunchOrder
from tests.backends.conformance import JOB, LONG_MS, Facts, running
from tests.docker.engine import IMAGE, Raw

CAP = 1 << 20
LOOK_S = 0.02


class DockerWorld:
    def __init__(
        self,
        folder: Path,
        raw: Raw,
        stack: AsyncExitStack,
        socket: str,
        disk_free_mib: int | None = None,
        api: Callable[[], Api] | None = None,
    ) -> None:
        self.api = api
        self.disk_free_mib = disk_free_mib
        self.socket = socket
        self.folder = folder
        self.raw = raw
        self.stack = stack
        self.facts = Facts(SystemClock())
        self.instance = instance_of(folder / "docker")
        self.backend = self.make()

    def make(self) -> DockerBackend:
        return DockerBackend(
            self.folder / "docker",
            self.folder / "logs",
            SystemClock(),
            log_cap_bytes=CAP,
            disk_free_mib=self.disk_free_mib,
            endpoint=f"unix://{self.socket}",
            api=self.api,
        )

    def script(self, text: str, idx: int = 0, *, attempt: int = 1, **changes: Any) -> LaunchOrder:
        return self.command(("/bin/sh", "-c", text), idx, attempt=attempt, **changes)

    def command(self, words: tuple[str, ...], idx: int = 0, *, attempt: int = 1, **changes: Any) -> LaunchOrder:
        """`changes` go to the container where that has such a field, else to the order."""
        key = AttemptKey(JOB, idx, attempt)
        parts = {name: changes.pop(name) for name in list(changes) if name in Container.__struct_fields__}
        order = LaunchOrder(
            key=key,
            command=words,
            env={},
            workdir="/",
            resources=Resources(),
            log=str(self.folder / "logs" / log_name(key.id)),
            log_cap_bytes=CAP,
            timeout_ms=None,
            stop_grace_ms=LONG_MS,
            container=replace(Container(IMAGE, network="none"), **parts),
        )
        return replace(order, **changes)

    def order(
        self,
        idx: int = 0,
        *,
        attempt: int = 1,
        exit_code: int = 0,
        output: str = "",
        endless: bool = False,
        ignores_term: bool = False,
        no_such_command: bool = False,
        timeout_ms: int | None = None,
        stop_grace_ms: int = LONG_MS,
    ) -> LaunchOrder:
        limits = {"timeout_ms": timeout_ms, "stop_grace_ms": stop_grace_ms}
        if no_such_command:
            # Without an init process: with one it is a container that has begun (see test_ends).
            return self.command(("/no/such/command",), idx, attempt=attempt, init=False, **limits)
        trap = "trap '' TERM; " if ignores_term else "trap 'exit 143' TERM; "
        text = f"printf %s '{output}'; "
        text += f"{trap} echo ready; while :; do sleep 0.1; done" if endless else f"exit {exit_code}"
        return self.script(text, idx, attempt=attempt, **limits)

    def name_of(self, order: LaunchOrder) -> str:
        return container_name(self.instance, order.key)

    async def settled(self, key: AttemptKey) -> None:
        """Its `ready` says that its handling of TERM is in place."""
        started = await self.facts.started(key)
        while b"ready" not in await anyio.to_thread.run_sync(self.output, started.handle):  # noqa: ASYNC110
            await anyio.sleep(LOOK_S)

    def output(self, container: str) -> bytes:
        answer = self.raw.call("GET", f"/containers/{container}/logs", stdout=1, stderr=1)[1]
        return answer if isinstance(answer, bytes) else str(answer).encode()

    async def next_life(self) -> None:
        await self.stack.aclose()
        self.facts = Facts(SystemClock())
        self.backend = self.make()
        await self.stack.enter_async_context(running(self.backend, self.facts))

    def sweep(self) -> None:
        self.raw.sweep(self.instance)


@asynccontextmanager
async def docker_world(
    folder: Path,
    raw: Raw,
    socket: str | None = None,
    *,
    disk_free_mib: int | None = None,
    api: Callable[[], Api] | None = None,
) -> AsyncIterator[DockerWorld]:
    async with AsyncExitStack() as stack:
        world = DockerWorld(folder, raw, stack, socket or raw.path, disk_free_mib, api)
        try:
            await stack.enter_async_context(running(world.backend, world.facts))
            yield world
        finally:
            await stack.aclose()
            world.sweep()


def with_world(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Gives the test its `world`. Not a fixture: a task group begins and ends in one task."""
    asked = inspect.signature(test).parameters

    @wraps(test)
    async def run(*, tmp_path: Path, raw: Raw, **rest: Any) -> None:
        own = {name: value for name, value in (("tmp_path", tmp_path), ("raw", raw)) if name in asked}
        async with docker_world(tmp_path, raw) as world:
            await test(world, **own, **rest)

    given = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("tmp_path", "raw")]
    rest = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in asked.values()]
    rest = [each for each in rest if each.name not in ("world", "tmp_path", "raw")]
    run.__signature__ = inspect.Signature([*given, *rest])  # type: ignore[attr-defined]
    return run


def lines(order: LaunchOrder) -> list[tuple[str, str]]:
    """Its log: streams and texts."""
    found = (line.split(" ", 2) for line in Path(order.log).read_text(encoding="utf-8").splitlines())
    return [(line[1], line[2] if len(line) > 2 else "") for line in found]
