"""Folders of this machine in containers: where they lead at the start, and what is made of those that are missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.binds import mounts_of, prepare, unescaped
from flowbatch.model.container import Container, Mount
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.stimuli import LaunchFailed
from flowbatch.spec.policy import resolved
from tests.docker.engine import IMAGE, Raw
from tests.docker.world import DockerWorld, docker_world, with_world


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


class Swapping(Api):
    """Puts another folder in the place of `shared` right before the Engine is told to start."""

    def __init__(self, raw: Raw, shared: Path, other: Path) -> None:
        super().__init__(f"unix://{raw.path}")
        self.shared, self.other = shared, other

    async def start(self, container: str) -> None:
        if not self.shared.is_symlink():
            self.shared.rename(self.shared.with_name("aside"))
            self.shared.symlink_to(self.other)
        await super().start(container)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees what another's process has mounted")
@pytest.mark.parametrize("depth", ["itself", "above"])
async def test_d31_a_source_that_is_swapped_after_the_look_is_found_in_what_runs(
    tmp_path: Path, raw: Raw, depth: str
) -> None:
    """It is killed, and nobody was told that it ran. One beside it, whose folder is as it was, is left alone."""
    secret, shared, fine = tmp_path / "secret", tmp_path / "shared", tmp_path / "fine thing"
    for folder in (secret, shared, fine):
        (folder / "in").mkdir(parents=True)
    source = shared if depth == "itself" else shared / "in"
    async with docker_world(tmp_path, raw, api=lambda: Swapping(raw, shared, secret)) as world:
        lasting = "ls /a/b; trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done"
        good = world.script(lasting, 0, mounts=(Mount(str(fine), "/a/b"), Mount(str(fine), "/c")))
        bad = world.script("sleep 1000", 1, mounts=(Mount(str(fine), "/fine"), Mount(str(source), "/data")))
        world.backend.launch([good, bad])
        end = await world.facts.ended(bad.key)
        assert isinstance(end, LaunchFailed), end
        assert end.evidence.breach
        assert end.evidence.start_error == (
            f"ResourceInitializationError: {source}, to be mounted at /data, was swapped for something else while the container "
            "began; it was killed"
        )
        assert raw.inspect(world.name_of(bad))["State"]["ExitCode"] == 137
        await world.settled(good.key)
        world.backend.stop(good.key, 10_000, Halt.TERMINATE)
        assert (await world.facts.exited(good.key)).evidence == Evidence(0)


def test_mounts_are_found_by_where_they_are(tmp_path: Path) -> None:
    """Of this very process: among them its root, whatever it is."""
    stat = os.lstat("/")
    assert (stat.st_dev, stat.st_ino) in mounts_of(os.getpid())
    assert unescaped("/a\\040b\\134c\\011") == "/a b\\c\t"


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = prepare(Container(IMAGE, mounts=(Mount(f"{tmp_path}/file/below", "/data"),)))
    assert wrong == f"{tmp_path}/file/below, to be mounted at /data, cannot be created: Not a directory"
    assert prepare(Container(IMAGE, mounts=(Mount("frames", "/frames", volume=True),))) is None
