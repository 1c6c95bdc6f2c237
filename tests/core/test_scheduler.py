"""What runs now, and where: semantics.md 17."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flowbatch.core.ready import Group
from flowbatch.core.scheduler import RESERVE_AFTER_MS
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import Action, Environment, JobPlan, RetryPolicy, Rule
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Cancel, Configure, Drain, Exited, SubmitRun, Target, Tick
from tests.core.builders import World, environment, job, need, parse, plan, queue

LATER = 1_000 + RESERVE_AFTER_MS
DONE = Evidence(0)


def test_the_order_of_submission_within_a_queue() -> None:
    world = World(environment(vcpus=2))
    world.submit(job("b", size=2), job("a", size=2))
    assert world.launched() == ["b:0#1", "b:1#1"]


def test_priority_comes_before_order_and_a_retry_before_both() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", attempts=2), job("b"), job("c", priority=9))
    assert world.launched() == ["c:0#1"]
    world.end("c")
    assert world.launched() == ["a:0#1"]
    world.end("a", code=1)
    assert world.launched() == ["a:0#2"]
    world.end("a#2")
    assert world.launched() == ["b:0#1"]


def test_higher_queues_first() -> None:
    world = World(environment(vcpus=1), queues=(queue("low", 1), queue("high", 10)))
    world.submit(job("a", queue="low", priority=99), job("b", queue="high"))
    assert world.launched() == ["b:0#1"]


def test_of_equal_queues_the_oldest_head_first() -> None:
    world = World(environment(vcpus=1), queues=(queue("x"), queue("y")))
    world.submit(job("a", queue="y"), job("b", queue="x"), job("c", queue="y"))
    for name in ("a", "b", "c"):
        assert world.launched() == [f"{name}:0#1"]
        world.end(name)


def test_environments_in_the_order_of_the_queue() -> None:
    places = (environment(vcpus=4, name="big"), environment(vcpus=1, name="small"))
    world = World(*places, queues=(queue("default", 1, "small", "big"),))
    world.submit(job("a", size=3), job("b", vcpus=2))
    assert [live.environment.name for live in world.state.live.values()] == ["small", "big", "big", "big"]
    assert world.launched() == ["a:0#1", "a:1#1", "a:2#1", "b:0#1"]


@pytest.mark.parametrize(
    ("need", "count"),
    [(Resources(1000), 4), (Resources(500), 8), (Resources(1000, 2048), 2), (Resources(0, 0, 1), 1), (Resources(), 9)],
)
def test_each_kind_of_capacity_is_a_limit(need: Resources, count: int) -> None:
    world = World(Environment("default", "fake", Resources(4000, 4096, 1)))
    plan = job("a", size=9)
    world.submit(JobPlan(plan.id, replace(plan.spec, resources=need)))
    assert len(world.launched()) == count


def test_a_kind_of_job_goes_where_its_backend_is() -> None:
    places = (environment(name="docker", backend="docker"), environment(name="here", backend="process"))
    world = World(*places, queues=(queue("default", 1, "docker", "here"),))
    world.submit(job("a"))
    (live,) = world.state.live.values()
    assert (live.environment.name, live.backend) == ("here", "process")


def test_max_running_of_a_job() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("a", size=5, max_running=2), job("b", size=2))
    assert world.launched() == ["a:0#1", "a:1#1", "b:0#1", "b:1#1"]
    world.end("a:1")
    assert world.launched() == ["a:2#1"]
    world.end("a:0", "a:2")
    assert world.launched() == ["a:3#1", "a:4#1"]


def test_max_running_of_a_queue() -> None:
    world = World(environment(vcpus=9), queues=(queue(max_running=2), queue("other")))
    world.submit(job("a", size=5), job("b", queue="other"))
    assert world.launched() == ["a:0#1", "a:1#1", "b:0#1"]
    world.end("b")
    assert world.launched() == []


def test_a_backoff_is_outside_of_max_running() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("a", size=3, max_running=1, retry=RetryPolicy(2, 10_000, 10_000)))
    world.end("a:0", code=1)
    assert world.launched() == ["a:0#1", "a:1#1"]
    world.tell(Tick(), at=20_000)
    assert world.launched() == []
    world.end("a:1")
    assert world.launched() == ["a:0#2"]


def test_what_does_not_fit_lets_others_pass_for_a_while_then_holds_a_reservation() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("a", size=2, vcpus=2), job("big", vcpus=4), job("small", size=50))
    assert world.launched() == ["a:0#1", "a:1#1"]
    world.end("a:0")
    assert world.launched() == ["small:0#1", "small:1#1"]  # backfill
    world.tell(Exited(parse("small:0"), world.now, DONE, world.now), at=LATER)
    assert world.launched() == []  # kept for big
    world.end("small:1", "a:1")
    assert world.launched() == ["big:0#1"]
    world.end("big")
    assert world.launched() == [f"small:{index}#1" for index in range(2, 6)]


def test_a_reservation_ends_with_its_holder() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("a", vcpus=3), job("big", vcpus=4), job("small", size=9))
    world.launched()
    world.end("small:0")
    world.launched()
    world.tell(Tick(), at=LATER)
    world.end("small:1")
    assert world.launched() == []
    world.tell(Cancel(1, Target(job=JobId("big")), "no"))
    assert world.launched() == ["small:2#1"]


def test_what_is_kept_for_one_is_free_for_others_once_it_is_served() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("a", vcpus=3), job("big", vcpus=2), job("small", size=9))
    world.launched()
    world.tell(Tick(), at=LATER)
    world.end("a")
    assert world.launched() == ["big:0#1", "small:1#1"]


def test_nothing_starts_while_draining_or_in_a_disabled_environment() -> None:
    world = World(environment())
    off = replace(environment(), enabled=False)
    world.tell(Configure((off,), (queue(),)))
    world.submit(job("a"), job("b"))
    assert world.launched() == []
    world.tell(Configure((environment(),), (queue(),)))
    assert world.launched() == ["a:0#1", "b:0#1"]
    world.tell(Drain())
    world.submit(job("c"), run="other")
    assert world.launched() == []


shapes = st.builds(lambda cpu, memory: (cpu / 4, memory * 256), st.integers(1, 16), st.integers(0, 8))


@pytest.mark.slow
@given(st.lists(st.tuples(shapes, st.integers(1, 6)), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_capacity_is_never_exceeded_and_all_of_it_ends(
    jobs: list[tuple[tuple[float, int], int]], dice: random.Random
) -> None:
    """`invariants.check` runs in every `tell`; here it is that all of it ends, in whatever order ends come."""
    world = World(environment(vcpus=4, memory_mib=2048))
    world.submit(*(job(f"j{i}", size=n, vcpus=cpu, memory_mib=memory) for i, ((cpu, memory), n) in enumerate(jobs)))
    while world.state.live:
        key = dice.choice(list(world.state.live.values())).key
        world.tell(Exited(key, world.now, DONE, world.now), at=world.now + dice.choice((0, 20_000)))
    assert not world.state.runs


@pytest.mark.parametrize("waiting", [10, 10_000])
def test_the_cost_of_placing_does_not_grow_with_what_waits(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(environment(vcpus=2))
    world.submit(*(job(f"j{i}", size=waiting) for i in range(5)))
    calls = 0
    head = Group.head

    def counted(group: Group) -> object:
        nonlocal calls
        calls += 1
        return head(group)

    monkeypatch.setattr(Group, "head", counted)
    world.end("j0:0")
    assert world.launched() == ["j0:0#1", "j0:1#1", "j0:2#1"]
    assert calls <= 6


def test_thousands_held_back_by_max_running_cost_nothing_per_end() -> None:
    """Each child whose source ended out of order has an entry of its own; an end brings back one of them, not all."""
    world = World(environment(vcpus=9))
    world.submit(job("a", size=200, vcpus=0), job("b", size=200, vcpus=1, max_running=2, needs=[need("a", each=True)]))
    world.end(*(f"a:{index}" for index in reversed(range(200))))
    parked = [len(heap) for heap in world.job("b").parked.values()]
    assert parked == [198]
    world.end("b:0")
    assert [len(heap) for heap in world.job("b").parked.values()] == [197]


def test_who_comes_to_hold_a_reservation_starts_then_and_not_with_the_next_end() -> None:
    """A job of a lower queue kept the room until another of a higher one had waited as long: nothing but time passes."""
    world = World(environment(4), queues=(queue(), queue("high", 5)))
    world.submit(job("long", vcpus=2), job("wide", vcpus=4))
    world.tell(Tick(), at=32_000)
    world.submit(job("urgent", vcpus=2, queue="high"), run="two")
    assert world.launched() == ["long:0#1"]
    assert world.machine.next_deadline() == 62_000
    world.tell(Tick(), at=62_000)
    assert world.launched() == ["urgent:0#1"]


def test_what_its_own_max_running_holds_back_does_not_wait_for_room() -> None:
    """Nor does its clock towards a reservation run on because another task of its job was placed later in the same pass."""
    world = World(environment(1), queues=(queue(), queue("high", 5)))
    grow = RetryPolicy(2, 0, 0, (Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0),))
    world.submit(job("a", size=2, max_running=1, memory_mib=512, retry=grow))
    world.submit(job("first", queue="high"), run="two")
    world.end("a:0", evidence=Evidence(137, oom=True))
    assert world.launched() == ["a:0#1", "first:0#1"]
    groups = world.state.queues["default"].groups.values()
    assert {group.key.shape.memory_mib: group.blocked_since for group in groups} == {512: world.now, 1024: world.now}
    world.end("first")
    assert world.launched() == ["a:0#2"]
    assert [group.blocked_since for group in groups if group.key.shape.memory_mib == 512] == [None]


def test_who_is_held_back_by_its_max_running_keeps_nothing_from_those_that_were_refused_before() -> None:
    """Another task of its job took that place in the same pass, after it had been refused."""
    places = (environment(8, 2048, "big"), environment(8, 1024, "small"))
    world = World(*places, queues=(queue("default", 1, "small", "big"), queue("side", 1, "big")))
    grow = RetryPolicy(2, 0, 0, (Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0),))
    world.submit(job("hog", memory_mib=200, queue="side"), job("a", size=3, max_running=1, memory_mib=1024, retry=grow))
    world.end("a:0", evidence=Evidence(137, oom=True))
    assert world.launched() == ["hog:0#1", "a:0#1", "a:1#1"]
    late = SubmitRun(2, plan(job("b", memory_mib=1024), run="two"))
    world.tell(Exited(parse("a:1"), world.now, DONE, world.now), late, at=LATER)
    assert world.launched() == ["a:2#1", "b:0#1"]


def test_one_that_waits_alone_sets_no_timer() -> None:
    world = World(environment(1))
    world.submit(job("a", size=100))
    assert world.machine.next_deadline() is None


def test_children_that_become_ready_one_by_one_are_one_range() -> None:
    """However many follow theirs in one turn, or wait beside a full environment, the scheduler looks at one entry."""
    world = World(environment(vcpus=4))
    world.submit(job("x", size=8), job("j", size=8, needs=[need("x", each=True)], vcpus=2))
    world.end("x:0", "x:1", "x:2")
    world.end("x:3")
    world.end("x:7")
    waiting = world.state.queues["default"].groups
    (ours,) = (group for key, group in waiting.items() if key.shape == Resources(2000))
    assert sorted((entry.lo, entry.hi) for entry in ours.entries()) == [(0, 3), (3, 4), (7, 8)]
    world.launched()
    world.end("x:4", "x:5", "x:6")
    assert world.launched() == ["j:0#1", "j:1#1"]
