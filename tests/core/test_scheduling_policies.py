"""Scheduling policies that queues share (aws-batch.md §9.1, §9.4)."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from flowbatch.core.invariants import canonical, check
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.rooms import vcpus_of
from flowbatch.core.snapshot import front
from flowbatch.model.effects import Answer
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment, JobPlan, Queue
from flowbatch.model.outcome import Outcome
from flowbatch.model.place_commands import (
    CreateQueue,
    CreateSchedulingPolicy,
    DeleteQueue,
    DeleteSchedulingPolicy,
    QueueChange,
    UpdateQueue,
    UpdateSchedulingPolicy,
)
from flowbatch.model.places import EnvironmentType, Node
from flowbatch.model.queues import JOB_REQUIREMENT, FairShare, TimeLimit, reason_code
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Configure, Exited, Started, Stimulus, SubmitJob
from tests.core.builders import World, environment, job, queue
from tests.core.test_alone import submit
from tests.sim.store import DictStore

EVEN = FairShare()
HALF = FairShare(weights=(("a", 5_000), ("b", 20_000)))
LONG = FairShare(decay_ms=86_400_000, reservation=20)


def answered(world: World, stimulus: Stimulus) -> object:
    world.tell(stimulus)
    answer = world.answers()[-1]
    return answer.value if answer.error is None else answer.error


def shared(*names: str) -> World:
    """Queues with a policy `even` that they share."""
    world = World(environment(2))
    world.tell(CreateSchedulingPolicy(1, "even", EVEN))
    for name in names:
        made = Queue(name, policy_name="even")
        assert answered(world, CreateQueue(2, made)) == {"queue": name}
    return world


def test_queues_have_the_policy_that_they_name() -> None:
    world = shared("x", "y")
    assert {world.state.queues[name].spec.policy for name in "xy"} == {EVEN}
    assert answered(world, UpdateSchedulingPolicy(1, "even", HALF)) == {
        "scheduling_policy": "even",
        "queues": ["x", "y"],
    }
    assert {world.state.queues[name].spec.policy for name in "xy"} == {HALF}
    assert set(world.outcome.writes.queues) == {"x", "y"}


def test_jobs_that_wait_are_served_by_the_new_weights() -> None:
    world = shared("x")
    submit(world, job("room", vcpus=2))
    for at, share in enumerate("aababb"):
        submit(world, of_share(f"{share}{at}", share))
    x = world.state.queues["x"]
    assert [job.id for job, _ in front(x)] == ["a0", "b2", "a1", "b4", "a3", "b5"]
    world.tell(UpdateSchedulingPolicy(1, "even", FairShare(weights=(("b", 9_999_999),))))  # b gets next to nothing
    assert [job.id for job, _ in front(x)] == ["a0", "b2", "a1", "a3", "b4", "b5"]


def of_share(key: str, share: str) -> JobPlan:
    return job(key, queue="x", share=share)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("fifo", "even", "queue fifo is FIFO: a scheduling policy is given to a queue when it is created"),
        ("x", "", "queue x has a scheduling policy: it can be replaced by another one, not removed"),
        ("x", "none", "scheduling policy none does not exist"),
        (
            "x",
            "own",
            "the scheduling policy of queue own is its own, and changes where the queue is declared: create one to share it",
        ),
        ("x", "even", {"queue": "x"}),
        ("x", "other", {"queue": "x"}),
        ("own", "own", {"queue": "own"}),
        ("own", "other", {"queue": "own"}),
        ("fifo", "", {"queue": "fifo"}),
    ],
)
def test_what_a_queue_may_change(name: str, change: str, said: object) -> None:
    world = World(queues=(queue("fifo"), Queue("own", policy=LONG)))
    world.tell(CreateSchedulingPolicy(1, "even", EVEN), CreateSchedulingPolicy(2, "other", HALF))
    world.tell(CreateQueue(3, Queue("x", policy_name="even")))
    assert answered(world, UpdateQueue(4, name, QueueChange(policy_name=change))) == said


def test_one_that_is_used_is_not_deleted() -> None:
    world = shared("y", "x")
    refused = "Cannot delete, found existing JobQueue relationship (x, y)"
    assert answered(world, DeleteSchedulingPolicy(1, "even")) == refused
    for name in "xy":
        world.tell(UpdateQueue(2, name, QueueChange(enabled=False)), DeleteQueue(3, name))
    assert answered(world, DeleteSchedulingPolicy(4, "even")) == {"scheduling_policy": "even"}
    assert world.outcome.writes.scheduling == {"even": None}
    assert answered(world, DeleteSchedulingPolicy(5, "even")) == "scheduling policy even does not exist"


def test_a_name_is_given_once() -> None:
    world = World(queues=(Queue("own", policy=LONG),))
    world.tell(CreateSchedulingPolicy(1, "even", EVEN))
    for name in ("even", "own"):
        said = f"Object already exists: there is a scheduling policy {name}"
        assert answered(world, CreateSchedulingPolicy(2, name, EVEN)) == said
    refused = answered(world, CreateQueue(3, Queue("x", policy_name="none")))
    assert refused == "scheduling policy none does not exist"


def test_another_policy_of_the_settings_takes_the_place_of_a_shared_one() -> None:
    mine = Queue("own", policy=LONG)
    world = World(queues=(mine,))
    world.tell(CreateSchedulingPolicy(1, "even", EVEN))
    world.tell(UpdateQueue(2, "own", QueueChange(policy_name="even")))
    world.tell(Configure((environment(),), (mine,)))
    assert world.state.queues["own"].spec.policy_name == "even"
    world.tell(Configure((environment(),), (replace(mine, policy=HALF),)))
    spec = world.state.queues["own"].spec
    assert (spec.policy_name, spec.policy) == ("", HALF)
    world.tell(UpdateSchedulingPolicy(3, "even", LONG))
    assert world.state.queues["own"].spec.policy == HALF


def test_limits_that_a_command_gives_hold_for_the_head_that_is_blocked() -> None:
    world = World(environment(2))
    submit(world, job("big", memory_mib=9_000))
    limit = TimeLimit(reason_code(JOB_REQUIREMENT), 600_000)
    world.tell(UpdateQueue(1, "default", QueueChange(limits=(limit,))))
    begun = world.now
    world.tell(at=begun + 599_999)
    assert world.job("big").status is Status.RUNNABLE
    world.tell(at=begun + 600_000)
    assert not world.state.jobs


def test_a_reservation_is_a_part_of_what_an_unmanaged_environment_is_said_to_have() -> None:
    """unmanagedvCpus (aws-batch.md §9.4); of other environments what they have."""
    farm = Environment(
        "farm", "fake", Resources(), type=EnvironmentType.UNMANAGED, nodes=(Node("n1", Resources(4_000, 64)),)
    )
    for said, counted in ((None, 6_000), (16_000, 18_000)):
        world = World(environment(2), replace(farm, share_vcpus_milli=said), queues=(queue("q", 1, "default", "farm"),))
        assert vcpus_of(world.state, world.state.queues["q"]) == counted


# --- any of it, at any time, with a crash behind every turn


class Life:
    """A machine on a store of dicts. After every turn the store says what the memory does."""

    def __init__(self, *queues: Queue) -> None:
        self.store, self.now, self.ticket = DictStore(), Millis(1_000), 0
        self.settings = Configure((environment(3),), queues)
        self.begin()

    def begin(self) -> None:
        self.machine = Machine(rebuild(self.store.begin_life(rebooted=False)))
        self.tell([self.settings])

    def tell(self, stimuli: Iterable[Stimulus]) -> Outcome:
        outcome = self.machine.handle(stimuli, self.now)
        self.store.commit(outcome.writes)
        state = self.machine.state
        check(state)
        ours, stored = (canonical(each, self.now) for each in (state, rebuild(self.store.load())))
        for key, value in ours.items():
            assert value == stored[key], f"rebuild differs in {key}:\n ours   {value}\n stored {stored[key]}"
        return outcome


@pytest.mark.parametrize("seed", range(12))
def test_what_is_stored_is_what_is_known_whatever_is_changed(seed: int) -> None:
    rng = random.Random(seed)
    life = Life(queue("fifo"), Queue("own", policy=LONG))
    policies, queues = ("even", "half", "own"), ("x", "y", "own")
    refusals = changes = 0
    for step in range(80):
        life.now = Millis(life.now + rng.choice((0, 1_000, 20_000, 300_000, 4_000_000)))
        name, policy = rng.choice(queues), rng.choice(policies)
        shape = FairShare(rng.choice((0, 3_600_000, 86_400_000)), rng.choice((0, 30)), rng.choice(((), HALF.weights)))
        live = [each.key for each in life.machine.state.live.values()]
        kind = rng.choice(("policy", "policy", "swap", "queue", "job", "job", "job", "end", "end", "drop", "life"))
        told: list[Stimulus]
        match kind:
            case "policy":
                told = [CreateSchedulingPolicy(step, policy, shape), UpdateSchedulingPolicy(step, policy, shape)]
            case "swap":
                told = [UpdateQueue(step, name, QueueChange(policy_name=policy))]
            case "queue":
                told = [CreateQueue(step, Queue(name, policy_name=policy))]
            case "job":
                told = [SubmitJob(step, job(f"j{step}", queue=name, size=2, share=rng.choice("abc")))]
            case "end":
                told = [Started(key, life.now) for key in live[:2]]
                told += [Exited(key, life.now, Evidence(0)) for key in live[:2]]
            case "drop":
                told = [UpdateQueue(step, "y", QueueChange(enabled=False)), DeleteQueue(step, "y")]
                told += [DeleteSchedulingPolicy(step, policy)]
            case _:
                life.begin()
                continue
        answers = [effect for effect in life.tell(told).effects if isinstance(effect, Answer)]
        refusals += sum(each.error is not None for each in answers)
        changes += sum(each.error is None for each in answers)
    assert refusals > 5
    assert changes > 10
