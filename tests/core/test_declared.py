"""What the settings declare, against what is stored: a command's change lasts until the settings' own value changes."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.core.declared import environments_of, queues_of
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.model.ids import Millis, RunId
from flowbatch.model.jobspec import Environment, Queue, RunPlan
from flowbatch.model.places import EnvironmentType, Node, PlaceStatus
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EnvironmentRow, Loaded, QueueRow
from flowbatch.model.stimuli import Configure, SubmitRun
from tests.core.builders import World, environment, job, queue
from tests.sim.store import DictStore

BIG = environment(name="big")
SMALL = environment(1, name="small")


def life(store: DictStore, environments: tuple[Environment, ...], queues: tuple[Queue, ...]) -> Machine:
    """The first turn of a life with these settings, stored."""
    machine = Machine(rebuild(store.begin_life(rebooted=False)))
    store.commit(machine.handle([Configure(environments, queues)], Millis(1)).writes)
    return machine


def test_what_is_declared_is_stored_once() -> None:
    store = DictStore()
    life(store, (BIG,), (queue("q", 1, "big"),))
    assert store.environments == {"big": EnvironmentRow("big", BIG, BIG, PlaceStatus.VALID)}
    machine = Machine(rebuild(store.begin_life(rebooted=False)))
    assert not machine.handle([Configure((BIG,), (queue("q", 1, "big"),))], Millis(1)).writes


def test_a_change_by_a_command_lasts_until_the_settings_say_otherwise() -> None:
    store = DictStore()
    life(store, (BIG,), ())
    store.environments["big"] = store.environments["big"]._replace(spec=replace(BIG, enabled=False))
    assert not life(store, (BIG,), ()).state.environments["big"].spec.enabled
    larger = replace(BIG, capacity=Resources(9000))
    held = life(store, (larger,), ()).state.environments["big"].spec
    assert (held.enabled, held.capacity) == (False, Resources(9000))  # only what they say otherwise now
    life(store, (replace(larger, enabled=False),), ())
    assert life(store, (larger,), ()).state.environments["big"].spec.enabled


def test_nodes_are_held_against_each_other_one_by_one() -> None:
    one, two = Node("n1", Resources(1000)), Node("n2", Resources(2000))
    farm = Environment("farm", "fake", Resources(), type=EnvironmentType.UNMANAGED, nodes=(one, two))
    by_command = (replace(one, draining=True), two, Node("n3", Resources(3000)))
    rows = {"farm": EnvironmentRow("farm", replace(farm, nodes=by_command), farm, PlaceStatus.VALID)}
    changed = replace(farm, nodes=(one, replace(two, capacity=Resources(4000)), Node("n4", Resources(1))))
    [made] = environments_of(rows, (changed,))
    assert [(node.name, node.capacity.vcpus_milli, node.draining) for node in made.nodes] == [
        ("n1", 1000, True), ("n2", 4000, False), ("n4", 1, False), ("n3", 3000, False),
    ]  # fmt: skip


def test_what_is_no_longer_declared_goes_once_nothing_uses_it() -> None:
    store = DictStore()
    queues = (queue("q", 1, "big"),)
    world = World(BIG, SMALL, queues=queues)
    world.submit(job("a", queue="q"))
    assert world.launched() == ["a:0#1"]
    world.tell(Configure((SMALL,), ()))
    assert set(world.state.environments) == {"big", "small"}, "its queue is needed by an open job"
    world.end("a")
    world.tell(Configure((SMALL,), ()))
    assert (set(world.state.environments), set(world.state.queues)) == ({"small"}, set())
    assert store.environments == {}


def test_what_a_command_made_is_none_of_the_settings_business() -> None:
    rows = {"mine": EnvironmentRow("mine", replace(BIG, name="mine"), None, PlaceStatus.VALID)}
    assert [each.name for each in environments_of(rows, (SMALL,))] == ["mine", "small"]
    [taken] = environments_of(rows, (replace(SMALL, name="mine"),))
    assert taken == replace(SMALL, name="mine")


def test_what_was_deleted_stays_so_while_it_is_declared_unchanged() -> None:
    old = queue("q", 1, "big")
    rows = {"q": QueueRow("q", old, old, PlaceStatus.DELETED)}
    assert queues_of(rows, (old,)) == ()
    assert queues_of(rows, (queue("q", 2, "big"),)) == (queue("q", 2, "big"),)
    state = rebuild(Loaded(1, 1, 1, 1, [], [], [], queues=list(rows.values())))
    assert state.queues == {}
    outcome = Machine(state).handle([Configure((), ())], Millis(1))
    assert outcome.writes.queues == {"q": None}, "what the settings forget need not be remembered"


def test_what_was_deleted_does_not_come_back_with_the_plan_of_an_open_run() -> None:
    """A run's plan has a copy of the places that it was submitted to."""
    store, places = DictStore(), (BIG, SMALL)
    old, new = queue("q", 1, "big", "small"), queue("q", 1, "big")
    machine = life(store, places, (old,))
    made = RunPlan(RunId("run"), "flow", (job("a", queue="q"),), environments=places, queues=(old,))
    store.commit(machine.handle([SubmitRun(1, made)], Millis(2)).writes)
    life(store, (BIG,), (new,))
    assert set(rebuild(store.begin_life(rebooted=False)).environments) == {"big"}
