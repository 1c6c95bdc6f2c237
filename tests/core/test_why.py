"""`why`: one sentence, with figures."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.core.scheduler import RESERVE_AFTER_MS
from flowbatch.core.why import explain
from flowbatch.model.jobspec import RetryPolicy, Stage, When
from flowbatch.model.queues import FairShare
from flowbatch.model.stimuli import Configure, Drain, Interrupt, Tick
from tests.core.builders import World, environment, job, need, queue


def why(world: World, name: str, index: int | None = None) -> str:
    return explain(world.state, world.job(name), index, world.now)


def test_what_it_waits_for() -> None:
    world = World(environment(vcpus=1, memory_mib=1024))
    world.submit(
        job("a", size=3),
        job("b", needs=["a", need("c", When.FAILURE)]),
        job("c", memory_mib=2048),
        job("d", size=3, sequential=True, needs=[need("a", each=True)]),
        job("z", stage=Stage.FINALLY),
    )
    assert why(world, "b") == (
        "b is PENDING: it waits for a (0 of 3 children have ended) to succeed and c (RUNNABLE) to fail"
    )
    assert why(world, "d", 1) == (
        "d:1 is PENDING: it waits for a:1 (RUNNABLE) to succeed and child 0 (PENDING), since the array is sequential"
    )
    assert why(world, "z") == "z is PENDING: it waits for the run to end (4 jobs are open)"
    assert why(world, "a", 1) == ("a:1 is RUNNABLE: it needs 1 vCPU; default has 0 of 1 vCPUs free, 1 tasks run there")
    assert why(world, "a") == (
        "a is PENDING: 2 RUNNABLE, 1 STARTING; child 1 is RUNNABLE: it needs 1 vCPU; default has 0 of 1 vCPUs free, "
        "1 tasks run there"
    )
    assert why(world, "c") == (
        "c is RUNNABLE, blocked (MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT): it needs 1 vCPU, 2 GiB; default will never do: it "
        "has 1 GiB in all"
    )


def test_what_runs_and_what_has_ended() -> None:
    world = World()
    world.submit(job("a"), job("b"))
    world.start("a")
    world.tell(Tick(), at=5_000)
    assert why(world, "a") == "a is RUNNING for 4 s in environment default, attempt 1"
    world.tell(Interrupt())
    assert why(world, "a").endswith("attempt 1; it was asked to stop (interrupt)")
    world.end("b")
    assert why(world, "b") == "b has ended: SUCCEEDED, Essential container in task exited"


def test_limits_backoff_and_drains() -> None:
    world = World(environment(vcpus=9), queues=(queue(max_running=3),))
    world.submit(job("a", size=4, max_running=2), job("b", size=2), job("c", retry=RetryPolicy(2, 9_000, 9_000)))
    assert why(world, "a", 3) == "a:3 is RUNNABLE: 2 of its array run already, and max_running is 2"
    assert why(world, "c") == "c is RUNNABLE: queue default runs 3, and its max_running is 3"
    world.end("a:0", "a:1")
    world.end("a:2", "a:3", "b:0")
    world.end("c", code=1)
    assert why(world, "c") == "c is RUNNABLE: attempt 2 starts in 9 s (backoff)"
    world.tell(Drain())
    world.submit(job("d"), run="other")
    assert why(world, "d") == "d is RUNNABLE: the engine is draining and starts nothing new"


def test_a_reservation_is_named() -> None:
    world = World(environment(vcpus=4))
    world.submit(job("a", vcpus=3), job("big", vcpus=4), job("small", size=3))
    world.tell(Tick(), at=1_000 + RESERVE_AFTER_MS)
    world.end("small:0")
    assert why(world, "small", 1) == (
        "small:1 is RUNNABLE: it needs 1 vCPU; default has room, but keeps it for big:0, which needs 4 vCPU and has waited "
        "30 s (a job at the head holds a reservation after 30 s)"
    )


def test_places_that_cannot() -> None:
    world = World(environment(backend="docker"))
    world.submit(job("a"))
    assert why(world, "a") == (
        "a is RUNNABLE, blocked (UNDETERMINED): no environment of queue default can run a process job"
    )
    world.tell(Configure((replace(environment(), enabled=False),), (queue(),)))
    assert why(world, "a") == "a is RUNNABLE: it needs 1 vCPU; default is disabled"


def test_a_held_run_says_how_to_go_on() -> None:
    world = World(environment(vcpus=1))
    world.submit(job("a", size=2))
    for run in world.state.runs.values():
        run.held = True
    assert why(world, "a", 1) == "a:1 is RUNNABLE: its run was interrupted; `flowbatch resume run` continues it"


def test_shares_and_the_reservation_are_explained() -> None:
    world = World(environment(vcpus=4), queues=(queue(policy=FairShare(reservation=50)),))
    world.submit(job("a", size=9, share="ann"), job("b", size=9, share="bob"))
    assert why(world, "a", 5) == (
        "a:5 is RUNNABLE: it needs 1 vCPU; default has room: it starts in a moment, after those before it in the queue; queue "
        "default keeps vCPUs for shares that are not active yet: its 2 active shares may have 3 of 4, and have 3"
    )
    world = World(environment(vcpus=3), queues=(queue(policy=FairShare()),))
    world.submit(job("a", size=9, share="ann"), job("b", size=9, share="bob"))
    assert why(world, "a", 5).endswith("3 tasks run there; share ann holds 2 vCPU, and 1 other share comes first")
    assert why(world, "b", 5).endswith("3 tasks run there; share bob holds 1 vCPU, and it is the turn of its share")
