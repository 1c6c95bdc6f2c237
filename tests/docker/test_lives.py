"""What one engine leaves, the next one finds: each attempt is started once, over any number of lives."""

from __future__ import annotations

from pathlib import Path

from flowbatch.backends.docker.body import create_body
from flowbatch.backends.docker.volumes import sweep_volumes
from flowbatch.model.container import Mount
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import RunId
from flowbatch.model.stimuli import Exited, Started
from flowbatch.ports import LaunchOrder
from tests.docker.engine import Raw
from tests.docker.world import DockerWorld, lines, with_world


def left_created(world: DockerWorld, order: LaunchOrder, boot: str = "-") -> str:
    """What an engine leaves that dies between its create and its start."""
    assert order.container is not None
    body = create_body(order, order.container, world.instance, boot)
    return str(world.raw.ok("POST", "/containers/create", body, name=world.name_of(order))["Id"])


@with_world
async def test_a_container_that_was_created_and_not_started_is_launched_again(world: DockerWorld) -> None:
    order = world.script("echo once")
    left_created(world, order)
    world.backend.need()
    assert await world.backend.census() == []
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert lines(order) == [("o", "once")]


@with_world
async def test_a_create_without_its_answer_is_adopted(world: DockerWorld) -> None:
    order = world.script("echo once")
    left = left_created(world, order, boot_of_now())
    world.backend.launch([order])
    assert (await world.facts.started(order.key)).handle == left
    await world.facts.exited(order.key)


@with_world
async def test_a_created_one_of_other_words_is_made_anew(world: DockerWorld) -> None:
    left = left_created(world, world.script("echo earlier"))
    order = world.script("echo now")
    world.backend.launch([order])
    assert (await world.facts.started(order.key)).handle != left
    await world.facts.exited(order.key)
    assert lines(order) == [("o", "now")]


@with_world
async def test_d09_what_has_ended_is_not_started_again(world: DockerWorld) -> None:
    order = world.script("echo once; exit 3")
    container = left_created(world, order)
    world.raw.ok("POST", f"/containers/{container}/start")
    world.raw.ok("POST", f"/containers/{container}/wait")
    world.backend.launch([order])
    assert (await world.facts.exited(order.key)).evidence == Evidence(3)
    assert [type(fact) for fact in world.facts.of(order.key)] == [Started, Exited]
    assert lines(order) == [("o", "once")]


@with_world
async def test_d18_an_end_after_a_restart_of_the_machine_is_a_loss_whatever_its_code(world: DockerWorld) -> None:
    order = world.script("exit 0")
    container = left_created(world, order, "another-boot")
    world.raw.ok("POST", f"/containers/{container}/start")
    world.raw.ok("POST", f"/containers/{container}/wait")
    world.backend.need()
    [seen] = await world.backend.census()
    assert seen.evidence == Evidence(lost=True, detail="this machine restarted")


@with_world
async def test_a_stop_that_comes_before_the_container_is_found_is_not_lost(world: DockerWorld) -> None:
    """A timeout that passed while no engine looked is due in the first turn of the next."""
    order = world.script("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done")
    world.backend.launch([order])
    await world.settled(order.key)
    await world.next_life()
    world.backend.stop(order.key, 60_000, Halt.TIMEOUT)
    [seen] = await world.backend.census()
    assert seen.evidence is None
    assert (await world.facts.exited(order.key)).evidence == Evidence(7)


@with_world
async def test_a_log_goes_on_where_another_life_left_it(world: DockerWorld) -> None:
    order = world.script("echo one; echo two >&2; echo ready; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last")
    world.backend.launch([order])
    await world.settled(order.key)
    await world.next_life()
    await world.backend.census()
    exec_in(world, order, ["touch", "/tmp/go"])
    await world.facts.exited(order.key)
    assert sorted(lines(order)) == sorted([("o", "one"), ("e", "two"), ("o", "ready"), ("o", "last")])
    assert lines(order)[-1] == ("o", "last")


