"""Cancel, terminate, interrupt, deadline, finally: aws-batch.md §1.1 and §2, semantics.md 6–10."""

from __future__ import annotations

import pytest

from flowbatch.core.commands import DEADLINE, FINALLY_TOO_LONG
from flowbatch.core.runs import FINALLY_LIMIT_MS
from flowbatch.model.effects import Launch
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import RetryPolicy, Stage, When
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Cancel, Exited, Interrupt, Resume, Retry, Target, Terminate, Tick
from tests.core.builders import World, environment, job, need, parse

RUN, HOLD = Target(RunId("run")), job("hold", timeout_ms=9**9)
LAST = Stage.FINALLY


def at(status: Status) -> World:
    """A world whose single `a` is in that status, and whose run stays open."""
    world = World(environment(vcpus=2))
    plans = [HOLD, job("a", attempts=3)]
    if status is Status.PENDING:
        plans = [HOLD, job("first"), job("a", attempts=3, needs=["first"])]
    if status is Status.RUNNABLE:
        plans = [HOLD, job("first"), job("a", attempts=3)]
    world.submit(*plans)
    if status is Status.RUNNING:
        world.start("a")
    if status is Status.SUCCEEDED:
        world.end("a")
    if status is Status.FAILED:
        for attempt in (1, 2, 3):
            world.end(f"a#{attempt}", code=1)
    assert world.job("a").status is status
    world.launched()
    return world


def changed(world: World) -> object:
    """How many tasks the last command reached."""
    value = world.answers()[-1].value
    assert isinstance(value, dict)
    return value["changed"]


@pytest.mark.parametrize("status", list(Status)[1:])
@pytest.mark.parametrize("verb", [Cancel, Terminate])
@pytest.mark.parametrize("target", ["job", "run"])
def test_every_cell_for_a_single(status: Status, verb: type[Cancel | Terminate], target: str) -> None:
    world = at(status)
    out = world.tell(verb(5, RUN if target == "run" else Target(job=JobId("a")), "enough"))
    job = world.job("a")
    if status.waiting:
        assert (job.status, job.status_reason) == (Status.FAILED, "enough")
        assert job.started_at is None
        assert out.writes.jobs[job.no].stopped_at == world.now
    else:
        assert (
            job.status is status
        )  # terminal: unchanged, and no error; live: it ends by itself, or once it has stopped
    stopped = [name for name in world.stops() if name.startswith("a:")]
    assert stopped == (["a:0#1 TERMINATE"] if status.live and verb is Terminate else [])
    assert all(answer.error is None for answer in world.answers())
    assert (job.cancelled, job.terminated) == (
        (False, False) if status.terminal else (verb is Cancel, verb is Terminate)
    )


@pytest.mark.parametrize(("verb", "reason"), [(Cancel, "Essential container in task exited"), (Terminate, "enough")])
def test_what_ran_ends_by_itself_or_with_the_reason_and_is_not_retried(
    verb: type[Cancel | Terminate], reason: str
) -> None:
    world = at(Status.RUNNING)
    world.tell(verb(5, Target(job=JobId("a")), "enough"))
    world.end("a", code=143)
    assert (world.job("a").status, world.job("a").status_reason) == (Status.FAILED, reason)
    assert world.launched() == []


def test_a_cancelled_job_may_still_succeed_and_a_terminated_one_may_not() -> None:
    for verb, status in ((Cancel, Status.SUCCEEDED), (Terminate, Status.FAILED)):
        world = at(Status.RUNNING)
        world.tell(verb(5, Target(job=JobId("a")), "enough"))
        world.end("a", code=0)
        assert world.job("a").status is status


def test_terminate_twice_keeps_the_first_reason() -> None:
    world = at(Status.RUNNING)
    world.tell(Terminate(5, Target(job=JobId("a")), "first"))
    world.tell(Terminate(6, Target(job=JobId("a")), "second"))
    assert world.stops() == ["a:0#1 TERMINATE", "a:0#1 TERMINATE"]
    world.end("a", code=143)
    assert world.job("a").status_reason == "first"


def test_a_parent_waits_for_the_children_that_run() -> None:
    world = World(environment(vcpus=2))
    world.submit(job("a", size=5), HOLD)
    out = world.tell(Cancel(5, Target(job=JobId("a")), "enough"))
    assert world.statuses("a") == "ss---"
    assert list(out.writes.tasks) == []  # resting children end as one
    assert world.job("a").status is Status.PENDING
    assert changed(world) == 3
    world.end("a:0", "a:1")
    assert world.job("a").status is Status.FAILED


