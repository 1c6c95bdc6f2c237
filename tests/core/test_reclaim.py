"""Spot: it runs on what on-demand environments leave, and gives it back, newest first."""

from __future__ import annotations

import re

import pytest

from flowbatch.core.scheduler import RESERVE_AFTER_MS, content_with_spot, reservations
from flowbatch.model.effects import Stop
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Action, Environment, Queue, RetryPolicy, Rule
from flowbatch.model.places import SPOT_NOTICE_MS
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Configure, Interrupt, Target, Terminate
from tests.core.builders import World, environment, gang, job, queue

BIG = environment(4, name="big")
SPOT = Environment("spot", "fake", Resources(4000, 4096), spot=True, notice_ms=SPOT_NOTICE_MS)
QUEUES = (queue("work", 1, "big"), queue("spare", 9, "spot"))
AGAIN = RetryPolicy(3, rules=(Rule(Action.RETRY, status_reason="Host EC2*"), Rule(Action.EXIT, reason="*")))


def host(*queues: Queue, vcpus: int = 4) -> World:
    world = World(BIG, SPOT, queues=queues or QUEUES)
    world.tell(Configure((BIG, SPOT), queues or QUEUES, host=Resources(vcpus * 1000, 8192), host_fixed=True))
    return world


def test_spot_has_what_is_left_whatever_its_queue() -> None:
    world = host()
    world.submit(job("cheap", size=9, queue="spare"), job("paid", size=3, queue="work"))
    assert world.launched() == ["paid:0#1", "paid:1#1", "paid:2#1", "cheap:0#1"]


def test_the_newest_is_given_back_with_a_notice() -> None:
    world = host()
    world.submit(job("cheap", size=9, queue="spare", retry=AGAIN))
    for index in range(4):
        world.now = Millis(world.now + 1)
        world.start(f"cheap:{index}")
    world.launched()
    world.submit(job("paid", vcpus=2, queue="work"), run="two")
    stops = [effect for effect in world.effects if isinstance(effect, Stop)]
    assert [(stop.key.idx, stop.grace_ms, stop.why) for stop in stops] == [
        (3, SPOT_NOTICE_MS, Halt.RECLAIM), (2, SPOT_NOTICE_MS, Halt.RECLAIM),
    ]  # fmt: skip
    world.end("cheap:3", code=143)
    assert world.launched() == []
    world.end("cheap:2", code=143)
    assert world.launched() == ["paid:0#1"]
    assert world.statuses("cheap") == "rrRRRRRRR"
    world.end("paid")
    assert world.launched() == ["cheap:2#2", "cheap:3#2"], "what was taken back comes first again"


