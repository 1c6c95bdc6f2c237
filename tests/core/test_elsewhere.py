"""Jobs of a run that need jobs of other runs, or without one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import JobPlan, Need, RunPlan, When
from flowbatch.model.rows import EndedJob
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Cancel, Reload, Retry, SubmitJob, SubmitRun, Target
from tests.core.builders import World, environment, job
from tests.sim.store import DictStore


def ended(name: str, *, cells: str = "+", size: int | None = None, again: bool = False) -> EndedJob:
    statuses = bytes(Status.SUCCEEDED if cell == "+" else Status.FAILED for cell in cells)
    return EndedJob(JobId(name), name, Status.FAILED if "-" in cells else Status.SUCCEEDED, size, statuses, again)


def submit(world: World, *jobs: JobPlan, run: str = "two", known: Sequence[EndedJob] = ()) -> object:
    world.effects.clear()
    world.tell(SubmitRun(7, RunPlan(RunId(run), "flow", jobs), ended=tuple(known)))
    [answer] = world.answers()
    return answer.error or answer.value


def test_a_job_of_another_open_run_is_waited_for() -> None:
    world = World()
    world.submit(job("a"))
    assert submit(world, job("b", needs=["a"]), job("c", needs=["b"])) == "two"
    assert world.statuses("b") == "P"
    world.end("a")
    assert (world.statuses("b"), world.statuses("c")) == ("s", "P")


def test_it_fails_with_it_and_so_does_its_run() -> None:
    world = World()
    world.submit(job("a"))
    submit(world, job("b", needs=["a"]))
    outcome = world.end("a", code=1)
    assert [row.status for row in outcome.writes.runs.values()] == [RunStatus.FAILED, RunStatus.FAILED]
    assert {row.status_reason for row in outcome.writes.jobs.values()} >= {"Dependent Job failed"}


def test_a_job_without_a_run_that_is_cancelled_releases_who_waits_for_its_failure() -> None:
    world = World()
    world.tell(SubmitJob(1, job("z")))
    world.tell(SubmitJob(2, job("a", needs=["z"])))
    submit(world, job("b", needs=[Need(JobId("a"), When.FAILURE)]))
    world.tell(Cancel(3, Target(job=JobId("a")), "no more"))
    assert world.statuses("b") == "s"


def test_who_is_not_here_is_asked_for() -> None:
    world = World()
    assert submit(world, job("b", needs=["a"])) == {"absent": ["a"]}
    assert not world.state.runs
    assert submit(world, job("b", needs=["a"]), known=[ended("a")]) == "two"
    assert world.statuses("b") == "s"


def test_what_has_failed_already_fails_the_job() -> None:
    world = World()
    submit(world, job("b", needs=["a"]), job("c"), known=[ended("a", cells="-")])
    assert (world.statuses("b"), world.statuses("c")) == ("-", "s")


def test_n_to_n_goes_child_by_child() -> None:
    world = World(environment(vcpus=8))
    plan = job("b", size=3, needs=[Need(JobId("a"), each=True)])
    submit(world, plan, known=[ended("a", cells="+-+", size=3)])
    assert world.statuses("b") == "s-s"


@pytest.mark.parametrize(
    ("need", "known", "said"),
    [
        (Need(JobId("a"), each=True), ended("a", cells="++", size=2), "an array of 2"),
        (Need(JobId("a"), index=4), ended("a", cells="++", size=2), "indices are 0 to 1"),
        (Need(JobId("a")), ended("a", again=True), "`finally`"),
    ],
)
def test_what_is_refused(need: Need, known: EndedJob, said: str) -> None:
    world = World()
    assert said in str(submit(world, job("b", size=3, needs=[need]), known=[known]))
    assert not world.state.runs


def test_a_retry_does_not_pass_over_a_need_that_failed_elsewhere() -> None:
    """The run comes back from the store with what it needed of others."""
    world, store = World(), DictStore()
    writes = []
    world.tell(SubmitRun(7, RunPlan(RunId("two"), "flow", (job("b", needs=["a"]),)), ended=(ended("a", cells="-"),)))
    writes.append(world.outcome.writes)
    for each in writes:
        store.commit(each)
    loaded = store.load_run(RunId("two"))
    assert loaded is not None
    for known, then in (([ended("a", cells="-")], "-"), ([ended("a")], "s")):
        later = World()
        later.machine.state.next_run, later.machine.state.next_job = 50, 50
        loaded.ended[:] = known
        later.tell(Reload(loaded), Retry(9, Target(run=RunId("two"))))
        assert later.state.jobs.get(JobId("b")) is None if then == "-" else later.statuses("b") == "s"
