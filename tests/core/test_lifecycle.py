"""Attempts begin, end, and are tried again."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.model.ending import Evidence
from flowbatch.model.ids import ALONE
from flowbatch.model.jobspec import Action, RetryPolicy, Rule
from flowbatch.model.rows import ImageRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Census, Exited, LaunchFailed, Observation, Started, Tick
from tests.core.builders import World, environment, gang, job, need, parse


def test_a_single_walks_through_its_statuses() -> None:
    world = World()
    out = world.submit(job("a"))
    assert world.launched() == ["a:0#1"]
    assert out.writes.tasks[1, 0].status is Status.STARTING
    out = world.start("a")
    assert out.writes.jobs[1].status is Status.RUNNING
    out = world.end("a")
    assert out.writes.jobs[1].status is Status.SUCCEEDED
    assert out.writes.jobs[1].status_reason == "Essential container in task exited"
    assert out.writes.runs[1].status is RunStatus.SUCCEEDED
    assert not world.state.runs


def test_an_end_without_a_seen_start_is_running_first() -> None:
    world = World()
    world.submit(job("a"))
    out = world.end("a")
    told = [event.status for event in out.writes.events if event.kind == 2]
    assert told == [Status.RUNNING, Status.SUCCEEDED]


def test_an_array_is_one_row_until_its_children_depart() -> None:
    world = World(environment(vcpus=2))
    out = world.submit(job("a", size=10_000))
    assert len(out.writes.tasks) == 2
    assert world.job("a").status is Status.PENDING
    assert world.launched() == ["a:0#1", "a:1#1"]


def test_a_failed_attempt_is_retried_at_the_front() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", size=3, attempts=2))
    world.end("a:0", code=3)
    assert world.launched() == ["a:0#1", "a:0#2"]
    out = world.end("a:0#2", code=4)
    assert out.writes.tasks[1, 0].exit_code == 4
    assert world.launched() == ["a:1#1"]
    world.end("a:1")
    out = world.end("a:2")
    assert out.writes.jobs[1].status_reason == "Array Child Job failed"


def test_backoff_waits_as_runnable_outside_the_queue() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", retry=RetryPolicy(3, 10_000, 20_000)), job("b"))
    world.end("a", code=1)
    assert world.launched() == ["a:0#1", "b:0#1"]
    assert world.machine.next_deadline() == 11_000
    world.end("b")
    world.tell(Tick(), at=11_000)
    assert world.launched() == ["a:0#2"]


def test_memory_grows_by_rule_and_stays_within_the_largest_environment() -> None:
    world = World(environment(memory_mib=3000))
    rules = (Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0),)
    world.submit(job("a", memory_mib=1024, retry=RetryPolicy(5, rules=rules)))
    for attempt, memory in ((1, 1024), (2, 2048), (3, 3000), (4, 3000)):
        live = next(iter(world.state.live.values()))
        assert (live.key.attempt, live.resources.memory_mib) == (attempt, memory)
        world.end(f"a#{attempt}", evidence=Evidence(137, oom=True))


def test_a_timeout_stops_and_is_never_retried() -> None:
    world = World()
    world.submit(job("a", attempts=3, timeout_ms=5_000))
    world.start("a")
    world.tell(Tick(), at=6_000)
    assert world.stops() == ["a:0#1 TIMEOUT"]
    out = world.end("a", code=143)
    assert out.writes.jobs[1].status_reason == "Job attempt duration exceeded timeout"


def test_stale_news_is_dropped() -> None:
    world = World()
    world.submit(job("a", attempts=2), job("b", needs=["a"]))
    world.end("a", code=1)
    out = world.end("a", code=0)
    assert not out.writes
    assert world.statuses("a") == "s"


def test_a_lost_attempt_has_no_exit_code() -> None:
    world = World()
    world.submit(job("a"))
    world.start("a")
    out = world.end("a", evidence=Evidence(lost=True))
    row = out.writes.tasks[1, 0]
    assert (row.exit_code, row.status_reason) == (None, "Host EC2 (flowbatch) terminated.")


def test_what_ran_with_something_else_than_was_judged_is_in_the_audit_log() -> None:
    """Once, with the turn that ends it; a launch that merely failed is not."""
    world = World()
    world.submit(job("a"), job("b"))
    assert world.refuse("b").writes.audit == []
    breach = LaunchFailed(parse("a"), world.now, Evidence(start_error="/lab was swapped", breach=True))
    out = world.tell(breach)
    [row] = out.writes.audit
    assert (row.action, row.resource, row.allowed) == ("flowbatch:Launch", f"job/{breach.key.job}", False)
    assert (row.request_id, row.error) == (breach.key.id, "/lab was swapped")
    assert out.writes.tasks[1, 0].status is Status.FAILED
    assert world.tell(breach).writes.audit == []


def test_free_losses_do_not_count() -> None:
    world = World()
    world.submit(job("a", retry=RetryPolicy(1, lost_free=1)))
    world.end("a", evidence=Evidence(lost=True))
    assert world.launched() == ["a:0#1", "a:0#2"]
    world.end("a#2", evidence=Evidence(lost=True))
    assert world.launched() == []


def test_needs_are_met_in_order() -> None:
    world = World()
    world.submit(job("b", size=3, needs=["a"]), job("a"), job("c", size=3, needs=[need("b", each=True)]))
    assert world.launched() == ["a:0#1"]
    world.end("a")
    assert world.launched() == ["b:0#1", "b:1#1", "b:2#1"]
    world.end("b:1")
    assert world.launched() == ["c:1#1"]
    assert world.statuses("c") == "PsP"


def test_the_image_of_an_attempt_is_told_once() -> None:
    """With its start, or with an end whose start was never seen; never again, however often a census repeats it."""
    world = World()
    world.submit(job("a", attempts=2), job("b"))
    fact = Started(parse("a"), world.now, image="x@sha256:1")
    assert world.tell(fact).writes.images == [ImageRow(1, 0, 1, ALONE, "x@sha256:1")]
    assert world.tell(fact).writes.images == []
    assert world.tell(Exited(parse("a"), world.now, Evidence(1), world.now, "x@sha256:1")).writes.images == []
    again = Exited(parse("a:0#2"), world.now, Evidence(0), world.now, "x@sha256:2")
    assert world.tell(again).writes.images == [ImageRow(1, 0, 2, ALONE, "x@sha256:2")]
    seen = Observation(parse("b"), world.now, image="y@sha256:3")
    census = Census("fake", world.state.turn, (seen,))
    assert world.tell(census).writes.images == [ImageRow(2, 0, 1, ALONE, "y@sha256:3")]
    assert world.tell(replace(census, asked=world.state.turn)).writes.images == []


def test_each_member_has_its_own_image() -> None:
    world = World()
    world.submit(gang(2))
    told = [ImageRow(1, 0, 1, member, f"x@sha256:{member}") for member in (0, 1)]
    for row in told:
        fact = Started(parse(f"g@{row.member}"), world.now, image=row.image)
        assert world.tell(fact).writes.images == [row]
        assert world.tell(fact).writes.images == []