def test_the_end_reads_as_aws_has_it_and_the_retry_strategy_decides() -> None:
    world = host()
    once = RetryPolicy(3, rules=(Rule(Action.EXIT, status_reason="Host EC2*"),))
    world.submit(job("cheap", vcpus=4, queue="spare", retry=once))
    world.start("cheap")
    world.submit(job("paid", queue="work"), run="two")
    world.end("cheap", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert re.fullmatch(r"Host EC2 \(instance i-[0-9a-f]{17}\) terminated\.", row.status_reason or "")
    assert (row.status, row.exit_code, row.reason) == (Status.FAILED, None, None)


def test_what_ends_well_within_the_notice_has_succeeded() -> None:
    world = host()
    world.submit(job("cheap", vcpus=4, queue="spare"))
    world.start("cheap")
    world.submit(job("paid", queue="work"), run="two")
    assert world.stops() == ["cheap:0#1 RECLAIM"]
    world.end("cheap", code=0)
    assert world.outcome.writes.tasks[1, 0].status is Status.SUCCEEDED


def test_no_more_is_taken_than_is_needed_and_nothing_twice() -> None:
    world = host()
    world.submit(job("cheap", size=4, queue="spare"))
    world.start(*(f"cheap:{index}" for index in range(4)))
    world.submit(job("paid", queue="work"), run="two")
    assert len(world.stops()) == 1
    world.submit(job("more", queue="work"), run="three")
    assert len(world.stops()) == 1, "one is ending already, and is spoken for"


def test_what_cannot_be_met_takes_nothing() -> None:
    world = host()
    world.submit(job("paid", vcpus=3, queue="work"), job("cheap", queue="spare"))
    world.submit(job("large", vcpus=4, queue="work"), run="two")
    assert world.stops() == []


def test_a_queue_takes_nothing_back_from_itself() -> None:
    both = queue("both", 1, "big", "spot")
    world = host(both, queue("other", 9, "spot"))
    small = environment(1, name="big")
    world.tell(Configure((small, SPOT), (both, queue("other", 9, "spot")), host=Resources(4000, 8192), host_fixed=True))
    world.submit(job("a", size=9, queue="both"))
    assert [live.environment.name for live in world.state.live.values()] == ["big", "spot", "spot", "spot"]
    world.end("a:0")
    assert world.stops() == []
    assert [live.environment.name for live in world.state.live.values()] == ["spot", "spot", "spot", "big"]


def test_a_queue_that_asks_for_spot_first_is_content_with_it() -> None:
    world = host(queue("both", 1, "spot", "big"), queue("spare", 1, "spot"))
    world.submit(job("cheap", size=4, queue="spare"))
    world.submit(job("a", size=2, queue="both"), run="two")
    assert world.stops() == []
    world.end("cheap:0")
    assert list(world.state.live.values())[-1].environment.name == "spot"


def test_a_terminate_is_stronger_than_a_notice_and_so_is_ctrl_c() -> None:
    world = host()
    world.submit(job("cheap", size=2, vcpus=2, queue="spare"))
    world.start("cheap:0", "cheap:1")
    world.submit(job("paid", vcpus=4, queue="work"), run="two")
    assert world.stops() == ["cheap:1#1 RECLAIM", "cheap:0#1 RECLAIM"]
    world.tell(Terminate(1, Target(job=world.job("cheap").id, indices=((0, 0),)), "enough"))
    assert world.stops() == ["cheap:0#1 TERMINATE"]
    world.tell(Interrupt())
    assert set(world.stops()) == {"cheap:0#1 TERMINATE", "cheap:1#1 INTERRUPT"}
    world.end("cheap:1", code=143)
    assert world.statuses("cheap") == "rR"


@pytest.mark.parametrize("evidence", [Evidence(), Evidence(143), Evidence(137)])
def test_a_start_that_was_taken_back_is_an_attempt_too(evidence: Evidence) -> None:
    world = host()
    world.submit(job("cheap", vcpus=4, queue="spare", attempts=2))
    world.submit(job("paid", queue="work"), run="two")
    world.end("cheap", evidence=evidence)
    assert world.launched() == ["cheap:0#1", "paid:0#1"]
    assert world.statuses("cheap") == "R"
    assert world.job("cheap").attempts[0] == 1


def test_a_multi_node_job_does_not_stand_before_what_spot_can_run() -> None:
    """Both need as much; the one may not run on Spot at all (aws-batch.md §8.1)."""
    world = host()
    world.submit(gang(2, key="gang", queue="spare"), job("cheap", vcpus=2, queue="spare"))
    assert world.launched() == ["cheap:0#1"]
    assert world.statuses("gang") == "R"


def test_the_reservations_that_stay_once_spot_has_served_its_own() -> None:
    """What they claim is left alone while Spot places: else it would give back in a turn what it has just got."""
    world = host(queue("work", 1, "big"), queue("spare", 9, "spot", "big"))
    world.submit(job("paid", vcpus=4, queue="work"), job("cheap", vcpus=2, queue="spare"), job("next", queue="work"))
    now = Millis(world.now + RESERVE_AFTER_MS)
    holders = reservations(world.state, now)
    assert holders["(host)"].key.shape == Resources(2000)
    staying = reservations(world.state, now, unless=content_with_spot)
    assert {name: group.key.shape for name, group in staying.items()} == {
        "big": Resources(1000),
        "(host)": Resources(1000),
    }
