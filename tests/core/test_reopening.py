"""`retry`: what it reopens, what it refuses, and what it never counts twice."""

from __future__ import annotations

from flowbatch.core.turn import job_row, run_row
from flowbatch.model.ending import Evidence
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import JobPlan, RetryPolicy, Stage, When
from flowbatch.model.rows import Loaded
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Cancel, Exited, Reload, Retry, Target, Tick
from tests.core.builders import World, job, need, parse

LAST = Stage.FINALLY


def retry(world: World, name: str | None = None, *ranges: tuple[int, int]) -> str | None:
    """Returns the refusal, or None."""
    target = Target(RunId("run"), None if name is None else JobId(name), ranges or None)
    world.tell(Retry(7, target))
    return [answer.error for answer in world.answers() if answer.ticket == 7][-1]


def test_a_failed_job_and_what_failed_because_of_it() -> None:
    world = World()
    world.submit(job("a", attempts=2), job("b", needs=["a"]), job("c", size=3, needs=["b"]), job("d", timeout_ms=9**9))
    for attempt in (1, 2):
        world.end(f"a#{attempt}", code=1)
    assert (world.statuses("a"), world.statuses("b"), world.statuses("c")) == ("-", "-", "---")
    world.launched()
    assert retry(world) is None
    assert world.launched() == ["a:0#3"]
    assert (world.statuses("a"), world.statuses("b"), world.statuses("c")) == ("s", "P", "PPP")
    world.end("a#3", code=1)  # the budget is fresh
    assert world.launched() == ["a:0#4"]
    world.end("a#4")
    assert world.launched() == ["b:0#1"]
    assert world.job("a").generation == 1


def test_only_the_children_that_are_named() -> None:
    world = World(child_events=ChildEvents.ALL)
    world.submit(job("a", size=4), job("d"))
    world.end("a:0")
    world.end("a:1", "a:2", "a:3", code=1)
    world.launched()
    assert retry(world, "a", (0, 1)) is None
    assert world.launched() == ["a:1#2"]
    assert world.statuses("a") == "+s--"
    world.end("a:1#2")
    assert world.job("a").status is Status.FAILED


def test_children_that_have_not_failed_are_refused() -> None:
    world = World()
    world.submit(job("a", size=2), job("d"))
    world.end("a:0")
    world.end("a:1", code=1)
    assert retry(world, "a", (0, 0)) == "none of these children of a is FAILED: there is nothing to retry"
    assert retry(world, "d") == "job d is STARTING: there is nothing to retry"


def test_resting_children_are_reopened_as_one() -> None:
    world = World()
    world.submit(job("a"), job("b", size=1000, needs=["a"]), job("d"))
    world.end("a", code=1)
    assert world.statuses("b") == "-" * 1000
    out = world.tell(Retry(7, Target(RunId("run"))))
    assert not out.writes.reopened[1:]
    assert {key for key in out.writes.tasks if key[0] == 2} == set()


def test_finally_runs_again_whole() -> None:
    world = World()
    world.submit(job("a"), job("z", stage=LAST), job("y", stage=LAST), job("d", timeout_ms=1))
    world.end("a", code=1)
    world.end("d")
    world.end("z")
    assert retry(world) == "the `finally` jobs of run run are at work: retry once the run has ended"


def test_a_job_that_followed_a_failure_holds_the_retry_back() -> None:
    world = World()
    world.submit(job("a"), job("b", needs=[need("a", When.FAILURE)]), job("c", needs=[need("a", When.DONE), "b"]))
    world.end("a", code=1)
    assert retry(world) == "b has begun after a, and is not over: retry once it has ended"
    world.end("b")
    assert retry(world) == "c has begun after a, and is not over: retry once it has ended"


def test_a_job_that_only_waits_counts_its_needs_again() -> None:
    world = World()
    world.submit(job("a"), job("b"), job("c", needs=[need("a", When.DONE), "b"]))
    world.end("a", code=1)
    assert world.job("c").unmet == 1
    assert retry(world) is None
    assert world.job("c").unmet == 2
    world.launched()
    world.end("a#2")
    world.end("b")
    assert world.launched() == ["c:0#1"]


def test_an_end_and_its_retry_in_one_turn_keep_the_attempt() -> None:
    world = World()
    world.submit(job("a"), job("d"))
    world.start("a")
    out = world.tell(Exited(parse("a"), world.now, Evidence(9)), Retry(7, Target(RunId("run"))))
    assert out.writes.reopened == []
    assert [(row.attempt, row.exit_code) for row in out.writes.attempts] == [(1, 9)]


def test_a_retry_of_a_finally_job_reopens_it_once() -> None:
    world = World()
    world.submit(job("a", timeout_ms=9**9), job("z", stage=LAST, retry=RetryPolicy(1)), job("y", stage=LAST))
    world.tell(Cancel(1, Target(job=JobId("z")), "no"))
    assert world.job("z").status is Status.FAILED
    assert retry(world, "z") is None
    assert world.state.runs[RunId("run")].failed == 0
    assert world.statuses("z") == "P"


def test_a_reloaded_run_that_is_not_reopened_leaves_again() -> None:
    world = World()
    world.submit(job("a"))
    loaded = snapshot(world)
    world.end("a")
    runs = [(row._replace(status=RunStatus.SUCCEEDED), each) for row, each in loaded.runs]
    jobs = [(row._replace(status=Status.SUCCEEDED, rest=Status.SUCCEEDED), each) for row, each in loaded.jobs]
    world.tell(Reload(Loaded(1, 1, 2, 2, runs, jobs, [])), Retry(7, Target(RunId("run"))))
    assert world.answers()[-1].error == "run run has no FAILED job: there is nothing to retry"
    assert not world.state.runs
    assert not world.state.jobs
    world.tell(Tick())


def snapshot(world: World) -> Loaded:
    state = world.state
    run = state.runs[RunId("run")]
    jobs = [(job_row(each), JobPlan(each.id, each.spec, each.stage)) for each in run.jobs]
    return Loaded(1, 1, state.next_run, state.next_job, [(run_row(run), run.plan)], jobs, [])
