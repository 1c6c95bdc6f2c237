"""A daemon that is stopped, killed, or stands still: no exit code is invented, and none that is known is lost (D16 to D22)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.ends import QUIET, Boot
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import Millis
from tests.docker.daemon import Daemon, a_daemon
from tests.docker.engine import Raw
from tests.docker.test_away import until
from tests.docker.world import DockerWorld, docker_world, lines

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a dockerd of the test's own needs root"),
    pytest.mark.timeout(300),
]


@asynccontextmanager
async def a_world(tmp_path: Path, *flags: str) -> AsyncIterator[tuple[DockerWorld, Daemon]]:
    async with a_daemon(*flags) as daemon, docker_world(tmp_path, daemon.raw) as world:
        yield world, daemon


async def restart(world: DockerWorld, daemon: Daemon, number: int) -> None:
    await anyio.to_thread.run_sync(daemon.stop, number)
    await until(lambda: world.backend.trouble is not None)
    await anyio.to_thread.run_sync(daemon.start)
    await until(lambda: world.backend.trouble is None)


async def test_d16_a_daemon_that_is_stopped_takes_its_containers_along(tmp_path: Path, raw: Raw) -> None:
    async with a_world(tmp_path) as (world, daemon):
        deaf, polite = world.command(("sleep", "600"), 0, init=False), world.command(("sleep", "600"), 1)
        ended = world.script("exit 7", 2)
        world.backend.launch([deaf, polite, ended])
        assert (await world.facts.exited(ended.key)).evidence == Evidence(7)
        await world.facts.started(deaf.key)
        await world.facts.started(polite.key)
        await restart(world, daemon, signal.SIGTERM)
        for order in (deaf, polite):
            evidence = (await world.facts.exited(order.key)).evidence
            assert evidence.lost, evidence
            assert evidence.exit_code is None


async def test_a_daemon_is_killed(tmp_path: Path, raw: Raw) -> None:
    """Side by side, since a daemon takes its time to come back from that (D17)."""
    async with anyio.create_task_group() as both:
        both.start_soon(d17_what_ends_while_a_killed_daemon_is_away_keeps_its_code, tmp_path / "without")
        both.start_soon(d19_with_live_restore_they_go_on, tmp_path / "with", signal.SIGKILL)


async def test_d19_a_daemon_with_live_restore_is_stopped(tmp_path: Path, raw: Raw) -> None:
    await d19_with_live_restore_they_go_on(tmp_path, signal.SIGTERM)


async def d17_what_ends_while_a_killed_daemon_is_away_keeps_its_code(tmp_path: Path) -> None:
    async with a_world(tmp_path) as (world, daemon):
        ends = world.script("while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 7", 0)
        runs = world.command(("sleep", "600"), 1)
        world.backend.launch([ends, runs])
        pid = await pid_of(world, (await world.facts.started(ends.key)).handle)
        await world.facts.started(runs.key)
        await anyio.to_thread.run_sync(daemon.stop, signal.SIGKILL)
        Path(f"/proc/{pid}/root/tmp/go").touch()  # noqa: ASYNC240
        await until(lambda: not Path(f"/proc/{pid}").exists())
        await anyio.to_thread.run_sync(daemon.start)
        assert (await world.facts.exited(ends.key)).evidence.exit_code == 7
        evidence = (await world.facts.exited(runs.key)).evidence
        assert evidence.lost, evidence


async def d19_with_live_restore_they_go_on(tmp_path: Path, number: signal.Signals) -> None:
    """What ends while the daemon is away keeps its code, but not what it said meanwhile: there the notes were wrong, and the end
    says so. What goes on loses nothing."""
    async with a_world(tmp_path, "--live-restore") as (world, daemon):
        waiting = "echo before; while [ ! -e /tmp/go ]; do sleep 0.1; done; echo while away; "
        ends = world.script(waiting + "exit 7", 0)
        goes_on = world.script(waiting + "touch /tmp/said; sleep 600", 1)
        world.backend.launch([ends, goes_on])
        ending, living = [
            await pid_of(world, (await world.facts.started(order.key)).handle) for order in (ends, goes_on)
        ]
        await anyio.to_thread.run_sync(daemon.stop, number)
        await until(lambda: world.backend.trouble is not None)
        for pid in (ending, living):
            Path(f"/proc/{pid}/root/tmp/go").touch()  # noqa: ASYNC240
        await until(lambda: not Path(f"/proc/{ending}").exists())
        await until(lambda: Path(f"/proc/{living}/root/tmp/said").exists())
        await anyio.to_thread.run_sync(daemon.start)
        assert (await world.facts.exited(ends.key)).evidence == Evidence(7, detail=QUIET)
        assert lines(ends) == [("o", "before")]
        assert len(world.facts.of(goes_on.key)) == 1
        world.backend.stop(goes_on.key, 60_000, Halt.TERMINATE)
        assert (await world.facts.exited(goes_on.key)).evidence == Evidence(143)
        assert lines(goes_on) == [("o", "before"), ("o", "while away")]


async def test_d22_a_daemon_that_stands_still(tmp_path: Path, raw: Raw) -> None:
    async with a_world(tmp_path) as (world, daemon):
        order, later = world.command(("sleep", "600"), 0), world.script("exit 3", 1)
        world.backend.launch([order])
        await world.facts.started(order.key)
        daemon.pause()
        try:
            await until(lambda: world.backend.trouble is not None)
            world.backend.launch([later])
        finally:
            daemon.go_on()
        assert (await world.facts.exited(later.key)).evidence == Evidence(3)
        assert len(world.facts.of(order.key)) == 1
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        assert (await world.facts.exited(order.key)).evidence == Evidence(137)


class Machine(Api):
    """Tells which boot of it this is."""

    booted: Boot

    def boot(self) -> Boot:
        return self.booted


async def test_f11_a_machine_that_loses_its_power_loses_what_ran(tmp_path: Path, raw: Raw) -> None:
    """And never succeeds in it; what had ended before keeps its code."""
    async with a_daemon() as daemon:

        class Here(Machine):
            booted = Boot("first", Millis(0))

            def __init__(self) -> None:
                super().__init__(f"unix://{daemon.raw.path}")

        async with docker_world(tmp_path, daemon.raw, api=Here) as world:
            runs, ended = world.command(("sleep", "600"), 0), world.script("exit 7", 1)
            world.backend.launch([runs, ended])
            await world.facts.started(runs.key)
            await world.facts.exited(ended.key)
            await world.stack.aclose()  # the engine is gone with the machine
            await anyio.to_thread.run_sync(daemon.cut_power)
            Here.booted = Boot("second", Millis(time.time_ns() // 1_000_000))
            await anyio.to_thread.run_sync(daemon.start)
            await world.next_life()
            world.backend.need()
            seen = {each.key: each.evidence for each in await world.backend.census()}
            lost, kept = seen[runs.key], seen[ended.key]
        assert lost is not None
        assert (lost.lost, lost.detail) == (True, "this machine restarted")
        assert lost.exit_code is None
        assert kept == Evidence(7)


async def pid_of(world: DockerWorld, container: str) -> int:
    return int(world.raw.inspect(container)["State"]["Pid"])
