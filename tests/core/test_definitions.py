"""Revisions: what a registration becomes, and what a submitted job is pinned to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from flowbatch.core.definitions import Revisions, restore
from flowbatch.model.definition import DefinitionRow, KnownRevision, Registration
from flowbatch.model.jobspec import JobPlan
from flowbatch.model.stimuli import DeregisterDefinition, RegisterDefinition, SubmitRun
from tests.core.builders import World, job, plan


def definition(name: str = "blur", digest: str = "one") -> Registration:
    return Registration(name, "{}", digest, (("team", "film"),))


def made_from(name: str, key: str = "a") -> JobPlan:
    plan = job(key)
    return replace(plan, spec=replace(plan.spec, definition=name))


def submit(world: World, run: str, *definitions: Registration, name: str = "blur") -> str:
    """What the run's one job is pinned to."""
    asked = plan(made_from(name, f"{run}-a"), run=run)
    outcome = world.tell(SubmitRun(1, replace(asked, definitions=definitions)))
    [(_, _, stored)] = outcome.writes.new_jobs
    [(_, stored_run)] = outcome.writes.new_runs
    assert stored_run.definitions == ()
    assert world.state.jobs[stored.id].spec.definition == stored.spec.definition
    return stored.spec.definition


def test_every_registration_is_a_revision() -> None:
    world = World()
    outcome = world.tell(RegisterDefinition(1, definition()), RegisterDefinition(2, definition()))
    assert outcome.writes.definitions == [
        DefinitionRow("blur", number, True, "{}", "one", (("team", "film"),), world.now, None) for number in (1, 2)
    ]
    assert [answer.value for answer in world.answers()] == [
        {"name": "blur", "revision": 1},
        {"name": "blur", "revision": 2},
    ]


def test_an_unchanged_definition_of_a_file_gets_no_new_revision() -> None:
    world = World()
    assert submit(world, "r1", definition()) == "blur:1"
    assert submit(world, "r2", definition()) == "blur:1"
    assert world.outcome.writes.definitions == []
    assert submit(world, "r3", definition(digest="two")) == "blur:2"
    assert submit(world, "r4", definition(digest="one")) == "blur:3"  # held against the latest, as its name means that


def test_a_deregistered_one_is_registered_again() -> None:
    world = World()
    submit(world, "r1", definition())
    world.tell(DeregisterDefinition(2, "blur", 1))
    assert world.outcome.writes.deregistered == [("blur", 1, world.now)]
    assert world.answers()[-1].value == {"changed": True, "latest": None}
    assert submit(world, "r2", definition()) == "blur:2"


def test_deregistering_twice_changes_nothing() -> None:
    world = World()
    world.tell(RegisterDefinition(1, definition()), RegisterDefinition(2, definition()))
    world.tell(DeregisterDefinition(3, "blur", 2), DeregisterDefinition(4, "blur", 2))
    assert len(world.outcome.writes.deregistered) == 1
    assert [answer.value for answer in world.answers()[-2:]] == [
        {"changed": True, "latest": 1},
        {"changed": False, "latest": 1},
    ]


@pytest.mark.parametrize(("name", "revision"), [("blur", 2), ("sharpen", 1)])
def test_what_was_never_registered_cannot_be_deregistered(name: str, revision: int) -> None:
    world = World()
    world.tell(RegisterDefinition(1, definition()), DeregisterDefinition(2, name, revision))
    assert world.answers()[-1].error == f"there is no job definition {name}:{revision}"
    assert world.outcome.writes.deregistered == []


def test_a_revision_named_by_the_file_stays_as_it_is() -> None:
    world = World()
    assert submit(world, "r1", definition("other"), name="blur:7") == "blur:7"


def test_the_same_submission_again_registers_nothing() -> None:
    world = World()
    submit(world, "r1", definition())
    outcome = world.tell(
        SubmitRun(1, replace(plan(made_from("blur"), run="r1"), definitions=(definition(digest="x"),)))
    )
    assert outcome.writes.definitions == []


def test_numbers_go_on_after_a_restart() -> None:
    found = restore([KnownRevision("blur", 1, True, "a"), KnownRevision("blur", 2, False, "b")])
    assert found == {"blur": Revisions(2, {1: "a"})}
    assert found["blur"].latest == 1
