"""Environments: the host guard, nodes, desiredvCpus; update, disable and delete by AWS's rules (aws-batch.md §10)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.environments import NO_SCALING_DOWN, STILL_ATTACHED
from flowbatch.model.container import Cpu
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import Environment, Queue
from flowbatch.model.place_commands import (
    AddNode,
    CreateEnvironment,
    CreateQueue,
    DeleteEnvironment,
    DeleteQueue,
    DrainNode,
    EnvironmentChange,
    QueueChange,
    RemoveNode,
    UpdateEnvironment,
    UpdateQueue,
)
from flowbatch.model.places import EnvironmentType, Node, PlaceStatus
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EnvironmentRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Configure, Retry, Stimulus, Target, Tick
from tests.core.builders import World, environment, job, queue

TWO = (environment(4, name="a"), environment(4, name="b"))
QUEUES = (queue("qa", 1, "a"), queue("qb", 1, "b"))


def hosted(vcpus: float, *environments: Environment, fixed: bool = True, queues: tuple[Queue, ...] = QUEUES) -> World:
    world = World(*environments, queues=queues)
    world.tell(Configure(environments, queues, host=Resources(int(vcpus * 1000), 8192), host_fixed=fixed))
    return world


def farm(*nodes: Node) -> Environment:
    return Environment("farm", "fake", Resources(), type=EnvironmentType.UNMANAGED, nodes=nodes)


def node(name: str, vcpus: float, *, draining: bool = False) -> Node:
    return Node(name, Resources(int(vcpus * 1000), 4096), draining=draining)


def on_farm(*nodes: Node) -> World:
    return World(farm(*nodes), queues=(queue("default", 1, "farm"),))


def answered(world: World, stimulus: Stimulus) -> str | object:
    """The error, or the value."""
    world.tell(stimulus)
    answer = world.answers()[-1]
    return answer.value if answer.error is None else answer.error


def nodes_of(world: World) -> list[tuple[str, str]]:
    return [
        (f"{live.key.job}:{live.key.idx}", live.node.name if live.node else "") for live in world.state.live.values()
    ]


def status(world: World) -> PlaceStatus:
    return world.state.environments["default"].status


# --- the host guard


def test_environments_of_one_host_share_it() -> None:
    world = hosted(5, *TWO)
    world.submit(job("x", size=4, queue="qa"), job("y", size=4, queue="qb"))
    assert world.launched() == ["x:0#1", "x:1#1", "x:2#1", "x:3#1", "y:0#1"]
    world.end("x:0", "x:1")
    assert world.launched() == ["y:1#1", "y:2#1"]


def test_what_is_declared_larger_than_the_machine_raises_the_guard() -> None:
    world = hosted(2, environment(8, name="a"), environment(3, name="b"), fixed=False)
    world.submit(job("x", size=7, queue="qa"), job("y", size=4, queue="qb"))
    assert len(world.launched()) == 8
    assert world.state.host.guard == Resources(8000, 8192)


def test_a_guard_that_the_settings_name_is_not_raised() -> None:
    world = hosted(2, environment(8, name="a"), queues=(queue("qa", 1, "a"),))
    world.submit(job("x", size=7, queue="qa"))
    assert len(world.launched()) == 2


def test_a_minimum_is_kept_from_the_others_idle_or_disabled() -> None:
    world = hosted(4, TWO[0], replace(TWO[1], min_vcpus_milli=1500, enabled=False))
    world.submit(job("x", size=4, queue="qa"), job("y", queue="qb"))
    assert world.launched() == ["x:0#1", "x:1#1"]
    assert answered(world, UpdateEnvironment(1, "b", EnvironmentChange(enabled=True))) == {
        "environment": "b", "status": PlaceStatus.VALID, "running": 0,
    }  # fmt: skip
    assert world.launched() == ["y:0#1"]


def test_a_head_that_waits_for_the_host_holds_a_reservation_there() -> None:
    world = hosted(4, *TWO)
    world.submit(job("small", size=4, queue="qb"), job("large", vcpus=4, queue="qa"), job("more", size=9, queue="qb"))
    assert world.launched() == ["small:0#1", "small:1#1", "small:2#1", "small:3#1"]
    world.tell(Tick(), at=40_000)
    for index in range(4):
        assert world.launched() == []
        world.end(f"small:{index}")
    assert world.launched() == ["large:0#1"]


def test_nothing_starts_while_more_runs_than_the_guard_allows() -> None:
    world = hosted(4, *TWO)
    world.submit(job("x", size=6, queue="qa"))
    world.launched()
    world.tell(Configure(TWO, QUEUES, host=Resources(2000, 8192), host_fixed=True))
    world.end("x:0", "x:1")
    assert world.launched() == []
    world.end("x:2")
    assert world.launched() == ["x:4#1"]


# --- nodes


def test_a_task_must_fit_one_node() -> None:
    world = on_farm(node("n1", 2), node("n2", 3))
    world.submit(job("large", vcpus=3), job("small", size=9))
    assert nodes_of(world) == [("large:0", "n2"), ("small:0", "n1"), ("small:1", "n1")]
    world.end("large")
    assert nodes_of(world)[2:] == [("small:2", "n2"), ("small:3", "n2"), ("small:4", "n2")]


def test_a_draining_node_lets_what_runs_end() -> None:
    world = on_farm(node("n1", 2), node("n2", 1))
    world.submit(job("a", size=6))
    assert answered(world, DrainNode(1, "farm", "n1")) == {"environment": "farm", "node": "n1", "running": 2}
    assert answered(world, RemoveNode(1, "farm", "n1")) == (
        "node n1 runs 2 tasks: drain it, and remove it once they have ended"
    )
    world.end("a:0", "a:1", "a:2")
    assert nodes_of(world) == [("a:3", "n2")]
    assert answered(world, RemoveNode(1, "farm", "n1")) == {"environment": "farm", "node": "n1"}
    assert [each.name for each in world.state.environments["farm"].spec.nodes] == ["n2"]


def test_a_node_that_is_added_is_used_at_once() -> None:
    world = on_farm()
    world.submit(job("a", size=2))
    assert world.launched() == []
    world.tell(AddNode(1, "farm", node("n1", 2)))
    assert world.launched() == ["a:0#1", "a:1#1"]
    assert answered(world, AddNode(2, "farm", node("n1", 1))) == "node n1 runs 2 tasks that need 2 vCPU: drain it first"


@pytest.mark.parametrize(
    ("stimulus", "error"),
    [
        (AddNode(1, "default", node("n", 1)), "environment default is MANAGED: it has no nodes of its own"),
        (DrainNode(1, "farm", "n9"), "environment farm has no node 'n9'; it has n1"),
        (RemoveNode(1, "nowhere", "n1"), "there is no environment 'nowhere'; there are default, farm"),
    ],
)
def test_nodes_that_cannot_be_had(stimulus: Stimulus, error: str) -> None:
    world = World(environment(), farm(node("n1", 1)), queues=(queue("default", 1, "default"), queue("q", 1, "farm")))
    assert answered(world, stimulus) == error


# --- desiredvCpus


def test_desired_vcpus_follow_demand_up_at_once_and_down_after_the_delay() -> None:
    place = replace(environment(4), min_vcpus_milli=1000, scale_down_ms=60_000)
    world = World(place)
    held = world.state.environments["default"]
    assert held.desired_vcpus_milli == 1000
    world.submit(job("a", size=2), job("hold", queue="default"))
    assert held.desired_vcpus_milli == 3000
    world.submit(job("b", size=100), run="two")
    assert held.desired_vcpus_milli == 4000
    while world.state.live:
        world.end(*(f"{live.key.job}:{live.key.idx}" for live in list(world.state.live.values())))
    assert (held.live, held.desired_vcpus_milli) == (0, 4000)
    due = world.machine.next_deadline()
    assert due == world.now + 60_000
    world.tell(Tick(), at=world.now + 60_000)
    assert held.desired_vcpus_milli == 1000


# --- update


def refused(change: EnvironmentChange, minutes: int = 30) -> object:
    world = World(replace(environment(4), min_vcpus_milli=1000))
    world.submit(job("a", size=3))
    return answered(world, UpdateEnvironment(1, "default", change, job_timeout_minutes=minutes))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (EnvironmentChange(desired_vcpus_milli=2000), NO_SCALING_DOWN),
        (
            EnvironmentChange(desired_vcpus_milli=5000),
            "environment default: desired_vcpus (5) must lie between min_vcpus (1) and max_vcpus (4)",
        ),
        (
            EnvironmentChange(min_vcpus_milli=5000),
            "environment default: min_vcpus (5) must not be more than max_vcpus (4)",
        ),
        (
            EnvironmentChange(spot=True),
            "environment default: min_vcpus: Spot keeps nothing, it has what others leave; leave it out",
        ),
        (
            EnvironmentChange(backend="docker"),
            "environment default: backend: neither from nor to fake, whose tasks are made up",
        ),
    ],
)
def test_updates_that_are_refused(change: EnvironmentChange, error: str) -> None:
    assert refused(change) == error


def test_the_limits_of_the_update_policy() -> None:
    assert refused(EnvironmentChange(cpu=Cpu.QUOTA), 7201) == (
        "environment default: job timeout: 1 to 7200 minutes are possible, not 7201"
    )


def test_a_lowered_maximum_lets_what_runs_go_on() -> None:
    world = World()
    world.submit(job("a", size=9))
    assert len(world.launched()) == 4
    world.tell(UpdateEnvironment(1, "default", EnvironmentChange(max_vcpus_milli=2000)))
    world.end("a:0", "a:1")
    assert (world.launched(), world.stops()) == ([], [])
    world.end("a:2")
    assert world.launched() == ["a:4#1"]


def test_disabled_starts_nothing_new_and_stops_nothing() -> None:
    world = World(environment(1))
    world.submit(job("a", size=3))
    world.launched()
    world.tell(UpdateEnvironment(1, "default", EnvironmentChange(enabled=False)))
    world.end("a:0")
    assert (world.launched(), world.stops()) == ([], [])
    world.tell(UpdateEnvironment(1, "default", EnvironmentChange(enabled=True)))
    assert world.launched() == ["a:1#1"]


def test_an_infrastructure_update_may_terminate_what_runs_as_a_failed_attempt() -> None:
    world = World(environment(2))
    world.submit(job("a", attempts=2), job("b"))
    world.start("a", "b")
    world.launched()
    world.tell(UpdateEnvironment(1, "default", EnvironmentChange(cpu=Cpu.QUOTA), terminate_jobs=True))
    assert world.stops() == ["a:0#1 RECLAIM", "b:0#1 RECLAIM"]
    assert status(world) is PlaceStatus.UPDATING
    world.end("a", "b", code=143)
    assert world.launched() == ["a:0#2"]
    assert world.job("b").status is Status.FAILED
    reason = world.job("b").status_reason
    assert reason is not None
    assert reason.startswith("Host EC2 (instance i-")
    assert reason.endswith(") terminated.")
    assert status(world) is PlaceStatus.VALID


def test_an_infrastructure_update_may_leave_some_minutes_to_what_runs() -> None:
    world = World(environment(1))
    world.submit(job("a"), job("b"))
    world.start("a")
    world.launched()
    world.tell(UpdateEnvironment(1, "default", EnvironmentChange(cpu=Cpu.QUOTA), job_timeout_minutes=2))
    assert world.stops() == []
    world.tell(Tick(), at=world.now + 119_999)
    assert world.stops() == []
    world.tell(Tick(), at=world.now + 1)
    assert world.stops() == ["a:0#1 RECLAIM"]
    world.end("a", code=0)
    assert world.job("a").status is Status.SUCCEEDED  # it ended well within the time it had
    assert world.launched() == ["b:0#1"]


# --- create, delete


def test_an_environment_is_created_enabled_and_attached_later() -> None:
    world = World()
    new = environment(2, name="new")
    assert answered(world, CreateEnvironment(1, replace(new, enabled=False))) == (
        "environment new: state: it must be created ENABLED"
    )
    assert answered(world, CreateEnvironment(1, new)) == {"environment": "new"}
    assert world.outcome.writes.environments == {"new": EnvironmentRow("new", new, None, PlaceStatus.VALID)}
    assert answered(world, CreateEnvironment(1, new)) == "Object already exists: there is an environment new"
    assert answered(world, CreateQueue(1, queue("q", 1, "new"))) == {"queue": "q"}
    world.submit(job("a", queue="q"))
    assert world.launched() == ["a:0#1"]


@pytest.mark.parametrize(("told", "guard"), [("", 100_000), ("{}", 4_000)])
def test_what_the_api_is_told_makes_the_machine_no_larger(told: str, guard: int) -> None:
    """Who serves the machine may declare more than there is; who calls AWS's API may only say so."""
    world = hosted(4, environment(4), fixed=False, queues=(queue("default", 1, "default"),))
    world.tell(CreateEnvironment(1, replace(environment(100, name="huge"), aws=told)))
    assert world.state.host.guard is not None
    assert world.state.host.guard.vcpus_milli == guard
    world.tell(UpdateEnvironment(2, "default", EnvironmentChange(max_vcpus_milli=200_000, aws="{}")))
    assert world.state.host.guard.vcpus_milli == guard
    assert world.state.environments["default"].spec.capacity.vcpus_milli == 200_000


