"""What a placement decision costs the core: one attempt ends, the next one is placed. Prints JSON.

`depth`: 50 queues with few and with many waiting tasks. `shares`: the same work in one FIFO queue and in one with 500 active
shares. Two worlds take turns, so that a noisy machine disturbs both; means are compared.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from uuid import uuid4

from flowbatch.core.machine import Machine
from flowbatch.core.state import State
from flowbatch.model.effects import Launch
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.queues import FairShare
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Configure, Exited, SubmitRun

QUEUES, SLOTS, ROUNDS, DECISIONS = 50, 100, 300, 10
EVERY_MS = 20  # virtual time between two decisions: 50 a second
DONE = Evidence(0)


class World:
    """A machine whose environment is full and whose queues wait; the oldest attempt ends, again and again."""

    def __init__(self, queues: tuple[Queue, ...], jobs: list[JobPlan]) -> None:
        self.machine = Machine(State())
        self.now = Millis(1_000_000)
        self.live: list[AttemptKey] = []
        self.runs = 0
        self.taken: dict[tuple[str, str | None], int] = {}  # since the last time that work came, by queue and share
        place = Environment("default", "fake", Resources(SLOTS * 1000))
        self.machine.handle([Configure((place,), queues)], self.now)
        self.submit(jobs)
        self.taken.clear()
        assert len(self.live) == SLOTS, len(self.live)

    def submit(self, jobs: list[JobPlan]) -> None:
        self.runs += 1
        plan = RunPlan(RunId(f"run{self.runs}"), "bench", tuple(jobs))
        self.note(self.machine.handle([SubmitRun(1, plan)], self.now))

    def note(self, outcome: Outcome) -> None:
        for effect in outcome.effects:
            if isinstance(effect, Launch):
                self.live.append(effect.key)
                kind = (effect.spec.queue, effect.spec.share)
                self.taken[kind] = self.taken.get(kind, 0) + 1

    def refill(self) -> None:
        """As much work comes as was taken, where it was taken: every decision has the same to choose from."""
        kinds, self.taken = self.taken, {}
        self.submit([job(queue, size, share) for (queue, share), size in kinds.items()])

    def decide(self, count: int) -> float:
        """Seconds of CPU per decision."""
        machine, spent = self.machine, 0.0
        for _ in range(count):
            self.now = Millis(self.now + EVERY_MS)
            fact = Exited(self.live.pop(0), self.now, DONE, self.now)
            begun = time.thread_time()
            outcome = machine.handle([fact], self.now)
            spent += time.thread_time() - begun
            self.note(outcome)
        assert len(self.live) == SLOTS
        self.refill()
        return spent / count


def job(queue: str, size: int, share: str | None = None) -> JobPlan:
    spec = JobSpec("j", queue, ("true",), Resources(1000), size, share=share)
    return JobPlan(JobId(str(uuid4())), spec)


def deep(waiting: int) -> World:
    """So many tasks in 50 queues, in arrays of at most 10,000."""
    queues = tuple(Queue(f"q{number}", number % 5) for number in range(QUEUES))
    jobs = [job(queues[number % QUEUES].name, 1 + SLOTS // QUEUES) for number in range(QUEUES)]
    for queue in queues:
        sizes = (min(10_000, waiting // QUEUES - begin) for begin in range(0, waiting // QUEUES, 10_000))
        jobs += [job(queue.name, size) for size in sizes]
    return World(queues, jobs)


def shared(shares: int) -> World:
    """500 arrays in one queue: FIFO, or each of a share of its own."""
    policy = FairShare(3_600_000) if shares else None
    names = [f"s{number}" if shares else None for number in range(500)]
    return World((Queue("q", policy=policy),), [job("q", 20, name) for name in names])


def compare(one: World, other: World) -> dict[str, float]:
    ours: list[float] = []
    theirs: list[float] = []
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        ours.append(one.decide(DECISIONS))
        theirs.append(other.decide(DECISIONS))
    base, cost = statistics.mean(ours), statistics.mean(theirs)
    return {"base_us": base * 1e6, "us": cost * 1e6, "ratio": cost / base}


def main(what: str) -> dict[str, float]:
    if what == "depth":
        return compare(deep(1_000), deep(1_000_000))
    return compare(shared(0), shared(500))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
