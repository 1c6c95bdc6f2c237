"""`why` about hosts, nodes and Spot: what is missing, with figures."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.why import explain
from flowbatch.model.jobspec import Environment
from flowbatch.model.places import EnvironmentType, Node
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Configure, Tick
from tests.core.builders import World, environment, job, queue

A, B = environment(4, name="a"), environment(4, name="b")
SPOT = replace(environment(4, name="spot"), spot=True)
QUEUES = (queue("qa", 1, "a"), queue("qb", 1, "b"), queue("qs", 1, "spot"))


def hosted() -> World:
    world = World(A, B, SPOT, queues=QUEUES)
    world.tell(Configure((A, B, SPOT), QUEUES, host=Resources(4000, 8192), host_fixed=True))
    return world


def why(world: World, name: str) -> str:
    return explain(world.state, world.job(name), None, world.now)


def test_the_host_is_what_is_missing() -> None:
    world = hosted()
    world.submit(job("x", vcpus=3, queue="qa"), job("y", vcpus=2, queue="qb"))
    assert why(world, "y") == "y is RUNNABLE: it needs 2 vCPU; b has room, but the host has 1 of 4 vCPUs free for it"


def test_spot_is_giving_back() -> None:
    world = hosted()
    world.submit(job("cheap", vcpus=4, queue="qs"))
    world.submit(job("y", vcpus=2, queue="qb"), run="two")
    assert why(world, "y").endswith(
        "b has room, but the host has 0 of 4 vCPUs free for it; 1 Spot attempt is giving back"
    )


def test_spot_gets_what_is_left() -> None:
    world = hosted()
    world.submit(job("x", vcpus=3, queue="qa"), job("cheap", vcpus=2, queue="qs"))
    assert why(world, "cheap").endswith("spot is Spot: on-demand jobs leave it 1 of 4 vCPUs of the host")


def test_the_host_is_kept_for_who_has_waited_long() -> None:
    world = hosted()
    world.submit(job("x", vcpus=3, queue="qa"), job("large", vcpus=4, queue="qb"))
    world.tell(Tick(), at=40_000)
    world.submit(job("small", queue="qa"), run="two")
    assert "a has room, but the host keeps it for large:0, which needs 4 vCPU and has waited 39 s" in why(
        world, "small"
    )


@pytest.mark.parametrize(
    ("vcpus", "nodes", "text"),
    [
        (3, (("n1", 2, False),), "farm will never do: a task must fit one node, and n1 has 2 vCPU"),
        (1, (), "farm will never do: a task must fit one node, and it has none"),
        (2, (("n1", 2, True), ("n2", 2, False)), "farm has no node with room: n1 is draining, n2 has 1 vCPU free"),
    ],
)
def test_nodes(vcpus: int, nodes: tuple[tuple[str, int, bool], ...], text: str) -> None:
    made = tuple(Node(name, Resources(size * 1000), draining=drains) for name, size, drains in nodes)
    farm = Environment("farm", "fake", Resources(), type=EnvironmentType.UNMANAGED, nodes=made)
    world = World(farm, queues=(queue("default", 1, "farm"),))
    world.submit(job("busy"), job("a", vcpus=vcpus))
    assert text in why(world, "a")