def test_a_new_environment_begins_with_what_was_desired() -> None:
    world = World()
    new = replace(environment(4, name="new"), min_vcpus_milli=1_000)
    for desired, said in (
        (500, "environment new: desired_vcpus (0.5) must lie between min_vcpus (1) and max_vcpus (4)"),
        (5_000, "environment new: desired_vcpus (5) must lie between min_vcpus (1) and max_vcpus (4)"),
        (3_000, {"environment": "new"}),
    ):
        assert answered(world, CreateEnvironment(1, new, desired)) == said
    assert world.state.environments["new"].desired_vcpus_milli == 3_000


def test_tags_come_and_go_with_what_has_them() -> None:
    world = World()
    new, team = environment(1, name="new"), (("team", "film"),)
    world.tell(CreateEnvironment(1, new, tags=team), CreateQueue(2, queue("q", 1, "new"), team))
    assert world.outcome.writes.tags == {("compute-environment", "new"): team, ("job-queue", "q"): team}
    world.tell(UpdateQueue(3, "q", QueueChange(enabled=False)), DeleteQueue(4, "q"))
    assert world.outcome.writes.tags == {("job-queue", "q"): None}
    world.tell(UpdateEnvironment(5, "new", EnvironmentChange(enabled=False)), DeleteEnvironment(6, "new"))
    assert world.outcome.writes.tags == {("compute-environment", "new"): None}


