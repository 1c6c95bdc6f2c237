"""Blocked jobs: AWS's words for it (aws-batch.md §9.6), time limits (§9.5), and submissions that are refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.timers import TimerKind
from flowbatch.model.events import EventKind
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, JobPlan, Queue
from flowbatch.model.queues import TimeLimit
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Cancel, Configure, Drain, Retry, SubmitRun, Target, Terminate, Tick
from tests.core.builders import World, environment, job, plan, queue

MAX_CPU = (
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU requirement "
    "of the job."
)
REQUIREMENT = (
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - The job resource requirement (vCPU/memory/GPU) is higher than that can be met "
    "by the CE(s) attached to the job queue."
)
CAPACITY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested for instance type [flowbatch.local]"
NONE = Environment("default", "fake", Resources())
LIMIT = TimeLimit("MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE", 600_000)
CANCELED = "Canceled by JobStateTimeLimit action due to reason: MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE"


@pytest.mark.parametrize(
    ("need", "place", "queue_", "reason"),
    [
        (Resources(5000), environment(4), queue(), MAX_CPU),
        (Resources(5000, 1 << 20), environment(4), queue(), MAX_CPU),
        (Resources(1000, 1 << 20), environment(4), queue(), REQUIREMENT),
        (Resources(1000, 0, 1), environment(4), queue(), REQUIREMENT),
        (Resources(1000), environment(4, backend="docker"), queue(),
         "UNDETERMINED - Batch job is blocked, root cause is undetermined."),
        (Resources(1000), environment(4), queue("default", 1, "gone"),
         "ACTION_REQUIRED - CE(s) associated with the job queue are invalid."),
        (Resources(1000), NONE, queue(), CAPACITY),
        (Resources(1000), replace(environment(4), enabled=False), queue(), None),  # DISABLED is no reason
        (Resources(4000), environment(4), queue(), None),
    ],
)  # fmt: skip
def test_the_reason_is_on_the_job_at_once(
    need: Resources, place: Environment, queue_: Queue, reason: str | None
) -> None:
    world = World(place, queues=(queue_,))
    ready = job("a")
    world.submit(JobPlan(ready.id, replace(ready.spec, resources=need)))
    assert world.job("a").status_reason == reason
    assert world.outcome.writes.jobs[1].status_reason == reason


def test_a_machine_that_is_only_busy_is_no_reason() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a"), job("b"))
    assert world.statuses("b") == "R"
    assert world.job("b").status_reason is None


def test_of_an_array_the_parent_says_it_and_no_child_is_written() -> None:
    world = World(environment(vcpus=1))
    outcome = world.submit(job("a", size=10_000, vcpus=2))
    assert world.job("a").status_reason == MAX_CPU
    assert not outcome.writes.tasks


def test_it_comes_and_goes_with_the_places() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("first", vcpus=4), job("a", vcpus=3))
    assert world.job("a").status_reason is None
    world.tell(Configure((environment(vcpus=4), environment(vcpus=2, name="small")), (queue("default", 1, "small"),)))
    assert world.job("a").status_reason == MAX_CPU
    world.tell(Configure((environment(vcpus=4),), (queue(),)))
    assert world.job("a").status_reason is None
    world.end("first")
    assert world.launched()[-1] == "a:0#1"


def test_each_time_it_is_an_event_after_those_of_the_job() -> None:
    world = World(environment(vcpus=4))
    narrow = Configure((environment(vcpus=4), environment(vcpus=2, name="small")), (queue("default", 1, "small"),))
    wide = Configure((environment(vcpus=4),), (queue(),))

    def told() -> list[tuple[EventKind, str | None]]:
        return [(event.kind, event.status_reason) for event in world.outcome.writes.events]

    world.submit(job("first", vcpus=4), job("a", vcpus=3))
    for _ in range(2):
        world.tell(narrow)
        assert told() == [(EventKind.QUEUE, MAX_CPU)]
        world.tell(narrow)
        assert told() == []
        world.tell(wide)
        assert told() == []


def queue_events(world: World) -> list[int | None]:
    """The jobs of which it is told in the last turn."""
    return [event.job for event in world.outcome.writes.events if event.kind is EventKind.QUEUE]


def test_only_the_head_of_a_queue_is_told_of() -> None:
    """aws-batch.md §11.2. What stands behind it says why on itself, and has its event when its turn comes."""
    world = World(environment(vcpus=1), environment(vcpus=1, name="b"), queues=(queue(), queue("other", 1, "b")))
    world.submit(job("big", vcpus=2, size=3), job("big2", vcpus=2), job("other", vcpus=2, queue="other"), job("fits"))
    big, big2 = world.job("big").no, world.job("big2").no
    assert queue_events(world) == [big, world.job("other").no], "each queue has a head"
    assert world.job("big2").status_reason == MAX_CPU
    world.end("fits")
    assert queue_events(world) == []
    world.tell(Cancel(1, Target(RunId("run"), JobId("big")), "no"))
    assert queue_events(world) == [big2]


def test_what_stands_before_it_for_a_while_is_not_told_twice() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("big", vcpus=2))
    world.submit(job("a", priority=5), job("b", priority=5), run="2")
    assert world.statuses("b") == "R"
    world.end("a")
    world.end("b")
    assert queue_events(world) == []
    assert [world.state.queues["default"].stuck is not None, world.job("big").told] == [True, MAX_CPU]


def test_what_could_run_while_nothing_was_placed_is_not_taken_for_blocked_ever_since() -> None:
    """An engine that drains places nothing; the next life finds in the store whether it stood blocked at the head all the time."""
    world = World(environment(vcpus=1))
    world.submit(job("big", vcpus=2))
    assert world.outcome.writes.heads["default"] is not None
    world.tell(Drain())
    world.tell(Configure((environment(vcpus=2),), (queue(),)))
    assert world.job("big").status_reason is None
    assert world.outcome.writes.heads == {"default": None}


def test_it_is_told_again_of_a_job_that_is_retried() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("big", vcpus=2))
    world.tell(Terminate(1, Target(RunId("run")), "enough"), Retry(2, Target(RunId("run"))))
    assert queue_events(world) == [world.job("big").no]


def test_it_says_more_than_how_the_last_attempt_ended() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("a", vcpus=3, attempts=2))
    world.tell(Configure((environment(vcpus=4), environment(vcpus=2, name="small")), (queue("default", 1, "small"),)))
    world.end("a", code=1)
    assert world.job("a").status_reason == MAX_CPU


def test_a_run_that_must_fit_is_refused() -> None:
    world = World(
        environment(vcpus=4), environment(vcpus=2, name="small"), queues=(queue("default", 1, "default", "small"),)
    )
    world.tell(SubmitRun(1, plan(job("ok"), job("big", vcpus=5)), must_fit=True))
    assert not world.state.jobs
    (answer,) = world.answers()
    assert answer.error == (
        "job big needs 5 vCPU, which no environment of queue default has: default has 4 vCPU, 4 GiB, small has 2 vCPU, 4 GiB"
    )


def test_a_disabled_queue_takes_no_jobs_and_those_it_has_go_on() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a"), job("b"))
    world.tell(Configure((environment(vcpus=1),), (replace(queue(), enabled=False),)))
    world.submit(job("c"), run="two")
    assert world.answers()[-1].error == (
        "queue default is DISABLED: it takes no jobs until it is ENABLED again; job c was for it"
    )
    world.end("a")
    assert world.launched() == ["a:0#1", "b:0#1"]


def test_a_blocked_job_at_the_head_is_cancelled_after_its_limit() -> None:
    world = World(environment(vcpus=2), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("big", vcpus=9, size=3), job("big2", vcpus=9), job("a", size=5))
    assert world.statuses("a") == "ssRRR"
    world.tell(Tick(), at=1_000 + 599_999)
    assert world.statuses("big") == "RRR"
    assert world.machine.next_deadline() == 601_000
    world.tell(Tick(), at=601_000)
    assert (world.statuses("big"), world.statuses("big2")) == ("---", "R")
    assert world.job("big").rest_reason == CANCELED
    world.tell(Tick(), at=601_000 + 600_000)  # now it stands at the head
    assert world.statuses("big2") == "-"
    assert world.job("big2").status_reason == CANCELED
    assert world.machine.next_deadline() is None


def test_what_is_not_at_the_head_has_no_clock() -> None:
    """It is `priority` that puts the other before it; in a FIFO queue nothing placed stands there for long."""
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("a", size=5, priority=5), job("big", vcpus=9))
    world.tell(Tick(), at=5_000_000)
    assert world.statuses("big") == "R"
    assert world.machine.next_deadline() is None


def test_other_reasons_than_that_of_the_limit_are_left_alone() -> None:
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("fat", memory_mib=1 << 20))
    world.tell(Tick(), at=5_000_000)
    assert world.statuses("fat") == "R"


def test_the_limit_comes_though_another_is_just_passing_by() -> None:
    """At that very moment a child that max_running had held back stands at the head, to be placed in this turn."""
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("a", size=5, priority=5, max_running=1), job("big", vcpus=9))
    assert world.timer(TimerKind.LIMIT) == 601_000
    world.now = type(world.now)(601_000)
    world.end("a:0")
    assert world.statuses("big") == "-"


def test_a_clock_that_is_set_back_prolongs_no_limit_by_more_than_itself() -> None:
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.now = Millis(50_000_000)
    world.submit(job("big", vcpus=9), job("big2", vcpus=9))
    world.now = Millis(10_000)
    world.submit(job("a"), run="2")  # what places something looks at the head, too
    assert world.timer(TimerKind.LIMIT) == 610_000
    assert queue_events(world) == []
    world.tell(Tick(), at=610_000)
    assert world.statuses("big") == "-"


def test_what_has_just_become_able_to_run_is_not_cancelled() -> None:
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("big", vcpus=9))
    world.tell(Configure((environment(vcpus=9),), (queue(limits=(LIMIT,)),)), at=601_000)
    assert world.statuses("big") == "s"


def test_a_retry_begins_the_limit_anew() -> None:
    world = World(environment(vcpus=1), queues=(queue(limits=(LIMIT,)),))
    world.submit(job("big", vcpus=9))
    world.tell(Terminate(1, Target(RunId("run")), "enough"), Retry(2, Target(RunId("run"))), at=500_000)
    world.tell(Tick(), at=601_000)
    assert world.statuses("big") == "R"
    world.tell(Tick(), at=1_100_000)
    assert not world.state.runs
