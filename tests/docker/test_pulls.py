"""Images that have to be pulled, from a registry on loopback."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from flowbatch.model.container import Pull
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.stimuli import LaunchFailed
from tests.docker.engine import Raw
from tests.docker.registry import Registry, a_registry
from tests.docker.test_away import until
from tests.docker.world import DockerWorld, lines, with_world


@pytest.fixture
def registry(raw: Raw) -> Iterator[Registry]:
    with a_registry() as made:
        yield made
        for item in raw.ok("GET", "/images/json"):
            for tag in item.get("RepoTags") or ():
                if tag.startswith(f"localhost:{made.port}/"):
                    raw.call("DELETE", f"/images/{tag}", force=1)


def a_name() -> str:
    return f"test-{uuid4().hex[:8]}"


async def failure_of(world: DockerWorld, image: str, **changes: Any) -> str:
    order = world.script("true", image=image, **changes)
    world.backend.launch([order])
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed), end
    assert end.evidence.exit_code is None
    return end.evidence.start_error or ""


@with_world
async def test_many_that_need_an_image_pull_it_once(world: DockerWorld, registry: Registry) -> None:
    image = registry.image(a_name())
    registry.gate.clear()
    orders = [world.script("echo here", idx, image=image) for idx in range(6)]
    world.backend.launch(orders)
    other = world.script("true", 9)  # a slow pull holds up nobody else
    world.backend.launch([other])
    assert (await world.facts.exited(other.key)).evidence == Evidence(0)
    assert list(world.backend.pulls) == [image]
    assert world.backend.waits_for(orders[0].key) == f"the pull of {image}"
    registry.gate.set()
    for order in orders:
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
        assert lines(order) == [("o", "here")]
    assert registry.manifests == 1
    assert world.backend.pulls == {}


@with_world
async def test_a_stop_does_not_wait_for_a_pull(world: DockerWorld, registry: Registry) -> None:
    registry.gate.clear()
    order = world.script("true", image=registry.image(a_name()))
    world.backend.launch([order])
    await until(lambda: registry.manifests == 1)
    world.backend.stop(order.key, 60_000, Halt.TERMINATE)
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    assert end.evidence.start_error is None
    registry.gate.set()


@with_world
async def test_what_is_not_there_fails_at_once(world: DockerWorld, registry: Registry) -> None:
    registry.failures = [404, 404]
    text = await failure_of(world, registry.image(a_name()))
    assert text.startswith("CannotPullContainerError: ")
    assert "not found" in text or "manifest unknown" in text
    assert registry.manifests <= 2


@with_world
async def test_what_passes_is_tried_again(world: DockerWorld, registry: Registry) -> None:
    registry.failures = [503, 503]
    order = world.script("true", image=registry.image(a_name()))
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert registry.manifests >= 2


@with_world
async def test_never_pulls_nothing(world: DockerWorld, registry: Registry) -> None:
    text = await failure_of(world, registry.image(a_name()), pull=Pull.NEVER)
    assert text.startswith("CannotPullContainerError: ")
    assert "never" in text
    assert registry.manifests == 0


@with_world
async def test_always_asks_each_time(world: DockerWorld, registry: Registry) -> None:
    image = registry.image(a_name())
    for idx in range(2):
        order = world.script("true", idx, image=image, pull=Pull.ALWAYS)
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert registry.manifests >= 1


@with_world
async def test_credentials_come_from_dockers_own_configuration(
    world: DockerWorld, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.auth = "somebody:s3cret:with-colon"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    image = registry.image(a_name())
    text = await failure_of(world, image)
    assert text.startswith("CannotPullContainerError: ")
    auth = base64.b64encode(registry.auth.encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {f"localhost:{registry.port}": {"auth": auth}}}))
    order = world.script("true", 1, image=image)
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)


@with_world
async def test_credentials_come_from_a_helper(
    world: DockerWorld, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.auth = "somebody:s3cret"
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "somebody", "Secret": "s3cret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "test"}))
    order = world.script("true", image=registry.image(a_name()))
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)