def test_children_and_ranges_of_them() -> None:
    world = World(environment(vcpus=3))
    world.submit(job("a", size=8), HOLD)
    world.tell(Terminate(5, Target(job=JobId("a"), indices=((1, 3), (6, 99))), "enough"))
    assert world.statuses("a") == "sss-RR--"
    assert world.stops() == ["a:1#1 TERMINATE", "a:2#1 TERMINATE"]
    assert changed(world) == 5
    world.end("a:1", "a:2", code=143)
    assert world.statuses("a") == "s---ss--"


def test_a_cancelled_run_fires_nothing_but_finally() -> None:
    world = World(environment(vcpus=9))
    sorry = job("sorry", needs=[need("b", When.FAILURE)])
    world.submit(job("a"), job("b", needs=["a"]), sorry, job("z", stage=LAST))
    world.launched()
    world.tell(Cancel(5, RUN, "enough"))
    assert [world.statuses(name) for name in ("a", "b", "sorry", "z")] == ["s", "-", "-", "P"]
    world.end("a")
    assert world.launched() == ["z:0#1"]
    out = world.end("z")
    assert (out.writes.runs[1].status, out.writes.runs[1].status_reason) == (RunStatus.FAILED, "enough")


def test_a_second_terminate_stops_finally() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("a"), job("z", stage=LAST))
    world.tell(Terminate(5, RUN, "enough"))
    world.end("a", code=143)
    world.stops()
    world.tell(Terminate(6, RUN, "really"))
    assert world.stops() == ["z:0#1 TERMINATE"]
    world.end("z", code=143)
    assert not world.state.runs


def test_finally_knows_how_the_main_stage_ended_and_fails_the_run_when_it_fails() -> None:
    for code, status in ((0, "SUCCEEDED"), (1, "FAILED")):
        world = World()
        world.submit(job("a"), job("z", stage=LAST))
        world.end("a", code=code)
        launch = [effect for effect in world.effects if isinstance(effect, Launch)][-1]
        assert launch.run_status == status
        assert world.end("z", code=1).writes.runs[1].status is RunStatus.FAILED


def test_finally_has_thirty_minutes() -> None:
    world = World()
    world.submit(job("a"), job("z", stage=LAST))
    world.end("a")
    world.start("z")
    world.tell(Tick(), at=1_000 + FINALLY_LIMIT_MS - 1)
    assert world.stops() == []
    world.tell(Tick(), at=1_000 + FINALLY_LIMIT_MS)
    assert world.stops() == ["z:0#1 TERMINATE"]
    assert world.end("z", code=143).writes.jobs[2].status_reason == FINALLY_TOO_LONG


def test_at_its_deadline_what_waits_is_cancelled_and_what_runs_terminated_then_finally() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", attempts=3), job("b"), job("z", stage=LAST), deadline_ms=60_000)
    world.launched()
    assert world.machine.next_deadline() == 61_000
    world.tell(Tick(), at=61_000)
    assert (world.statuses("a"), world.statuses("b"), world.job("b").status_reason) == ("s", "-", DEADLINE)
    world.end("a", code=0)
    assert world.launched() == ["z:0#1"]
    world.end("z")
    assert not world.state.runs


def test_a_deadline_after_the_main_stage_means_nothing() -> None:
    world = World()
    world.submit(job("a"), job("z", stage=LAST), deadline_ms=60_000)
    world.end("a")
    world.tell(Tick(), at=61_000)
    assert world.stops() == []


def test_a_deadline_is_not_tolerated() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", size=10, tolerate=10), deadline_ms=60_000)
    world.tell(Tick(), at=61_000)
    assert world.end("a:0", code=143).writes.runs[1].status is RunStatus.FAILED


def test_an_interruption_is_not_a_failure_and_does_not_count() -> None:
    world = World(environment(vcpus=2))
    world.submit(job("a", size=2, retry=RetryPolicy(1)), job("z", stage=LAST))
    world.tell(Interrupt())
    assert world.stops() == ["a:0#1 INTERRUPT", "a:1#1 INTERRUPT"]
    out = world.end("a:0", code=143)
    world.end("a:1", code=0)  # it was done before it was stopped
    assert world.statuses("a") == "R+"
    row = out.writes.tasks[1, 0]
    assert (row.status, row.attempt, row.base) == (Status.RUNNABLE, 1, 1)
    assert world.job("z").status is Status.PENDING
    assert world.launched() == ["a:0#1", "a:1#1"]


