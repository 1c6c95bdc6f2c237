"""Nodes whose Docker Engine is another than this machine's: each Engine is a backend of its own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.model.container import Container
from flowbatch.model.effects import Launch, Stop
from flowbatch.model.ending import Halt
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment, JobPlan
from flowbatch.model.place_commands import AddNode, EnvironmentChange, UpdateEnvironment
from flowbatch.model.places import HERE, EnvironmentType, Node
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Census, Configure, Observation, Stimulus, SubmitRun, Target, Terminate
from tests.core.builders import World, environment, job, parse, plan, queue, short
from tests.sim.store import DictStore

FAR = "tcp://farm:2376"
OTHER = "unix:///run/other.sock"
QUEUES = (queue("default", 1, "farm"),)


def farm(*endpoints: str, backend: str = "docker", vcpus: int = 1) -> Environment:
    """With the nodes n0, n1, …, of so many vCPUs each."""
    nodes = tuple(Node(f"n{at}", Resources(vcpus * 1000), endpoint) for at, endpoint in enumerate(endpoints))
    return Environment("farm", backend, Resources(), type=EnvironmentType.UNMANAGED, nodes=nodes)


def contained(key: str, size: int | None = None) -> JobPlan:
    made = job(key, size=size)
    return replace(made, spec=replace(made.spec, container=Container("busybox")))


def backends(effects: list[object]) -> dict[str, str]:
    return {short(each.key): each.backend for each in effects if isinstance(each, Launch)}


def test_each_task_is_launched_by_the_engine_of_its_node_and_stopped_there() -> None:
    world = World(farm(HERE, FAR, OTHER), queues=QUEUES)
    world.submit(contained("a", 4))
    assert backends([*world.effects]) == {
        "a:0#1": "docker", "a:1#1": f"docker@{FAR}", "a:2#1": f"docker@{OTHER}",
    }  # fmt: skip
    world.tell(Terminate(2, Target(run=world.job("a").run.id), "enough"))  # type: ignore[union-attr]
    stops = [each for each in world.effects if isinstance(each, Stop)]
    assert {short(each.key): each.backend for each in stops} == backends([*world.effects])
    assert {each.why for each in stops} == {Halt.TERMINATE}


def test_what_is_made_up_is_made_up_whatever_the_node_says() -> None:
    world = World(farm(FAR, backend="fake"), queues=QUEUES)
    world.submit(contained("a"))
    assert backends([*world.effects]) == {"a:0#1": "fake"}


def lives(*places: Environment) -> tuple[DictStore, list[Machine]]:
    """A machine a life: the first submits two tasks, the others begin with these settings."""
    store, found = DictStore(), []
    for at, place in enumerate(places):
        machine = Machine(rebuild(store.begin_life(rebooted=False)))
        stimuli: list[Stimulus] = [Configure((place,), QUEUES)]
        if at == 0:
            stimuli.append(SubmitRun(1, plan(contained("a", 2))))
        store.commit(machine.handle(stimuli, Millis(at)).writes)
        found.append(machine)
    return store, found


def test_the_next_life_asks_the_same_engine() -> None:
    place = farm(HERE, FAR)
    _, (_, machine) = lives(place, place)
    assert {short(live.key): live.backend for live in machine.state.live.values()} == {
        "a:0#1": "docker", "a:1#1": f"docker@{FAR}",
    }  # fmt: skip
    turn = machine.state.turn
    seen = Observation(parse("a:1"), Millis(5))
    # Where the other Engine has it, it is a stranger; its own knows it.
    astray = machine.handle([Census("docker", turn, (Observation(parse("a:0"), Millis(5)), seen))], Millis(9))
    assert [(short(each.key), each.backend) for each in astray.effects if isinstance(each, Stop)] == [
        ("a:1#1", "docker")
    ]
    machine.handle([Census(f"docker@{FAR}", machine.state.turn, (seen,))], Millis(10))
    assert machine.state.jobs[parse("a").job].counts[4] == 2, "both run"


def test_what_runs_on_a_node_that_moves_is_still_found_where_it_runs() -> None:
    """The settings say another endpoint for its name: what runs ends where it is, nothing new starts there."""
    _, (_, _, machine) = lives(farm(HERE, FAR), farm(HERE, OTHER), farm(HERE, OTHER))
    node = machine.state.environments["farm"].spec.nodes[1]
    assert (node.endpoint, node.draining) == (FAR, True)
    assert machine.state.live[parse("a:1")[:2]].backend == f"docker@{FAR}"


@pytest.mark.parametrize(
    ("stimulus", "error"),
    [
        (
            AddNode(1, "mixed", Node("n9", Resources(1000), FAR)),
            f"environment mixed: node n9 is elsewhere ({FAR}), and only containers run there: the environment must have `backend: docker`",
        ),
        (
            UpdateEnvironment(1, "farm", EnvironmentChange(backend="local")),
            f"environment farm: node n0 is elsewhere ({FAR}), and only containers run there: the environment must have `backend: docker`",
        ),
    ],
)
def test_processes_run_here_alone(stimulus: Stimulus, error: str) -> None:
    mixed = replace(farm(HERE, backend="local"), name="mixed")
    world = World(environment(), farm(FAR), mixed, queues=(queue("q", 1, "farm"), queue("r", 1, "mixed")))
    world.tell(stimulus)
    assert [each.error for each in world.answers()] == [error]
