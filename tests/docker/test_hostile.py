"""What a task, or whoever made its image, could do to the engine and to its neighbours."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowbatch.backends.docker.body import PIDS_LIMIT
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.resources import Resources
from tests.app.commands import is_alive
from tests.docker.engine import Raw, busybox_tree
from tests.docker.world import DockerWorld, lines, with_world

NAME = "flowbatch-test/hostile:1"
ENDLESS = "flowbatch-test/hostile:endless"
CONFIG = {
    "Entrypoint": ["/bin/echo", "its own"],
    "Env": ["FLOWBATCH_JOB=another", "AWS_BATCH_JOB_ID=another", "PATH=/bin"],
    "Healthcheck": {"Test": ["CMD-SHELL", "echo unhealthy; exit 1"], "Interval": 1_000_000, "Retries": 1},
    "Labels": {"flowbatch.attempt": "another", "flowbatch.instance": "another", "flowbatch.boot": "another"},
    "StopSignal": "NOPE",
    "User": "nobody",
    "Volumes": {"/of-the-image": {}},
    "WorkingDir": "/not/there",
}


@pytest.fixture(scope="module")
def image(raw: Raw) -> Iterator[str]:
    """As no `docker build` would make it, but as any registry may hand it out."""
    tree = busybox_tree()
    layer = f"sha256:{hashlib.sha256(tree).hexdigest()}"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", tree),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    raw.ok("POST", "/images/load", out.getvalue())
    yield NAME
    for name in (ENDLESS, NAME):
        raw.call("DELETE", f"/images/{name}", force=1)


def volumes(raw: Raw) -> set[str]:
    return {each["Name"] for each in raw.ok("GET", "/volumes")["Volumes"] or ()}


@with_world
async def test_an_image_that_says_wild_things_of_itself(world: DockerWorld, raw: Raw, image: str) -> None:
    """Its ENTRYPOINT, USER and folder hold, as for AWS; its variables and labels stand for none of ours, its health is nobody's business,
    and its volumes go with the container."""
    before = volumes(raw)
    env = {"FLOWBATCH_JOB": "ours", "AWS_BATCH_JOB_ID": "1"}
    order = world.command(("of the job",), image=image, env=env)
    world.backend.launch([order])
    end = await world.facts.exited(order.key)
    assert end.evidence == Evidence(0)
    assert lines(order) == [("o", "its own of the job")]
    made: dict[str, Any] = raw.inspect(world.name_of(order))
    assert made["Config"]["User"] == "nobody"
    assert {"FLOWBATCH_JOB=ours", "AWS_BATCH_JOB_ID=1"} <= set(made["Config"]["Env"])
    assert made["Config"]["Labels"]["flowbatch.attempt"] == order.key.id
    assert made["Config"]["Labels"]["flowbatch.instance"] == world.instance
    assert made["State"].get("Health", {"Log": None})["Log"] is None, "somebody asked for its health"
    assert volumes(raw) > before
    world.backend.forget([order.key])
    await world.backend.tidy()
    assert volumes(raw) <= before


@with_world
async def test_a_signal_that_there_is_not_keeps_nobody_from_being_stopped(
    world: DockerWorld, raw: Raw, image: str
) -> None:
    """The Engine takes no signal but KILL for a container whose STOPSIGNAL it does not know."""
    order = world.command(("sleep", "1000"), image=endless(raw, image))
    world.backend.launch([order])
    await world.facts.started(order.key)
    world.backend.stop(order.key, 300, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence == Evidence(137)


def endless(raw: Raw, image: str) -> str:
    """The same image without its entrypoint."""
    made = raw.ok("POST", "/containers/create", {"Image": image, "Entrypoint": [], "Cmd": ["sleep", "1000"]})["Id"]
    repo, _, tag = ENDLESS.rpartition(":")
    raw.ok("POST", "/commit", {"Entrypoint": [], "StopSignal": "NOPE"}, container=made, repo=repo, tag=tag)
    raw.remove(made)
    return ENDLESS


@with_world
async def test_a_fork_bomb_is_held_and_harms_nobody(world: DockerWorld, raw: Raw) -> None:
    """It gets no more processes than one container may have. Beside it others begin and end; it is stopped, and nothing of it is left."""
    bomb = world.script(
        "for i in 1 2 3 4; do sh -c 'while :; do sleep 1000 & done' & done; exec sleep 1000",
        resources=Resources(1000, 2048),
    )
    world.backend.launch([bomb])
    handle = (await world.facts.started(bomb.key)).handle
    held: dict[str, int] = {}
    with anyio.fail_after(60):
        while held.get("current", 0) < PIDS_LIMIT - 16:
            answer = await anyio.to_thread.run_sync(
                lambda: raw.ok("GET", f"/containers/{handle}/stats", stream="false", **{"one-shot": "1"})
            )
            held = answer["pids_stats"]
    assert held["limit"] == PIDS_LIMIT
    neighbours = [world.script(f"exit {idx}", idx) for idx in range(1, 4)]
    world.backend.launch(neighbours)
    assert [(await world.facts.exited(each.key)).evidence.exit_code for each in neighbours] == [1, 2, 3]
    assert b"can't fork" in await anyio.to_thread.run_sync(world.output, handle)
    pid = raw.inspect(handle)["State"]["Pid"]
    world.backend.stop(bomb.key, 10_000, Halt.TERMINATE)
    assert (await world.facts.exited(bomb.key)).evidence == Evidence(143)
    assert not is_alive(pid)
