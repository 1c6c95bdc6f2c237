"""Who becomes runnable, who fails with it: aws-batch.md §3, semantics.md 3 and 20–22."""

from __future__ import annotations

import pytest

from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Need, When
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Cancel, Target
from tests.core.builders import World, environment, job, need


@pytest.mark.parametrize(
    ("source", "dependant", "first", "after_one"),
    [
        (None, None, "P", "s"),  # single on single
        (None, 3, "PPP", "sss"),  # no child starts until the single SUCCEEDED
        (3, None, "P", "P"),  # the whole array first
        (3, 3, "PPP", "PPP"),  # every child waits for the whole of it
    ],
)
def test_a_plain_need_waits_for_the_whole_job(
    source: int | None, dependant: int | None, first: str, after_one: str
) -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=source), job("j", size=dependant, needs=["x"]))
    assert world.statuses("j") == first
    world.end("x:0")
    assert world.statuses("j") == after_one
    if source:
        world.end("x:1", "x:2")
        assert set(world.statuses("j")) == {"s"}


def test_n_to_n_waits_for_its_own_index_alone() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=3), job("j", size=3, needs=[need("x", each=True)]))
    world.end("x:2")
    assert world.statuses("j") == "PPs"
    world.end("x:0", code=1)
    assert world.statuses("j") == "-Ps"


def test_sequential_starts_one_after_the_other_and_fails_what_follows() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=4, sequential=True))
    assert world.statuses("x") == "sPPP"
    world.end("x:0")
    assert world.statuses("x") == "+sPP"
    world.end("x:1", code=1)
    assert not world.state.runs


def test_n_to_n_sequential_and_plain_together() -> None:
    world = World(environment(vcpus=9))
    needs: list[Need | str] = [need("x", each=True), "y"]
    world.submit(job("x", size=3), job("y"), job("j", size=3, needs=needs, sequential=True))
    world.end("x:0", "x:1")
    assert world.statuses("j") == "PPP"
    world.end("y")
    assert world.statuses("j") == "sPP"
    world.end("j:0")
    assert world.statuses("j") == "+sP"
    world.end("j:1")
    assert world.statuses("j") == "++P"
    world.end("x:2")
    assert world.statuses("j") == "++s"


@pytest.mark.parametrize(
    ("when", "code", "status", "reason"),
    [
        (When.SUCCESS, 0, "s", None),
        (When.SUCCESS, 1, "-", "Dependent Job failed"),
        (When.FAILURE, 1, "s", None),
        (When.FAILURE, 0, "+", "Skipped: x did not fail"),
        (When.DONE, 0, "s", None),
        (When.DONE, 1, "s", None),
    ],
)
def test_when(when: When, code: int, status: str, reason: str | None) -> None:
    world = World()
    world.submit(job("x"), job("j", needs=[need("x", when)]), job("hold", timeout_ms=9**9))
    world.end("x", code=code)
    assert world.statuses("j") == status
    assert world.job("j").status_reason == reason
    assert world.job("j").skipped == (reason is not None and reason.startswith("Skipped"))


def test_when_per_index() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=3), job("j", size=3, needs=[need("x", When.FAILURE, each=True)]), job("k", needs=["j"]))
    world.end("x:0")
    world.end("x:1", code=1)
    assert world.statuses("j") == "+sP"
    world.end("x:2")
    assert world.statuses("j") == "+s+"
    world.end("j:1")
    assert world.statuses("k") == "s"


def test_a_skipped_job_satisfies_its_dependants() -> None:
    world = World()
    world.submit(job("x"), job("j", needs=[need("x", When.FAILURE)]), job("k", needs=["j"]))
    world.end("x")
    assert world.statuses("k") == "s"


def test_a_failure_cascades_at_once_and_transitively() -> None:
    world = World(environment(vcpus=9))
    world.submit(
        job("x"),
        job("slow"),
        job("j", needs=["x", "slow"]),
        job("k", size=2, needs=["j"]),
        job("sorry", needs=[need("k", When.FAILURE)]),
        job("after", needs=[need("k", When.DONE)]),
    )
    out = world.end("x", code=1)
    assert [world.statuses(each) for each in ("j", "k", "sorry", "after")] == ["-", "--", "s", "s"]
    assert out.writes.jobs[4].rest_reason == "Dependent Job failed"
    assert out.writes.jobs[4].status_reason == "Array Child Job failed"


def test_a_need_counts_as_failed_only_when_its_retries_are_used_up() -> None:
    world = World()
    world.submit(job("x", attempts=2), job("j", needs=["x"]))
    world.end("x", code=1)
    assert world.statuses("j") == "P"


@pytest.mark.parametrize(("tolerate", "status"), [(0, Status.FAILED), (1, Status.FAILED), (2, Status.SUCCEEDED)])
def test_tolerance_is_judged_when_all_have_ended(tolerate: int, status: Status) -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=4, tolerate=tolerate), job("hold", timeout_ms=9**9))
    world.end("x:0", "x:1", code=1)
    assert world.job("x").status is Status.PENDING
    world.end("x:2", "x:3")
    assert world.job("x").status is status


def test_cascaded_children_count_against_the_tolerance() -> None:
    world = World(environment(vcpus=9))
    world.submit(job("x", size=3, sequential=True, tolerate=1), job("hold", timeout_ms=9**9))
    world.end("x:0")
    world.end("x:1", code=1)
    assert world.job("x").status is Status.FAILED


def test_what_the_user_stopped_is_not_tolerated() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("x", size=3, tolerate=3), job("hold", timeout_ms=9**9))
    world.tell(Cancel(1, Target(job=JobId("x")), "enough"))
    world.end("x:0")
    assert world.job("x").status is Status.FAILED


@pytest.mark.parametrize("order", [0, 1])
def test_an_array_of_none_succeeds_once_its_needs_are_met(order: int) -> None:
    """In either order of the plan: a job that ends while it is submitted is met once."""
    world = World()
    jobs = [job("x", size=0), job("j", size=0, needs=[need("x", each=True)]), job("k", needs=["j", "x"]), job("l")]
    world.submit(*(jobs if order else jobs[::-1]))
    assert world.job("x").status is world.job("j").status is Status.SUCCEEDED
    assert world.statuses("k") == "s"


def test_a_run_of_nothing_ends_at_once() -> None:
    world = World()
    out = world.submit()
    assert out.writes.runs[1].status is RunStatus.SUCCEEDED


def test_a_job_with_holes_ends_once() -> None:
    """Its resting children lie in several ranges."""
    world = World(environment(vcpus=9), child_events=ChildEvents.ALL)
    world.submit(job("x", size=4), job("j", size=4, needs=[need("x", each=True)]), job("hold", timeout_ms=9**9))
    world.end("x:1")
    world.end("j:1")
    out = world.tell(Cancel(1, Target(job=JobId("j")), "enough"))
    assert world.statuses("j") == "-+--"
    assert [event.status for event in out.writes.events if event.job == 2 and event.idx is None] == [Status.FAILED]
    assert world.state.runs[RunId("run")].open_main == 2


def test_a_chain_of_a_thousand_fails_without_recursion() -> None:
    world = World()
    chain = [job("j0"), *(job(f"j{i}", needs=[Need(JobId(f"j{i - 1}"))]) for i in range(1, 1000))]
    world.submit(*chain, job("hold", timeout_ms=9**9))
    world.end("j0", code=1)
    assert world.statuses("j999") == "-"
