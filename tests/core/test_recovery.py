"""What did the crash leave: the table of design.md §9, and its four laws."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core import invariants
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.turn import job_row, run_row
from flowbatch.model.effects import Forget, Launch, Stop
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import JobPlan, RetryPolicy
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import Loaded, TaskRow
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Census, Configure, Drain, Observation, Resume, Terminate, Tick
from flowbatch.model.stimuli import Target as Aim
from tests.core.builders import World, environment, job, parse, queue

LOST = "Host EC2 (flowbatch) terminated."


class Lives:
    """A world whose rows are kept, so that it can crash."""

    def __init__(self, *jobs: JobPlan, deadline_ms: int | None = None) -> None:
        self.world = World(environment(vcpus=2))
        self.life = 1
        self.boot = 1
        self.tasks: dict[tuple[int, int], TaskRow] = {}
        self.keep(self.world.submit(*jobs, deadline_ms=deadline_ms))

    def keep(self, out: Outcome) -> Outcome:
        self.tasks.update(out.writes.tasks)
        return out

    def loaded(self) -> Loaded:
        state = self.world.state
        run = state.runs[RunId("run")]
        jobs = [(job_row(each), JobPlan(each.id, each.spec, each.stage)) for each in run.jobs]
        tasks = list(self.tasks.values())
        return Loaded(self.life, self.boot, state.next_run, state.next_job, [(run_row(run), run.plan)], jobs, tasks)

    def crash(self, *, reboot: bool = False, held: bool = False) -> None:
        self.life += 1
        if reboot:
            self.boot = self.life
        state = rebuild(self.loaded_with_places())
        for run in state.runs.values():
            run.held = held
        self.world.machine = Machine(state)
        self.world.effects.clear()
        self.keep(self.world.tell(Configure((environment(vcpus=2),), (queue(),))))

    def loaded_with_places(self) -> Loaded:
        loaded = self.loaded()
        plans = [
            (row, replace(plan, environments=(environment(vcpus=2),), queues=(queue(),))) for row, plan in loaded.runs
        ]
        return replace(loaded, runs=plans)

    def census(self, *observations: Observation, asked: int | None = None) -> Outcome:
        turn = self.world.state.turn if asked is None else asked
        return self.keep(self.world.tell(Census("fake", turn, observations)))


def alive(name: str, started_at: int | None = 2_000) -> Observation:
    return Observation(parse(name), None if started_at is None else Millis(started_at))


def ended(name: str, code: int) -> Observation:
    return Observation(parse(name), Millis(2_000), Millis(3_000), Evidence(code))


def keys(out: Outcome, kind: type[Launch | Stop | Forget]) -> list[str]:
    return [effect.key.id for effect in out.effects if isinstance(effect, kind)]


def test_starting_and_absent_is_launched_again_under_the_same_name() -> None:
    lives = Lives(job("a"))
    lives.crash()
    out = lives.census()
    assert keys(out, Launch) == ["a.0.1"]
    assert lives.tasks[1, 0].life == 2
    assert keys(lives.census(), Launch) == []  # once a life


def test_starting_of_this_life_and_absent_is_left_alone() -> None:
    lives = Lives(job("a"))
    assert lives.census().effects == []


@pytest.mark.parametrize("started", [False, True])
def test_running_is_adopted(started: bool) -> None:
    lives = Lives(job("a"))
    if started:
        lives.keep(lives.world.start("a"))
    lives.crash()
    out = lives.census(alive("a"))
    assert out.effects == []
    assert lives.world.statuses("a") == "r"


@pytest.mark.parametrize("started", [False, True])
def test_an_end_is_taken_with_its_code(started: bool) -> None:
    lives = Lives(job("a"), job("hold", timeout_ms=9**9))
    if started:
        lives.keep(lives.world.start("a"))
    lives.crash()
    out = lives.census(ended("a", 7), alive("hold"))
    row = out.writes.tasks[1, 0]
    assert (row.status, row.exit_code, row.stopped_at) == (Status.FAILED, 7, 3_000)
    assert keys(out, Forget) == ["a.0.1"]


def test_running_and_absent_is_lost_and_the_policy_decides() -> None:
    for policy, status in ((RetryPolicy(), "-"), (RetryPolicy(2), "s"), (RetryPolicy(lost_free=1), "s")):
        lives = Lives(job("a", retry=policy), job("hold", timeout_ms=9**9))
        lives.keep(lives.world.start("a"))
        lives.crash()
        out = lives.census(alive("hold"))
        assert lives.world.statuses("a") == status
        found = [(row.exit_code, row.status_reason) for row in out.writes.attempts]
        found += [(row.exit_code, row.status_reason) for row in out.writes.tasks.values() if row.status.terminal]
        assert found == [(None, LOST)]


def test_capacity_of_what_may_still_run_is_reserved_before_anything_is_placed() -> None:
    lives = Lives(job("a", size=5))
    lives.crash()
    assert str(lives.world.state.environments["default"].used) == "2 vCPU"
    assert lives.world.launched() == []


@pytest.mark.parametrize(
    ("observation", "kind"),
    [(alive("a#7"), Stop), (ended("a#7", 0), Forget), (alive("gone"), Stop), (ended("gone", 1), Forget)],
)
def test_what_nobody_waits_for_is_stopped_and_forgotten(observation: Observation, kind: type[Stop | Forget]) -> None:
    lives = Lives(job("a"))
    out = lives.census(observation)
    assert keys(out, kind) == [observation.key.id]
    assert len(out.effects) == 1


def test_law_a_what_changed_since_the_census_was_asked_is_left_alone() -> None:
    lives = Lives(job("a", attempts=2), job("hold", timeout_ms=9**9))
    asked = lives.world.state.turn
    lives.keep(lives.world.start("a"))
    assert lives.census(alive("hold"), asked=asked).effects == []
    assert lives.world.statuses("a") == "r"


def test_an_attempt_of_before_the_boot_is_lost_and_never_launched_again() -> None:
    lives = Lives(job("a", attempts=2))
    lives.crash(reboot=True)
    out = lives.census()
    assert [(row.attempt, row.status_reason) for row in out.writes.attempts] == [(1, LOST)]
    assert keys(out, Launch) == ["a.0.2"]


def test_a_stop_is_repeated_once_a_life_also_where_the_start_was_not_known() -> None:
    for started in (False, True):
        lives = Lives(job("a"))
        if started:
            lives.keep(lives.world.start("a"))
        lives.keep(lives.world.tell(Terminate(1, Aim(job=JobId("a")), "enough")))
        lives.crash()
        assert keys(lives.census(alive("a")), Stop) == ["a.0.1"]
        assert keys(lives.census(alive("a")), Stop) == []


def test_what_was_stopped_before_it_began_ends_without_beginning() -> None:
    lives = Lives(job("a"), job("hold", timeout_ms=9**9))
    lives.keep(lives.world.tell(Terminate(1, Aim(job=JobId("a")), "enough")))
    lives.crash()
    out = lives.census(alive("hold"))
    assert keys(out, Launch) == []
    assert (lives.world.statuses("a"), lives.world.job("a").status_reason) == ("-", "enough")


def test_what_is_stopped_between_the_question_and_the_first_answer_does_not_hang() -> None:
    lives = Lives(job("a"), job("hold", timeout_ms=9**9))
    lives.crash()
    asked = lives.world.state.turn
    lives.keep(lives.world.tell(Terminate(1, Aim(job=JobId("a")), "enough")))
    lives.census(alive("hold"), asked=asked)
    assert lives.world.statuses("a") == "s"
    lives.census(alive("hold"))
    assert lives.world.statuses("a") == "-"


@pytest.mark.parametrize("how", ["draining", "held"])
def test_nothing_is_launched_again_while_draining_or_for_a_held_run(how: str) -> None:
    lives = Lives(job("a"))
    lives.crash(held=how == "held")
    if how == "draining":
        lives.world.tell(Drain())
    out = lives.census()
    assert keys(out, Launch) == []
    assert (lives.tasks[1, 0].status, lives.tasks[1, 0].base) == (Status.RUNNABLE, 1)
    if how == "held":
        out = lives.world.tell(Resume(3))
        assert keys(out, Launch) == ["a.0.2"]


def test_a_held_run_keeps_its_deadline_for_when_it_is_resumed() -> None:
    lives = Lives(job("a"), deadline_ms=10_000)
    lives.keep(lives.world.start("a"))
    lives.crash(held=True)
    lives.world.tell(Tick(), at=20_000)
    assert lives.world.stops() == []
    lives.world.tell(Resume(3))
    assert lives.world.stops() == ["a:0#1 TERMINATE"]


def test_an_end_in_time_is_no_timeout_though_the_engine_was_down() -> None:
    lives = Lives(job("a", timeout_ms=5_000), job("hold", timeout_ms=9**9))
    lives.keep(lives.world.start("a"))
    lives.world.now = Millis(60_000)
    lives.crash()
    assert lives.world.stops() == ["a:0#1 TIMEOUT"]
    out = lives.census(ended("a", 0), alive("hold"))
    assert out.writes.tasks[1, 0].status is Status.SUCCEEDED


def test_backoff_goes_on_after_a_crash() -> None:
    lives = Lives(job("a", retry=RetryPolicy(2, 10_000, 10_000)))
    lives.keep(lives.world.end("a", code=1))
    lives.crash()
    assert lives.world.launched() == []
    assert lives.world.machine.next_deadline() == 11_000
    lives.world.tell(Tick(), at=11_000)
    assert lives.world.launched() == ["a:0#2"]


def test_rebuild_is_what_was() -> None:
    lives = Lives(job("a", size=6, attempts=2), job("b", needs=["a"]), job("c", size=0, needs=["b"]))
    for out in (lives.world.start("a:0"), lives.world.end("a:1", code=1), lives.world.end("a:1#2")):
        lives.keep(out)
    again = rebuild(lives.loaded_with_places())
    now = lives.world.now
    assert invariants.canonical(again, now) == invariants.canonical(lives.world.state, now)
    invariants.check(again)


def test_a_termination_is_stronger_than_a_timeout_that_was_none() -> None:
    lives = Lives(job("a", timeout_ms=5_000), job("hold", timeout_ms=9**9))
    lives.keep(lives.world.start("a"))
    lives.world.now = Millis(60_000)
    lives.crash()
    lives.keep(lives.world.tell(Terminate(1, Aim(job=JobId("a")), "enough")))
    out = lives.census(ended("a", 0), alive("hold"))
    assert (out.writes.tasks[1, 0].status, out.writes.tasks[1, 0].status_reason) == (Status.FAILED, "enough")
