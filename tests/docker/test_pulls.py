"""Images that have to be pulled, from a registry on loopback."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowbatch.backends.docker.digests import chosen
from flowbatch.backends.docker.pulls import PAUSE_FIRST_S
from flowbatch.model.container import Pull
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.stimuli import LaunchFailed
from tests.docker.engine import IMAGE, Raw
from tests.docker.registry import PASSWORD, USER, Registry, a_registry
from tests.docker.test_away import until
from tests.docker.world import DockerWorld, lines, with_world


@pytest.fixture(scope="module")
def open_to_all(raw: Raw) -> Iterator[Registry]:
    with a_registry() as made:
        yield made
        drop_images(raw, made)


@pytest.fixture
def registry(open_to_all: Registry) -> Iterator[Registry]:
    yield open_to_all
    open_to_all.failures = []
    open_to_all.gate.set()


@pytest.fixture(scope="module")
def guarded(raw: Raw) -> Iterator[Registry]:
    """It asks for a password."""
    with a_registry(auth=True) as made:
        yield made
        drop_images(raw, made)


def drop_images(raw: Raw, registry: Registry) -> None:
    for item in raw.ok("GET", "/images/json"):
        for tag in item.get("RepoTags") or ():
            if tag.startswith(f"localhost:{registry.port}/"):
                raw.call("DELETE", f"/images/{tag}", force=1)


ONE_PULL = ["HEAD", "GET"]


async def failure_of(world: DockerWorld, image: str, idx: int = 0, **changes: Any) -> str:
    order = world.script("true", idx, image=image, **changes)
    world.backend.launch([order])
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed), end
    assert end.evidence.exit_code is None
    return end.evidence.start_error or ""


@with_world
async def test_many_that_need_an_image_pull_it_once(world: DockerWorld, registry: Registry) -> None:
    image = registry.image()
    registry.gate.clear()
    orders = [world.script("echo here", idx, image=image) for idx in range(6)]
    world.backend.launch(orders)
    other = world.script("true", 9)  # a slow pull holds up nobody else
    world.backend.launch([other])
    assert (await world.facts.exited(other.key)).evidence == Evidence(0)
    assert list(world.backend.pulls) == [image]
    assert (world.backend.waits_for(orders[0].key) or "").startswith(f"the pull of {image}")
    registry.gate.set()
    for order in orders:
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
        assert lines(order) == [("o", "here")]
    assert registry.asked(image) == ONE_PULL
    assert world.backend.pulls == {}


@with_world
async def test_a_stop_does_not_wait_for_a_pull(world: DockerWorld, registry: Registry) -> None:
    registry.gate.clear()
    image = registry.image()
    order = world.script("true", image=image)
    world.backend.launch([order])
    await until(lambda: bool(registry.asked(image)))
    world.backend.stop(order.key, 60_000, Halt.TERMINATE)
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    assert end.evidence.start_error is None
    registry.gate.set()


@with_world
async def test_what_is_not_there_fails_at_once(world: DockerWorld, registry: Registry) -> None:
    image = registry.absent()
    text = await failure_of(world, image)
    assert text.startswith("CannotPullContainerError: ")
    assert "not found" in text or "manifest unknown" in text
    assert registry.asked(image) == ONE_PULL


@pytest.mark.parametrize("status", [429, 503])
@with_world
async def test_what_passes_is_tried_again(world: DockerWorld, registry: Registry, status: int) -> None:
    """A rate limit, and an outage. The Engine itself gives up at once, and hands no Retry-After on: the pauses are ours."""
    image = registry.image()
    registry.failures = [status] * 2
    order = world.script("cat /etc/image-name", image=image)
    began = time.monotonic()
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert registry.failures == []
    assert time.monotonic() - began >= PAUSE_FIRST_S
    assert lines(order) == [("o", image.split("/")[1].removesuffix(":1"))]


@with_world
async def test_never_pulls_nothing(world: DockerWorld, registry: Registry) -> None:
    image = registry.image()
    text = await failure_of(world, image, pull=Pull.NEVER)
    assert text.startswith("CannotPullContainerError: ")
    assert "never" in text
    assert registry.asked(image) == []


@with_world
async def test_always_asks_each_time(world: DockerWorld, registry: Registry) -> None:
    image = registry.image()
    for idx in range(2):
        order = world.script("true", idx, image=image, pull=Pull.ALWAYS)
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert registry.asked(image) == [*ONE_PULL, "HEAD"]  # nothing new the second time


@with_world
async def test_credentials_come_from_dockers_own_configuration(
    world: DockerWorld, guarded: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, wrong ones, the right ones: only the last gets the image, and the others are told at once."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = guarded.image()
    assert "no basic auth credentials" in await failure_of(world, image)
    write_login(tmp_path, guarded, "wrong")
    text = await failure_of(world, image, idx=1)
    assert text.startswith("CannotPullContainerError: ")
    assert "unauthorized" in text
    assert "wrong" not in text
    write_login(tmp_path, guarded, PASSWORD)
    order = world.script("true", 2, image=image)
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)


def write_login(folder: Path, registry: Registry, password: str) -> None:
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {f"localhost:{registry.port}": {"auth": auth}}}))


@with_world
async def test_credentials_come_from_a_helper(
    world: DockerWorld, guarded: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-test"
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "test"}))
    order = world.script("true", image=guarded.image())
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)


@with_world
async def test_it_is_told_which_image_a_tag_meant(world: DockerWorld, registry: Registry) -> None:
    """The tag moves between two attempts of a task; an image that was never in a registry has its own number; what is found again is told
    with the same name."""
    image = registry.image()
    told = []
    for attempt in (1, 2):
        order = world.script("cat /etc/image-name; sleep 1000", attempt=attempt, image=image, pull=Pull.ALWAYS)
        world.backend.launch([order])
        told.append((await world.facts.started(order.key)).image)
        if attempt == 1:
            registry.image(retag=image)
    assert told == registry.digests[image]
    assert len(set(told)) == 2
    await world.next_life()
    assert sorted(each.image for each in await world.backend.census()) == sorted(told)
    local = world.script("exit 4", 1)
    world.backend.launch([local])
    assert (await world.facts.exited(local.key)).image == world.raw.ok("GET", f"/images/{IMAGE}/json")["Id"]


@pytest.mark.parametrize(
    ("names", "reference", "found"),
    [
        (["b@sha256:2", "a@sha256:1"], "b:tag", "b@sha256:2"),
        (["b@sha256:2", "a@sha256:1"], "c", "a@sha256:1"),
        (["busybox@sha256:1", "a@sha256:1"], "docker.io/library/busybox:1.36", "busybox@sha256:1"),
        (["localhost:5000/x@sha256:1"], "localhost:5000/x@sha256:1", "localhost:5000/x@sha256:1"),
        ([], "b", None),
    ],
)
def test_the_name_that_was_asked_for_is_chosen(names: list[str], reference: str, found: str | None) -> None:
    assert chosen(names, reference) == found
