"""The front of a queue, in the order in which it is then served."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flowbatch.core.snapshot import FRONT_MAX, front, overview, snapshot
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import JobPlan
from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.model.stimuli import Exited
from tests.core.builders import World, environment, job, parse, queue


def names(world: World, name: str = "default") -> list[str]:
    found = snapshot(world.state, world.state.queues[name], world.now)
    return [each["job"] for each in found["front"]]


def test_the_front_of_a_fifo_queue() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", size=3, attempts=2), job("b", vcpus=0.5), job("c", priority=9), job("d", priority=4))
    assert world.launched() == ["c:0#1"]
    assert names(world) == ["d", "a:0", "a:1", "a:2", "b"]
    world.end("c")
    world.end("d")
    world.end("a:0", code=1)
    assert world.launched() == ["d:0#1", "a:0#1", "a:0#2"]
    assert names(world) == ["a:1", "a:2", "b"]


def test_the_front_of_a_fair_share_queue_takes_turns() -> None:
    world = World(environment(vcpus=1), queues=(queue(policy=FairShare(weights=(("b", 5_000),))),))
    world.submit(job("first", share="c"), job("a", size=3, share="a"), job("b", size=4, share="b", priority=3))
    assert names(world) == ["a:0", "b:0", "b:1", "a:1", "b:2", "b:3", "a:2"]


def test_it_has_a_hundred_jobs_at_most_and_its_figures() -> None:
    limit = TimeLimit("CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", 600_000)
    world = World(environment(vcpus=2), queues=(queue(policy=FairShare(3_600_000, 10), limits=(limit,)),))
    world.submit(job("a", size=500, share="ann"), job("big", vcpus=9, share="bob"))
    found = snapshot(world.state, world.state.queues["default"], Millis(world.now + 60_000))
    assert len(found["front"]) == FRONT_MAX
    assert (found["runnable"], found["running"], found["utilization"]["vcpus"]) == (500, 1, 1.0)
    assert found["policy"] == {"share_decay_ms": 3_600_000, "compute_reservation": 10, "shares": {}}
    assert found["limits"] == [{"reason": "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY", "max_time_ms": 600_000}]
    assert [each["name"] for each in found["blocked"]] == ["big"]
    ann, bob = found["utilization"]["shares"]
    assert (ann["share"], ann["vcpus"], ann["jobs"], round(ann["used_vcpu_s"])) == ("ann", 1.0, 1, 58)
    assert (bob["share"], bob["vcpus"], bob["used_vcpu_s"], bob["rank"]) == ("bob", 0.0, 0.0, 0.0)
    (line,) = overview(world.state)
    assert (line["queue"], line["state"], line["runnable"], line["running"]) == ("default", "ENABLED", 500, 1)


def test_what_a_placement_moves_up_says_since_when() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a"), job("b"), job("c"))
    since = [each["earliest_at"] for each in snapshot(world.state, world.state.queues["default"], world.now)["front"]]
    assert since == [1_000, 1_000]
    world.tell(Exited(parse("a"), world.now, Evidence(0), world.now), at=9_000)
    (last,) = snapshot(world.state, world.state.queues["default"], world.now)["front"]
    assert (last["name"], last["earliest_at"]) == ("c", 9_000)


shares = st.sampled_from((None, "a", "b", "c"))
some = st.lists(st.tuples(shares, st.integers(1, 5), st.sampled_from((0, 0, 3))), min_size=1, max_size=9)


@given(some, st.booleans(), st.randoms(use_true_random=False))
def test_it_is_the_order_in_which_they_are_served(
    wanted: list[tuple[str | None, int, int]], fair: bool, dice: random.Random
) -> None:
    """One slot, and tasks that take no time: nothing but the queue decides."""
    world = World(environment(vcpus=1), queues=(queue(policy=FairShare(weights=(("a", 3_000),)) if fair else None),))
    jobs: list[JobPlan] = []
    for number, (share, size, priority) in enumerate(wanted):
        jobs.append(job(f"j{number}", size=size, priority=priority, share=(share or "z") if fair else None))
    world.submit(*jobs)
    expected = [f"{each.id}:{index}#1" for each, index in front(world.state.queues["default"])]
    served = world.launched()
    if fair:  # the first holds its slot for as long as nothing ends: the order is told for more slots at once
        world.machine.state.environments["default"].spec = environment(vcpus=999)
        world.machine.state.places_changed()
        world.tell()
        assert world.launched() == expected
        return
    while world.state.live:
        world.end(served[-1])
        served += world.launched()
    assert served[1:] == expected