def test_a_termination_is_stronger_than_an_interruption() -> None:
    world = at(Status.RUNNING)
    world.tell(Interrupt())
    out = world.tell(Terminate(5, Target(job=JobId("a")), "enough"))
    assert out.writes.tasks[2, 0].halt is Halt.TERMINATE
    world.end("a", code=143)
    assert world.job("a").status_reason == "enough"


def test_what_has_ended_or_was_never_here_is_no_error() -> None:
    world = at(Status.RUNNING)
    world.tell(Cancel(5, Target(RunId("gone")), "x"), Terminate(6, Target(job=JobId("gone")), "x"), Resume(7))
    assert [(answer.error, answer.value) for answer in world.answers()[-3:]] == [
        (None, {"changed": 0, "note": "run gone has ended, or was never here"}),
        (None, {"changed": 0, "note": "job gone has ended, or was never here"}),
        (None, []),
    ]


def test_an_ended_run_is_not_touched_by_a_command_of_the_same_turn() -> None:
    world = World()
    world.submit(job("a"))
    out = world.tell(Exited(parse("a"), world.now, Evidence(0), world.now), Cancel(5, RUN, "late"))
    assert (out.writes.runs[1].status, out.writes.runs[1].status_reason) == (RunStatus.SUCCEEDED, None)


def test_an_array_of_none_can_be_cancelled_while_it_waits() -> None:
    world = World()
    world.submit(HOLD, job("a", size=0, needs=["hold"]))
    world.tell(Cancel(5, Target(job=JobId("a")), "enough"))
    assert (world.job("a").status, world.job("a").status_reason) == (Status.FAILED, "enough")


@pytest.mark.parametrize("command", [Cancel, Terminate])
def test_failed_children_have_ended_and_the_others_are_not_meant(command: type[Cancel | Terminate]) -> None:
    world = World(environment(vcpus=2))
    world.submit(job("a", size=4))
    world.end("a:0", code=1)
    world.tell(command(7, Target(job=JobId("a"), failed=True), "why"))
    assert world.answers()[-1].value == {"changed": 0, "note": "what has FAILED has ended already"}
    assert world.statuses("a") == "-ssR"
    assert world.stops() == []


def a_child_cancelled_at_work(verdict: int | None, *, interrupted: bool = False) -> World:
    """Of three, child 1 is cancelled while it runs and child 2 before it has begun; then child 1 ends."""
    world = World(environment(vcpus=3))
    world.submit(HOLD, job("a", size=3, attempts=3))
    world.start("a:0", "a:1")
    world.tell(Cancel(5, Target(job=JobId("a"), indices=((1, 2),)), "enough"))
    [answer] = [each for each in world.answers() if each.ticket == 5]
    assert answer.value == {"changed": 1, "running": 1}  # child 0 was not named
    assert world.statuses("a") == "rr-"
    world.launched()
    if interrupted:
        world.tell(Interrupt())
    world.end("a:1", code=verdict)
    return world


def test_a_child_cancelled_by_its_index_ends_by_itself_and_is_not_tried_again() -> None:
    world = a_child_cancelled_at_work(1)
    assert world.statuses("a") == "r--"
    assert world.launched() == []
    world.end("a:0", code=1)  # the others have their retries
    assert world.launched() == ["a:0#2"]


def test_a_child_cancelled_at_work_may_succeed() -> None:
    assert a_child_cancelled_at_work(0).statuses("a") == "r+-"


def test_that_a_child_was_cancelled_outlives_the_engine_and_an_interruption() -> None:
    world = a_child_cancelled_at_work(143, interrupted=True)
    row = world.outcome.writes.tasks[world.job("a").no, 1]
    assert (row.status, row.cancelled) == (Status.RUNNABLE, True)
    assert world.job("a").odd[1].cancelled


def test_a_retry_forgets_that_a_child_was_cancelled() -> None:
    world = a_child_cancelled_at_work(1)
    world.end("a:0")
    world.tell(Retry(6, RUN))
    assert "a:1#2" in world.launched()
    world.end("a:1#2", code=1)
    assert world.launched() == ["a:1#3"]