def exec_in(world: DockerWorld, order: LaunchOrder, command: list[str]) -> None:
    made = world.raw.ok("POST", f"/containers/{world.name_of(order)}/exec", {"Cmd": command})
    world.raw.ok("POST", f"/exec/{made['Id']}/start", {"Detach": True})


@with_world
async def test_the_dead_are_removed_and_the_living_kept(world: DockerWorld, raw: Raw) -> None:
    dead, alive = world.script("true", 0), world.command(("sleep", "600"), 1)
    world.backend.launch([dead, alive])
    await world.facts.exited(dead.key)
    await world.facts.started(alive.key)
    await world.next_life()
    assert {each.key for each in await world.backend.census()} == {dead.key, alive.key}
    world.backend.forget([dead.key, alive.key])
    await world.backend.tidy()
    assert raw.call("GET", f"/containers/{world.name_of(dead)}/json")[0] == 404
    assert raw.inspect(world.name_of(alive))["State"]["Running"]
    world.backend.stop(alive.key, 0, Halt.TERMINATE)
    await world.facts.exited(alive.key)


@with_world
async def test_what_somebody_starts_again_after_its_end_does_not_stay(world: DockerWorld, raw: Raw) -> None:
    """Its job is over: what runs there is of no attempt."""
    order = world.script("test -e /tmp/ran && exec sleep 600; touch /tmp/ran")
    world.backend.launch([order])
    await world.facts.exited(order.key)
    raw.ok("POST", f"/containers/{world.name_of(order)}/start")
    world.backend.forget([order.key])
    await world.backend.tidy()
    assert raw.call("GET", f"/containers/{world.name_of(order)}/json")[0] == 404


@with_world
async def test_a_named_volume_lives_as_long_as_its_run_unless_kept(world: DockerWorld, raw: Raw) -> None:
    run = RunId("5ca1ab1e-0000-4000-8000-000000000000")
    mounts = (Mount("frames", "/frames", volume=True), Mount("models", "/models", volume=True, keep=True))
    env = {"FLOWBATCH_RUN_ID": run}
    writer = world.script("echo x > /frames/a; echo y > /models/b", 0, mounts=mounts, env=env)
    reader = world.script("cat /frames/a /models/b", 1, mounts=mounts, env=env)
    for order in (writer, reader):
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence == Evidence(0)
    assert lines(reader) == [("o", "x"), ("o", "y")]
    world.backend.drop_volumes(run)
    world.backend.forget([writer.key, reader.key])
    await world.backend.tidy()
    names = [f"fb-{world.instance[:8]}-{run}-{name}" for name in ("frames", "models")]
    try:
        assert [raw.call("GET", f"/volumes/{name}")[0] for name in names] == [404, 200]
    finally:
        raw.call("DELETE", f"/volumes/{names[1]}")


async def test_nothing_is_asked_of_an_engine_that_nobody_needs(tmp_path: Path) -> None:
    world_folder = tmp_path / "state"
    from flowbatch.backends.docker.backend import DockerBackend
    from flowbatch.clock import SystemClock

    backend = DockerBackend(
        world_folder, tmp_path, SystemClock(), log_cap_bytes=1, endpoint="unix:///no/engine/is/here"
    )
    assert await backend.census() == []
    assert not world_folder.exists()


def boot_of_now() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@with_world
async def test_gc_takes_volumes_whose_run_is_no_longer_known(world: DockerWorld, raw: Raw) -> None:
    env = {"FLOWBATCH_RUN_ID": "5ca1ab1e-0000-4000-8000-000000000001"}
    mounts = (Mount("a", "/a", volume=True), Mount("b", "/b", volume=True, keep=True))
    order = world.script("true", mounts=mounts, env=env)
    world.backend.launch([order])
    await world.facts.exited(order.key)
    world.backend.forget([order.key])
    await world.backend.tidy()
    folder, endpoint = world.folder / "docker", f"unix://{raw.path}"
    assert await sweep_volumes(folder, lambda run: True, endpoint) == 0
    assert await sweep_volumes(folder, lambda run: False, endpoint) == 1
    raw.ok("DELETE", f"/volumes/fb-{world.instance[:8]}-{env['FLOWBATCH_RUN_ID']}-b")
