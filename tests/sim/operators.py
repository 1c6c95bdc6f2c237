"""What operators do to environments, nodes and queues in the middle of things."""

from __future__ import annotations

import random

from flowbatch.model.container import Cpu
from flowbatch.model.jobspec import Queue
from flowbatch.model.place_commands import (
    AddNode,
    CreateSchedulingPolicy,
    DeleteEnvironment,
    DeleteQueue,
    DeleteSchedulingPolicy,
    DrainNode,
    EnvironmentChange,
    QueueChange,
    RemoveNode,
    UpdateEnvironment,
    UpdateQueue,
    UpdateSchedulingPolicy,
)
from flowbatch.model.places import Node
from flowbatch.model.queues import FairShare
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Stimulus


def change_of_places(rng: random.Random, ticket: int, *, whole: bool) -> tuple[Stimulus, ...]:
    """One thing that somebody asks for; some are refused. `whole`: every run is stored, so that a queue may go."""
    name = rng.choice(("big", "small", "farm", "spot"))
    match rng.choice(
        ("node", "node", "node", "resize", "disable", "replace", "delete", "drop queue" if whole else "node")
    ):
        case "node":
            node = rng.choice(("n1", "n2", "n3"))
            choices: tuple[tuple[Stimulus, ...], ...] = (
                (AddNode(ticket, "farm", Node(node, Resources(2000, 2048, 1))),),
                (DrainNode(ticket, "farm", node),),
                (DrainNode(ticket, "farm", node), RemoveNode(ticket, "farm", node)),
                (RemoveNode(ticket, "farm", node),),
            )
            return rng.choice(choices)
        case "resize":
            vcpus = rng.choice((3000, 4000, 9000)) if name == "big" else rng.choice((1000, 2000))
            return (UpdateEnvironment(ticket, name, EnvironmentChange(max_vcpus_milli=vcpus)),)
        case "disable":
            off = UpdateEnvironment(ticket, "farm" if name == "big" else name, EnvironmentChange(enabled=False))
            return (off, UpdateEnvironment(ticket, "small", EnvironmentChange(enabled=True)))
        case "replace":
            change = EnvironmentChange(cpu=rng.choice((Cpu.SHARES, Cpu.QUOTA)))
            now = rng.random() < 0.5
            return (UpdateEnvironment(ticket, name, change, terminate_jobs=now, job_timeout_minutes=1),)
        case "delete":
            away = QueueChange(environments=("big",))
            detached = tuple(UpdateQueue(ticket, queue, away) for queue in ("q0", "q1", "q2", "qf"))
            off = UpdateEnvironment(ticket, "farm", EnvironmentChange(enabled=False))
            if rng.random() < 0.5:
                return (off, *detached, DeleteEnvironment(ticket, "farm"))
            return (off, DeleteEnvironment(ticket, "farm"), DeleteEnvironment(ticket, name))
        case _:
            queue = rng.choice(("qf", "qs"))
            off_queue = UpdateQueue(ticket, queue, QueueChange(enabled=False))
            return (off_queue, DeleteQueue(ticket, queue))


def change_of_policy(rng: random.Random, ticket: int, queues: list[Queue]) -> tuple[Stimulus, ...]:
    """Stored policies that queues share, of other weights and reservations. Each has the window of the queues that may come to have it:
    where usage goes when a window changes is approximate, and the book of the laws is exact."""
    queue = rng.choice(queues)
    assert queue.policy is not None
    decay_ms = queue.policy.decay_ms
    name = f"p{decay_ms}{rng.choice('xy')}"
    weights = rng.choice(((), (("a", 5_000),), (("b*", 20_000), ("c", 2_500)), (("a", 9_999_999),)))
    policy = FairShare(decay_ms, rng.choice((0, 0, 30)), weights)
    swap = UpdateQueue(ticket, queue.name, QueueChange(policy_name=name))
    match rng.choice(("swap", "swap", "update", "update", "delete")):
        case "swap":
            return (CreateSchedulingPolicy(ticket, name, policy), swap)
        case "update":
            return (CreateSchedulingPolicy(ticket, name, policy), UpdateSchedulingPolicy(ticket, name, policy))
        case _:
            return (DeleteSchedulingPolicy(ticket, name), swap)
