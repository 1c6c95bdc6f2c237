"""Jobs without a run: submission, needs that may have ended, and leaving the memory."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core import invariants
from flowbatch.core.recovery import rebuild
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.jobspec import JobPlan, Need
from flowbatch.model.rows import EndedJob, Loaded
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Cancel, Configure, SubmitJob, Target, Terminate
from tests.core.builders import World, environment, job, queue


def submit(world: World, plan: JobPlan, *ended: EndedJob) -> object:
    """The answer: an error's text, or the value."""
    world.effects.clear()
    world.tell(SubmitJob(7, plan, ended))
    [answer] = world.answers()
    return answer.error or answer.value


def ended(job: str, *, cells: str = "+", size: int | None = None, again: bool = False) -> EndedJob:
    statuses = bytes(Status.SUCCEEDED if cell == "+" else Status.FAILED for cell in cells)
    status = Status.FAILED if "-" in cells else Status.SUCCEEDED
    return EndedJob(JobId(job), job, status, size, statuses, again)


def test_a_job_alone_runs_and_leaves_the_memory() -> None:
    world = World()
    assert submit(world, job("a")) == {"job": "a"}
    assert world.launched() == ["a:0#1"]
    assert world.state.jobs[JobId("a")].run is None
    outcome = world.end("a")
    assert [row.status for row in outcome.writes.jobs.values()] == [Status.SUCCEEDED]
    assert not world.state.jobs


def test_the_same_submission_again_is_one_job() -> None:
    world = World()
    assert submit(world, job("a")) == submit(world, job("a")) == {"job": "a"}
    assert world.launched() == []  # the second cleared what the first had asked for
    assert len(world.state.jobs) == 1


def test_a_need_of_an_open_job_is_waited_for_and_fails_with_it() -> None:
    world = World()
    submit(world, job("a"))
    submit(world, job("b", needs=["a"]))
    submit(world, job("c", needs=["b"]))
    assert world.statuses("b") == world.statuses("c") == "P"
    outcome = world.end("a", code=1)
    assert {row.status_reason for row in outcome.writes.jobs.values()} >= {"Dependent Job failed"}
    assert not world.state.jobs


def test_a_job_of_a_run_is_waited_for_across() -> None:
    world = World()
    world.submit(job("x"), job("y"))
    submit(world, job("b", needs=["x"]))
    assert world.statuses("b") == "P"
    world.end("x")
    assert world.statuses("b") == "s"


def test_who_is_not_here_is_asked_for() -> None:
    world = World()
    assert submit(world, job("b", needs=["a"])) == {"absent": ["a"]}
    assert not world.state.jobs
    assert submit(world, job("b", needs=["a"]), ended("a")) == {"job": "b"}
    assert world.statuses("b") == "s"


def test_a_need_that_has_failed_already_fails_by_way_of_pending() -> None:
    world = World()
    outcome_of = submit(world, job("b", needs=["a"]), ended("a", cells="-"))
    assert outcome_of == {"job": "b"}
    assert [event.status for event in world.outcome.writes.events] == [Status.PENDING, Status.FAILED]
    assert not world.state.jobs


def test_n_to_n_on_an_ended_array_goes_child_by_child() -> None:
    world = World()
    plan = job("b", size=3, needs=[Need(JobId("a"), each=True)])
    submit(world, plan, ended("a", cells="+-+", size=3))
    assert world.statuses("b") == "s-s"


def test_n_to_n_on_an_ended_array_fails_children_while_the_rest_waits() -> None:
    world = World()
    submit(world, job("z"))
    plan = job("b", size=3, needs=[Need(JobId("a"), each=True), "z"])
    submit(world, plan, ended("a", cells="+-+", size=3))
    assert world.statuses("b") == "P-P"
    world.end("z")
    assert world.statuses("b") == "s-s"


def test_one_child_of_an_array_is_needed() -> None:
    world = World(environment(vcpus=8))
    submit(world, job("a", size=3))
    submit(world, job("b", needs=[Need(JobId("a"), index=1)]))
    submit(world, job("c", needs=[Need(JobId("a"), index=2)]))
    world.end("a:0")
    assert world.statuses("b") == "P"
    world.end("a:1")
    assert world.statuses("b") == "s"
    world.end("a:2", code=1)
    assert JobId("c") not in world.state.jobs
    assert submit(world, job("d", needs=[Need(JobId("a"), index=2)]), ended("a", cells="++-", size=3)) == {"job": "d"}
    assert JobId("d") not in world.state.jobs


@pytest.mark.parametrize(
    ("plan", "known", "said"),
    [
        (job("b", queue="nowhere"), (), "JobQueue nowhere not found"),
        (job("b", queue="off"), (), "JobQueue off is DISABLED"),
        (job("b", size=3, needs=[Need(JobId("a"), each=True)]), (ended("a", cells="++", size=2),), "an array of 2"),
        (job("b", size=3, needs=[Need(JobId("a"), each=True)]), (ended("a"),), "a single job"),
        (job("b", needs=[Need(JobId("a"), index=2)]), (ended("a", cells="++", size=2),), "indices are 0 to 1"),
        (job("b", needs=[Need(JobId("a"), index=0)]), (ended("a"),), "is no array"),
        (job("b", needs=["a"]), (ended("a", again=True),), "`finally`"),
    ],
)
def test_what_is_refused(plan: JobPlan, known: tuple[EndedJob, ...], said: str) -> None:
    world = World(queues=(queue(), replace(queue("off"), enabled=False)))
    assert said in str(submit(world, plan, *known))
    assert not world.state.jobs


def test_cancel_and_terminate_by_id() -> None:
    world = World(environment(vcpus=1))
    submit(world, job("a"))
    submit(world, job("b"))
    world.tell(Cancel(1, Target(job=JobId("b")), "not needed"))
    assert JobId("b") not in world.state.jobs
    world.tell(Terminate(2, Target(job=JobId("a")), "enough"))
    assert world.stops() == ["a:0#1 TERMINATE"]


def test_a_life_that_serves_nobody_starts_nothing_of_it() -> None:
    world = World()
    world.state.draining = True
    submit(world, job("a"))
    rows, places = world.outcome.writes, world.state
    jobs = [(row, plan) for row, (_, _, plan) in zip(rows.jobs.values(), rows.new_jobs, strict=True)]
    environments, queues = [e.row() for e in places.environments.values()], [q.row() for q in places.queues.values()]
    loaded = Loaded(2, 1, 1, 2, [], jobs, [], [], environments, queues)
    state = rebuild(loaded)
    state.jobs[JobId("a")].shelved = True
    again = World()
    again.machine.state = state
    again.tell(Configure((environment(),), (queue(),)))
    assert again.launched() == []
    invariants.check(state)
    assert state.jobs[JobId("a")].created_at == Millis(1000)