def test_only_what_is_disabled_and_detached_is_deleted() -> None:
    world = World(environment(), environment(1, name="b"), queues=(queue("default", 1, "default", "b"),))
    world.submit(job("a", size=5))
    assert answered(world, DeleteEnvironment(1, "b")) == "Cannot delete, environment b is ENABLED: disable it first"
    world.tell(UpdateEnvironment(1, "b", EnvironmentChange(enabled=False)))
    assert answered(world, DeleteEnvironment(1, "b")) == f"{STILL_ATTACHED} (default)"
    world.tell(UpdateQueue(1, "default", QueueChange(environments=("default",))))
    assert answered(world, DeleteEnvironment(1, "b")) == {
        "environment": "b",
        "status": PlaceStatus.DELETING,
        "running": 1,
    }
    world.end("a:4")
    assert set(world.state.environments) == {"default"}
    row = world.outcome.writes.environments["b"]
    assert row is not None, "the settings declare it: that it is deleted is remembered"
    assert row.status is PlaceStatus.DELETED


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ((), "queue q: environments: 1 to 3 are possible, not 0"),
        (("a", "b", "c", "d"), "queue q: environments: 1 to 3 are possible, not 4"),
        (("nowhere",), "queue q: environments: there is no environment 'nowhere'"),
    ],
)
def test_environments_that_a_queue_cannot_have(names: tuple[str, ...], error: str) -> None:
    world = World(queues=(queue("q"),))
    assert answered(world, UpdateQueue(1, "q", QueueChange(environments=names))) == error


