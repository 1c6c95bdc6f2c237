"""Several nodes, several containers: who is launched when, who is stopped, and how the attempt ends (aws-batch.md §6.6, §8)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.recovery import rebuild
from flowbatch.model.effects import Launch
from flowbatch.model.ending import EndClass, Evidence, Halt
from flowbatch.model.events import EventKind
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import Action, After, Condition, Members, NodeGroup, Part, RetryPolicy, Rule
from flowbatch.model.rows import MemberRow, Writes
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Census, Interrupt, LaunchFailed, Observation, SubmitRun, Target, Terminate, Tick
from tests.core.builders import World, crewed, environment, gang, job, parse, plan, queue, short
from tests.sim.store import DictStore

COMPLETE, SUCCESS = Condition.COMPLETE, Condition.SUCCESS


def member(world: World, name: str) -> MemberRow:
    key = parse(name)
    return world.outcome.writes.members[1, key.idx, key.attempt, key.member]  # of the first job


# --- nodes


def test_the_main_node_comes_first_the_others_once_it_runs() -> None:
    world = World()
    world.submit(gang(3, main=1))
    assert world.launched() == ["g:0@1#1"]
    assert world.statuses("g") == "s"
    world.start("g@1")
    assert world.launched() == ["g:0@0#1", "g:0@2#1"]
    assert world.statuses("g") == "r"


def told(world: World) -> list[str]:
    """Of nodes, in the turn."""
    events = [event for event in world.outcome.writes.events if event.kind is EventKind.NODE]
    return [f"{event.idx}#{event.attempt} {Status(event.status).name}" for event in events]


def test_each_change_of_a_node_is_an_event() -> None:
    world = World()
    world.submit(gang(2))
    assert told(world) == ["0#1 STARTING"]
    world.start("g@0")
    assert told(world) == ["0#1 RUNNING", "1#1 STARTING"]
    world.end("g@1", code=3)  # nobody had told that it ran
    assert told(world) == ["1#1 RUNNING", "1#1 FAILED"]
    events = [event for event in world.outcome.writes.events if event.kind is EventKind.NODE]
    assert [event.exit_code for event in events] == [None, 3]
    world.end("g@0")
    assert told(world) == ["0#1 SUCCEEDED"]
    kinds = [event.kind for event in world.outcome.writes.events]
    assert kinds[:2] == [EventKind.NODE, EventKind.JOB]


def test_containers_of_a_task_are_no_nodes() -> None:
    world = World()
    world.submit(crewed(("app", True, ()), ("side", False, ())))
    assert told(world) == []


def test_all_nodes_are_placed_or_none() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("small"), gang(4))
    assert world.launched() == ["small:0#1"]
    world.end("small")
    assert world.launched() == ["g:0@0#1"]
    assert world.state.environments["default"].free().vcpus_milli == 0


def test_the_others_hear_the_address_of_the_main_node() -> None:
    world = World()
    world.submit(gang(2))
    [first] = [effect.place for effect in world.effects if isinstance(effect, Launch)]
    assert first is not None
    assert first.main_address == ""
    assert first.address.startswith("127.")
    assert first.address.endswith(".1")
    world.launched()
    world.start("g@0")
    [second] = [effect.place for effect in world.effects if isinstance(effect, Launch)]
    assert second is not None
    assert second.main_address == first.address != second.address
    assert (second.node, second.nodes, second.label) == (1, 2, "1")


def test_the_end_of_the_main_node_is_the_end_of_the_job_once_the_others_are_gone() -> None:
    world = World()
    world.submit(gang(3))
    world.start("g@0")
    world.start("g@1", "g@2")
    world.end("g@0")
    assert world.stops() == ["g:0@1#1 TERMINATE", "g:0@2#1 TERMINATE"]
    assert world.statuses("g") == "r"
    assert world.state.environments["default"].live == 1
    world.end("g@1", code=143)
    assert member(world, "g@1").status_reason == "Main node exited"
    assert member(world, "g@1").status is Status.FAILED
    assert world.statuses("g") == "r"
    world.end("g@2")  # it ended by itself before the signal came
    assert member(world, "g@2").status is Status.SUCCEEDED
    assert world.outcome.writes.jobs[1].status is Status.SUCCEEDED
    assert world.forgets() == ["g:0@0#1", "g:0@1#1", "g:0@2#1"]


def test_the_failure_of_another_node_changes_nothing() -> None:
    world = World()
    world.submit(gang(3))
    world.start("g@0")
    world.end("g@1", code=3)
    world.tell(LaunchFailed(parse("g@2"), world.now, Evidence(start_error="CannotPullContainerError: no")))
    assert world.statuses("g") == "r"
    assert world.stops() == []
    world.end("g@0")
    assert world.outcome.writes.jobs[1].status is Status.SUCCEEDED


def test_a_retry_starts_all_nodes_again() -> None:
    world = World()
    world.submit(gang(2, attempts=2))
    world.start("g@0")
    world.start("g@1")
    world.launched()
    world.end("g@0", code=7)
    world.end("g@1", code=143)
    assert world.launched() == ["g:0@0#2"]
    assert world.outcome.writes.attempts[0].exit_code == 7
    world.start("g@0#2")
    assert world.launched() == ["g:0@1#2"]
    world.end("g@0#2")
    world.end("g@1#2", code=143)
    assert world.outcome.writes.jobs[1].status is Status.SUCCEEDED


def test_rules_look_at_the_main_node() -> None:
    rules = (Rule(Action.EXIT, exit_code="7"),)
    world = World()
    world.submit(gang(2, retry=RetryPolicy(3, rules=rules)))
    world.start("g@0")
    world.end("g@0", code=7)
    world.tell(LaunchFailed(parse("g@1"), world.now, Evidence()))
    assert world.outcome.writes.jobs[1].status is Status.FAILED
    assert world.outcome.writes.members[1, 0, 1, 1].status_reason == "Main node exited"


def test_the_timeout_is_that_of_the_whole_job_and_runs_from_the_main_nodes_start() -> None:
    world = World()
    world.submit(gang(2, timeout_ms=60_000, attempts=3))
    world.tell(at=30_000)
    world.start("g@0")
    world.start("g@1")
    world.launched()
    world.tell(Tick(), at=89_999)
    assert world.stops() == []
    world.tell(Tick(), at=90_000)
    assert world.stops() == ["g:0@0#1 TIMEOUT", "g:0@1#1 TIMEOUT"]
    world.end("g@0", "g@1", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.status_reason) == (Status.FAILED, "Job attempt duration exceeded timeout")
    assert world.launched() == []


def test_terminate_stops_all_nodes_also_those_that_are_being_stopped() -> None:
    world = World()
    mine = gang(3)
    world.submit(mine)
    world.start("g@0")
    world.start("g@1")
    world.end("g@0")
    assert world.stops() == ["g:0@1#1 TERMINATE", "g:0@2#1 TERMINATE"]
    world.tell(Terminate(2, Target(job=mine.id), "enough"))
    assert world.stops() == ["g:0@1#1 TERMINATE", "g:0@2#1 TERMINATE"]
    world.end("g@1", "g@2", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.status_reason, row.exit_code) == (Status.FAILED, "enough", 0)


def test_terminate_before_the_main_node_runs_launches_no_other() -> None:
    world = World()
    mine = gang(2)
    world.submit(mine)
    world.launched()
    world.tell(Terminate(2, Target(job=mine.id), "enough"))
    assert world.stops() == ["g:0@0#1 TERMINATE"]
    world.start("g@0")
    assert world.launched() == []
    world.end("g@0", code=143)
    assert world.outcome.writes.tasks[1, 0].status_reason == "enough"
    assert member(world, "g@0").status_reason == "enough"


def test_a_clock_of_what_was_stopped_before_it_began_is_not_set_by_the_late_start_of_the_main_node() -> None:
    made = gang(2)
    one = made.spec
    first = Part("a", replace(one, members=None))
    second = Part("b", replace(one, members=None), True, (After(0, COMPLETE),), 4_000)
    members = Members((NodeGroup(0, 0, (first,)), NodeGroup(1, 1, (first, second))), 2, 0)
    world = World(environment(vcpus=8))
    world.submit(replace(made, spec=replace(one, members=members)))
    world.tell(Terminate(1, Target(RunId("run")), "enough"))
    assert member(world, "g@2").stopped_at == world.now
    world.start("g@0")
    assert {key[-1] for key in world.outcome.writes.members} == {0}, "the others have ended, and stay as they are"


def test_an_interruption_is_not_charged() -> None:
    world = World()
    world.submit(gang(2))
    world.start("g@0")
    world.start("g@1")
    world.tell(Interrupt())
    world.end("g@0", "g@1", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.base) == (Status.RUNNABLE, 1)


def test_a_crew_that_has_begun_goes_on_while_the_engine_drains() -> None:
    """Its main node waits for the others: they come, although nothing new starts."""
    world = World()
    world.submit(gang(2))
    world.launched()
    world.state.draining = True
    world.start("g@0")
    assert world.launched() == ["g:0@1#1"]


def test_the_main_nodes_loss_is_the_jobs() -> None:
    world = World()
    world.submit(gang(2, attempts=2))
    world.start("g@0")
    world.end("g@1", evidence=Evidence(lost=True))
    assert world.statuses("g") == "r"
    world.end("g@0", evidence=Evidence(lost=True))
    assert world.outcome.writes.attempts[0].status_reason == "Host EC2 (flowbatch) terminated."
    assert world.statuses("g") == "s"


def test_addresses_are_given_back() -> None:
    world = World(environment(vcpus=8))
    world.submit(gang(2), gang(2, key="h"))
    assert len(world.state.slots) == 2
    world.end("g@0")
    world.tell(LaunchFailed(parse("g@1"), world.now, Evidence()))
    assert len(world.state.slots) == 1


# --- containers


def test_dependencies_of_containers() -> None:
    world = World()
    world.submit(
        crewed(
            ("app", True, (After(1, COMPLETE), After(2, SUCCESS), After(3))),
            ("copy", False, ()),
            ("migrate", False, ()),
            ("proxy", False, (After(1),)),
        )
    )
    assert world.launched() == ["t:0@1#1", "t:0@2#1"]
    world.start("t@1", "t@2")
    assert world.launched() == ["t:0@3#1"]
    world.end("t@1", code=9)  # COMPLETE: whatever the code
    world.start("t@3")
    assert world.launched() == []
    assert world.statuses("t") == "s"
    world.end("t@2")
    assert world.launched() == ["t:0@0#1"]
    world.start("t@0")
    assert world.statuses("t") == "r"
    world.end("t@0")
    assert world.stops() == ["t:0@3#1 TERMINATE"]
    world.end("t@3", code=143)
    assert world.outcome.writes.jobs[1].status is Status.SUCCEEDED


def test_an_essential_container_that_can_never_begin_fails_the_task() -> None:
    world = World()
    world.submit(crewed(("app", True, (After(1, SUCCESS),)), ("migrate", False, ()), ("side", False, ())))
    world.start("t@1", "t@2")
    world.end("t@1", code=1)
    assert world.stops() == ["t:0@2#1 TERMINATE"]
    world.end("t@2", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.status_reason) == (Status.FAILED, "Task failed to start")
    assert row.reason == "it depends on migrate (SUCCESS), which can no longer come true"


def test_what_depends_on_what_never_begins_never_begins() -> None:
    world = World()
    world.submit(
        crewed(
            ("app", True, ()), ("one", False, ()), ("two", False, (After(1, SUCCESS),)), ("three", False, (After(2),))
        )
    )
    world.start("t@0")
    world.end("t@1", code=1)
    assert member(world, "t@2").status is Status.FAILED
    assert member(world, "t@3").reason == "it depends on two (START), which can no longer come true"
    assert world.statuses("t") == "r"


def test_the_first_failure_is_the_tasks_and_not_what_we_stopped() -> None:
    world = World()
    world.submit(crewed(("one", True, ()), ("two", True, ())))
    world.start("t@0", "t@1")
    world.end("t@1", code=5)
    assert world.stops() == ["t:0@0#1 TERMINATE"]
    world.end("t@0", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.exit_code) == (Status.FAILED, 5)


def test_all_essential_containers_must_exit_with_0() -> None:
    world = World()
    world.submit(crewed(("one", True, ()), ("two", True, ()), attempts=2))
    world.start("t@0", "t@1")
    world.end("t@0")
    world.end("t@1", code=143)
    assert world.outcome.writes.attempts[0].exit_code == 143
    assert world.launched()[-2:] == ["t:0@0#2", "t:0@1#2"]


def test_a_start_timeout_ends_the_task() -> None:
    world = World()
    world.submit(crewed(("app", True, ()), ("side", False, (After(0, COMPLETE),)), start_timeout_ms=5000))
    world.start("t@0")
    world.tell(Tick(), at=5_999)
    assert world.stops() == []
    world.tell(Tick(), at=6_000)
    assert world.stops() == ["t:0@0#1 TERMINATE"]
    world.end("t@0", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert (row.status, row.status_reason) == (Status.FAILED, "Task failed to start")
    assert row.reason == "startTimeout: what side depends on did not come true in 5 s"


def test_a_start_that_was_never_seen_counts_as_one() -> None:
    world = World()
    world.submit(crewed(("app", True, (After(1),)), ("init", False, ())))
    world.launched()
    world.end("t@1", code=139)
    assert world.launched() == ["t:0@0#1"]


# --- a crash


def reborn(world: World, store: DictStore) -> World:
    again = World()
    store.life = world.state.life + 1
    again.machine.state = rebuild(store.load())
    again.now = world.now
    return again


def kept(store: DictStore, *writes: Writes) -> None:
    for each in writes:
        store.commit(each)


def test_what_was_launched_is_launched_again_and_what_was_stopped_is_told_again() -> None:
    world, store = World(), DictStore()
    submitted = replace(plan(gang(3)), environments=(environment(),), queues=(queue(),))
    first = world.tell(SubmitRun(1, submitted)).writes
    kept(store, first, world.start("g@0").writes, world.start("g@1").writes)
    again = reborn(world, store)
    alive = tuple(Observation(parse(name), world.now) for name in ("g@0", "g@1"))
    kept(store, again.tell(Census("fake", 0, alive)).writes)
    assert again.launched() == ["g:0@2#1"]
    kept(store, again.end("g@0").writes)
    third = reborn(again, store)
    third.tell(Census("fake", 0, (Observation(parse("g@1"), world.now),)))
    assert third.stops() == ["g:0@1#1 TERMINATE"]
    assert third.launched() == []  # the third node was to be stopped before it had begun
    third.end("g@1", code=143)
    assert third.outcome.writes.jobs[1].status is Status.SUCCEEDED


def test_a_member_that_nobody_waits_for_is_dismissed() -> None:
    world = World()
    world.submit(gang(2))
    world.start("g@0")
    world.end("g@1", code=1)
    stray = Observation(parse("g@7"), world.now)
    world.tell(Census("fake", 99, (Observation(parse("g@0"), world.now), Observation(parse("g@1"), world.now), stray)))
    assert world.stops() == ["g:0@1#1 TERMINATE", "g:0@7#1 TERMINATE"]


@pytest.mark.parametrize("halt", [Halt.TERMINATE, Halt.INTERRUPT])
def test_a_container_that_waited_ends_with_the_wish(halt: Halt) -> None:
    world = World()
    mine = crewed(("app", True, (After(1, COMPLETE),)), ("init", False, ()))
    world.submit(mine)
    world.tell(Terminate(2, Target(job=mine.id), "enough") if halt is Halt.TERMINATE else Interrupt())
    world.end("t@1", code=143)
    row = world.outcome.writes.tasks[1, 0]
    assert row.status is (Status.FAILED if halt is Halt.TERMINATE else Status.RUNNABLE)
    assert member_end(world) == (EndClass.USER if halt is Halt.TERMINATE else EndClass.INTERRUPTED)


def member_end(world: World) -> EndClass | None:
    return next(row.end for key, row in world.outcome.writes.members.items() if key[3] == 1)


def test_names() -> None:
    assert short(parse("g:3@1#2")) == "g:3@1#2"
    assert parse("g:3@1#2").id == "g.3.2.1"
    assert type(parse("a")).parse("g.3.2.1") == parse("g:3@1#2")
    assert type(parse("a")).parse("g.3.2") == parse("g:3#2")
    with pytest.raises(ValueError, match="no attempt id"):
        type(parse("a")).parse("g.3.2.1.0")
