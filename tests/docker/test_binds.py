"""Folders of this machine in containers: where they lead at the start, and what is made of those that are missing."""

from __future__ import annotations

import os
from pathlib import Path

from flowbatch.backends.docker.binds import prepare
from flowbatch.model.container import Container, Mount
from flowbatch.model.ending import Evidence
from flowbatch.model.stimuli import LaunchFailed
from flowbatch.spec.policy import resolved
from tests.docker.engine import IMAGE, Raw
from tests.docker.world import DockerWorld, with_world


@with_world
async def test_d30_what_is_only_read_is_refused_where_it_is_missing(world: DockerWorld, tmp_path: Path) -> None:
    missing = tmp_path / "not-there"
    order = world.script("true", mounts=(Mount(str(missing), "/data", readonly=True),))
    world.backend.launch([order])
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    text = f"CannotCreateContainerError: {missing}, to be mounted at /data for reading, does not exist: create it"
    assert end.evidence == Evidence(start_error=text)
    assert not missing.exists()


@with_world
async def test_d30_what_is_written_to_is_made_by_us(world: DockerWorld, tmp_path: Path) -> None:
    missing = tmp_path / "out" / "deeper"
    order = world.script("echo here > /data/file", mounts=(Mount(str(missing), "/data"),))
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert (missing / "file").read_text() == "here\n"
    assert missing.stat().st_uid == os.geteuid()


@with_world
async def test_d31_a_source_that_was_swapped_since_its_submission_is_refused(
    world: DockerWorld, raw: Raw, tmp_path: Path
) -> None:
    """By a link in its place, and by one above it: in both cases nothing is made, not even a container."""
    secret, shared = tmp_path / "secret", tmp_path / "shared"
    (secret / "in").mkdir(parents=True)
    (secret / "in" / "key").write_text("private")
    (shared / "in").mkdir(parents=True)
    submitted = resolved(Container(IMAGE, mounts=(Mount(str(shared / "in"), "/in"),)), os.path.realpath)
    before = world.script("ls /in", 0, mounts=submitted.mounts)
    world.backend.launch([before])
    assert (await world.facts.exited(before.key)).evidence == Evidence(0)
    (shared / "in").rmdir()
    (shared / "in").symlink_to(secret / "in")
    await refused(world, raw, 1, submitted, f"{shared}/in leads to {secret}/in by now")
    (shared / "in").unlink()
    shared.rmdir()
    shared.symlink_to(secret)
    await refused(world, raw, 2, submitted, f"{shared}/in leads to {secret}/in by now")


async def refused(world: DockerWorld, raw: Raw, idx: int, container: Container, why: str) -> None:
    order = world.script("ls /in", idx, mounts=container.mounts)
    world.backend.launch([order])
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    assert why in (end.evidence.start_error or "")
    assert raw.call("GET", f"/containers/{world.name_of(order)}/json")[0] == 404


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = prepare(Container(IMAGE, mounts=(Mount(f"{tmp_path}/file/below", "/data"),)))
    assert wrong == f"{tmp_path}/file/below, to be mounted at /data, cannot be created: Not a directory"
    assert prepare(Container(IMAGE, mounts=(Mount("frames", "/frames", volume=True),))) is None