def test_a_deleted_queue_takes_its_jobs_with_it() -> None:
    world = World(environment(1), queues=(queue("default"), queue("q")))
    world.submit(job("runs", queue="q"), job("waits", queue="q"), job("after", needs=["waits"]), job("else"))
    assert answered(world, DeleteQueue(1, "q")) == "Cannot delete, queue q is ENABLED: disable it first"
    world.tell(UpdateQueue(1, "q", QueueChange(enabled=False)))
    assert answered(world, DeleteQueue(1, "q")) == {"queue": "q", "status": PlaceStatus.DELETING, "terminated": 2}
    assert world.stops() == ["runs:0#1 TERMINATE"]
    assert world.job("waits").status_reason == "JobQueue deleted"
    assert world.job("after").status is Status.FAILED
    assert answered(world, Retry(3, Target(RunId("run"), world.job("waits").id))) == (
        "job waits belongs to queue q, which is deleted: it cannot run again"
    ), "not while it is DELETING either"
    world.launched()
    world.end("runs", code=143)
    assert set(world.state.queues) == {"default"}
    assert world.launched() == ["else:0#1"]
    world.submit(job("late", queue="q"), run="late")
    assert world.answers()[-1].error == "unknown queue 'q'"
    assert answered(world, Retry(2, Target(RunId("run")))) == (
        "job runs belongs to queue q, which is deleted: it cannot run again"
    )
    world.end("else", evidence=Evidence(0))
    assert world.outcome.writes.runs[1].status is RunStatus.FAILED
