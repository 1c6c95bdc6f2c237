"""A full disk below the Engine (D25, F13): nothing fails of it, what ends is seen, and everything goes on once there is room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowbatch.model.ending import Evidence
from flowbatch.model.stimuli import Started
from tests.docker.daemon import a_daemon
from tests.docker.engine import Raw
from tests.docker.registry import an_image_inside
from tests.docker.test_away import until
from tests.docker.world import docker_world, lines

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a dockerd of the test's own needs root"),
    pytest.mark.timeout(300),
]

DISK_MIB = 48
RESERVE_MIB = 16
FULL = "no space left on device"


async def test_nothing_starts_where_little_is_free(tmp_path: Path, raw: Raw) -> None:
    async with (
        a_daemon(disk_mib=DISK_MIB) as daemon,
        docker_world(tmp_path, daemon.raw, disk_free_mib=RESERVE_MIB) as world,
    ):
        first = world.script("echo first", 0)
        world.backend.launch([first])
        assert (await world.facts.exited(first.key)).evidence == Evidence(0)
        waits = world.script("echo second", 1)
        with daemon.full_but_for(RESERVE_MIB - 1):
            world.backend.launch([waits])
            await until(lambda: world.backend.trouble is not None)
            why = world.backend.waits_for(waits.key) or ""
            assert why.startswith(f"Docker: only {RESERVE_MIB - 1} MiB are free in {daemon.data}"), why
            assert world.backend.hold_ups() == [(why, "")]
            assert len(daemon.raw.labelled("flowbatch.instance")) == 1
            world.backend.forget([first.key])  # what is over goes all the same: that makes room
            await world.backend.tidy()
            assert daemon.raw.labelled("flowbatch.instance") == []
        assert (await world.facts.exited(waits.key)).evidence == Evidence(0)
        assert lines(waits) == [("o", "second")]
        assert world.backend.trouble is None


async def test_what_meets_a_full_disk_goes_on_later(tmp_path: Path, raw: Raw) -> None:
    """A start, a pull, and the end of what ran. No reserve is asked for, so that the Engine itself meets it."""
    async with (
        a_daemon(disk_mib=DISK_MIB) as daemon,
        docker_world(tmp_path, daemon.raw, disk_free_mib=0) as world,
    ):
        with an_image_inside(daemon.inside()) as image:
            runs = world.script("while [ ! -e /dev/shm/go ]; do sleep 0.1; done; exit 7", 0)
            world.backend.launch([runs])
            pid = daemon.raw.inspect((await world.facts.started(runs.key)).handle)["State"]["Pid"]
            starts, pulls = world.script("echo started", 1), world.script("cat /etc/image-name", 2, image=image)
            with daemon.full_but_for(0):
                world.backend.launch([starts])
                await until(lambda: daemon.said(FULL))
                world.backend.launch([pulls])
                await until(lambda: "no space left" in (world.backend.waits_for(pulls.key) or ""))
                Path(f"/proc/{pid}/root/dev/shm/go").touch()  # noqa: ASYNC240
                assert (await world.facts.exited(runs.key)).evidence.exit_code == 7
                assert world.facts.of(starts.key) == world.facts.of(pulls.key) == []
            for order in (starts, pulls):
                assert (await world.facts.exited(order.key)).evidence == Evidence(0)
                assert isinstance(world.facts.of(order.key)[0], Started)
            assert lines(starts) == [("o", "started")]
            assert lines(pulls) == [("o", image.split("/")[1].removesuffix(":1"))]
