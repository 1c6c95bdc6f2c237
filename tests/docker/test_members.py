"""Nodes that find each other by name and address, and containers of one task that share a network."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.backends.docker.names import network_name
from flowbatch.model.container import HOLDER_IMAGE, Container, Pull
from flowbatch.model.effects import Place
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, JobId, node_name
from flowbatch.model.jobspec import JobSpec, Part
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import LaunchFailed
from flowbatch.ports import LaunchOrder
from tests.backends.conformance import JOB
from tests.docker.engine import Raw
from tests.docker.world import DockerWorld, lines, with_world

PART = Part("", JobSpec("job", "default", ("true",), Resources()))
ECHO = "nc -ll -p 7000 -e cat"  # whoever connects gets back what it says
ASK = "until echo hello | nc -w 2 {} 7000 2> /dev/null; do sleep 0.1; done"  # perhaps nobody listens yet


def node(world: DockerWorld, script: str, number: int, main_address: str = "", idx: int = 0) -> LaunchOrder:
    order = world.script(script, idx, network="bridge")
    key = order.key.of_member(number)
    place = Place(PART, str(number), number, 2, 0, main_address=main_address)
    return replace(order, key=key, log=order.log.replace(order.key.id, key.id), place=place)


def crew(world: DockerWorld, *scripts: str, share_pid: bool = False, share_ipc: bool = False) -> list[LaunchOrder]:
    """Containers of one task, who holds their network first."""
    held = AttemptKey(JOB, 0, 1, len(scripts))
    box = Container(HOLDER_IMAGE, Pull.NEVER, readonly=True, init=False)
    holder = replace(
        world.command((), 0), key=held, container=box,
        place=Place(PART, "", 0, holds=True, share_ipc=share_ipc, share_pid=share_pid),
    )  # fmt: skip
    found = [holder]
    for number, script in enumerate(scripts):
        order = world.script(script, 0, network="bridge")
        key = order.key.of_member(number)
        place = Place(PART, str(number), 0, holder=held, share_ipc=share_ipc, share_pid=share_pid)
        found.append(replace(order, key=key, log=order.log.replace(order.key.id, key.id), place=place))
    return found


@with_world
async def test_nodes_reach_the_main_one_by_its_address_and_by_its_name(world: DockerWorld) -> None:
    main = node(world, ECHO, 0)
    world.backend.launch([main])
    address = (await world.facts.started(main.key)).address
    assert address.count(".") == 3
    by_address = node(world, ASK.format(address), 1, address)
    by_name = node(world, ASK.format(node_name(JobId(JOB), 0)), 1, address, idx=1)
    world.backend.launch([by_address, by_name])
    for order in (by_address, by_name):
        assert (await world.facts.exited(order.key)).evidence.exit_code == 0
        assert lines(order) == [("o", "hello")]
    [seen] = [each for each in await world.backend.census() if each.key == main.key]
    assert seen.address == address
    world.backend.stop(main.key, 0, Halt.TERMINATE)
    await world.facts.exited(main.key)


@with_world
async def test_the_next_engine_knows_the_address(world: DockerWorld) -> None:
    main = node(world, "sleep 600", 0)
    world.backend.launch([main])
    address = (await world.facts.started(main.key)).address
    await world.next_life()
    [seen] = await world.backend.census()
    assert (seen.key, seen.address) == (main.key, address)
    world.backend.stop(main.key, 0, Halt.TERMINATE)
    await world.facts.exited(main.key)


@with_world
async def test_one_network_for_all_jobs_which_goes_when_nobody_is_in_it(world: DockerWorld, raw: Raw) -> None:
    name = network_name(world.instance)
    orders = [node(world, "sleep 600", 0), node(world, "true", 0, idx=1)]
    world.backend.launch(orders)
    await world.facts.started(orders[0].key)
    await world.facts.exited(orders[1].key)
    assert [
        each["Name"] for each in raw.ok("GET", "/networks") if each["Name"].startswith("fb-" + world.instance[:8])
    ] == [name]
    world.backend.forget([orders[1].key])
    await world.backend.tidy()
    assert raw.call("GET", f"/networks/{name}")[0] == 200  # the first is in it
    world.backend.stop(orders[0].key, 0, Halt.TERMINATE)
    await world.facts.exited(orders[0].key)
    world.backend.forget([orders[0].key])
    await world.backend.tidy()
    assert raw.call("GET", f"/networks/{name}")[0] == 404


@with_world
async def test_a_network_that_was_removed_is_made_again(world: DockerWorld, raw: Raw) -> None:
    first, second = node(world, "true", 0), node(world, "true", 0, idx=1)
    world.backend.launch([first])
    await world.facts.exited(first.key)
    raw.ok("DELETE", f"/networks/{network_name(world.instance)}")
    world.backend.launch([second])
    assert (await world.facts.exited(second.key)).evidence.exit_code == 0


@with_world
async def test_a_network_of_that_name_that_is_not_ours_is_left_alone(world: DockerWorld, raw: Raw) -> None:
    name = network_name(world.instance)
    raw.ok("POST", "/networks/create", {"Name": name, "CheckDuplicate": True})
    try:
        order = node(world, "true", 0)
        world.backend.launch([order])
        end = await world.facts.ended(order.key)
        assert isinstance(end, LaunchFailed)
        assert f"the network {name}, which is not flowbatch's, is there already" in (end.evidence.start_error or "")
    finally:
        raw.ok("DELETE", f"/networks/{name}")


@with_world
async def test_containers_of_a_task_meet_on_localhost(world: DockerWorld) -> None:
    holder, server, asker = crew(world, ECHO, ASK.format("127.0.0.1"))
    world.backend.launch([holder])
    await world.facts.started(holder.key)
    world.backend.launch([server, asker])
    assert (await world.facts.exited(asker.key)).evidence.exit_code == 0
    assert lines(asker) == [("o", "hello")]
    world.backend.stop(server.key, 0, Halt.TERMINATE)
    await world.facts.exited(server.key)
    world.backend.stop(holder.key, 0, Halt.TERMINATE)
    assert (await world.facts.exited(holder.key)).evidence.exit_code == 137


@with_world
async def test_the_network_outlives_those_who_came_first(world: DockerWorld) -> None:
    holder, early, server, asker = crew(world, "true", ECHO, ASK.format("localhost"))
    world.backend.launch([holder])
    await world.facts.started(holder.key)
    world.backend.launch([early])
    await world.facts.exited(early.key)
    world.backend.launch([server, asker])
    assert (await world.facts.exited(asker.key)).evidence.exit_code == 0
    for order in (server, holder):
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        await world.facts.exited(order.key)


@with_world
async def test_processes_are_shared_where_that_is_asked_for(world: DockerWorld) -> None:
    holder, watcher = crew(world, "ps", share_pid=True, share_ipc=True)
    world.backend.launch([holder])
    await world.facts.started(holder.key)
    world.backend.launch([watcher])
    assert (await world.facts.exited(watcher.key)).evidence.exit_code == 0
    assert any("/hold" in text for _, text in lines(watcher))
    world.backend.stop(holder.key, 0, Halt.TERMINATE)
    await world.facts.exited(holder.key)


@with_world
async def test_who_holds_a_network_needs_no_image_from_anywhere(world: DockerWorld, raw: Raw) -> None:
    raw.call("DELETE", f"/images/{HOLDER_IMAGE}")  # refused where another test uses it right now
    [holder] = crew(world)
    world.backend.launch([holder])
    await world.facts.started(holder.key)
    world.backend.stop(holder.key, 0, Halt.TERMINATE)
    await world.facts.exited(holder.key)
