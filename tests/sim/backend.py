"""A backend that keeps the contract of ports.Backend: it drops duplicates, answers each launch, forgets only when told.

`durable` ones live on when the engine dies, as processes under a supervisor do; the others die with it. Both die with the machine.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from msgspec import Struct

from flowbatch.model.effects import Launch
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started
from tests.sim.plans import Script

Fact = Started | LaunchFailed | Exited


class Outside(Protocol):
    """What a backend needs of the world."""

    now: int

    def stamp(self) -> Millis: ...

    def at(self, time: int, action: Callable[..., None], *args: object) -> None: ...

    def tell(self, fact: Fact) -> None: ...

    def script(self, key: AttemptKey) -> Script: ...

    def remembers_start(self) -> bool: ...

    def knows_start(self, key: AttemptKey) -> bool: ...


class Phase(IntEnum):
    QUEUED = 0
    RUNNING = 1
    ENDED = 2


class Execution(Struct, eq=False):
    key: AttemptKey
    resources: Resources
    environment: str
    script: Script
    timeout_ms: int | None
    phase: Phase = Phase.QUEUED
    started_at: Millis | None = None
    ended_at: Millis | None = None
    evidence: Evidence | None = None
    stopped: bool = False


class SimBackend:
    def __init__(self, name: str, world: Outside, *, durable: bool, enforces_timeout: bool) -> None:
        self.name = name
        self.world = world
        self.durable = durable
        self.enforces_timeout = enforces_timeout
        self.held: dict[AttemptKey, Execution] = {}
        self.begun: set[AttemptKey] = set()  # since the machine booted, where the backend is durable
        self.starts: dict[AttemptKey, int] = {}
        self.produced: dict[AttemptKey, int | None] = {}  # exit codes that really came to be
        self.running: dict[tuple[str, int, int], AttemptKey] = {}

    def launch(self, effect: Launch) -> None:
        key = effect.key
        if key in self.held:
            return
        assert key not in self.begun, f"{key.id} is launched again after it was forgotten"
        timeout = effect.timeout_ms if self.enforces_timeout else None
        execution = Execution(key, effect.resources, effect.environment, self.world.script(key), timeout)
        self.held[key] = execution
        self.begun.add(key)
        self.world.at(self.world.now + execution.script.delay_ms, self.begin, execution)

    def begin(self, execution: Execution) -> None:
        key = execution.key
        if self.held.get(key) is not execution or execution.phase is not Phase.QUEUED:
            return
        now = self.world.now
        if execution.stopped or execution.script.refused:
            reason = "CannotStartContainerError: no such file" if not execution.stopped else None
            self.finish(execution, Evidence(start_error=reason))
            self.world.tell(LaunchFailed(key, self.world.stamp(), Evidence(start_error=reason)))
            return
        slot = (key.job, key.idx, key.member)
        assert slot not in self.running, f"{key.id} starts while {self.running[slot].id} still runs"
        for (job, idx, _), other in self.running.items():
            same = idx != key.idx or job != key.job or other.attempt == key.attempt
            assert same, f"{key.id} starts while {other.id} of another attempt still runs"
        self.running[slot] = key
        self.starts[key] = self.starts.get(key, 0) + 1
        execution.phase = Phase.RUNNING
        execution.started_at = self.world.stamp()
        self.world.tell(Started(key, execution.started_at, image=key.id))
        script = execution.script
        if script.lost:
            self.world.at(now + (script.duration_ms or 0), self.lose, execution)
        elif script.duration_ms is not None:
            self.world.at(now + script.duration_ms, self.end, execution, script.code, script.oom)
        if execution.timeout_ms is not None:
            self.world.at(now + execution.timeout_ms, self.enforce, execution)

    def enforce(self, execution: Execution) -> None:
        self.end(execution, 137, timed_out=True)

    def end(self, execution: Execution, code: int, oom: bool = False, timed_out: bool = False) -> None:
        if self.held.get(execution.key) is not execution or execution.phase is not Phase.RUNNING:
            return
        evidence = Evidence(code, oom=oom, timed_out=timed_out)
        self.produced[execution.key] = code
        self.finish(execution, evidence)
        started_at = execution.started_at if self.world.remembers_start() else None
        self.world.tell(Exited(execution.key, self.world.stamp(), evidence, started_at))

    def finish(self, execution: Execution, evidence: Evidence) -> None:
        execution.phase = Phase.ENDED
        execution.ended_at = self.world.stamp()
        execution.evidence = evidence
        self.running.pop((execution.key.job, execution.key.idx, execution.key.member), None)

    def lose(self, execution: Execution) -> None:
        """Removed behind our back (once its start is on record: before, the backend owes an answer), or killed unseen."""
        if self.held.get(execution.key) is not execution or execution.phase is not Phase.RUNNING:
            return
        if execution.key.idx % 2 or not self.world.knows_start(execution.key):
            self.finish(execution, Evidence(lost=True))
            self.world.tell(Exited(execution.key, self.world.stamp(), Evidence(lost=True), execution.started_at))
        else:
            self.running.pop((execution.key.job, execution.key.idx, execution.key.member), None)
            del self.held[execution.key]

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        execution = self.held.get(key)
        if execution is None or execution.stopped or execution.phase is Phase.ENDED:
            return
        execution.stopped = True
        if execution.phase is Phase.RUNNING:
            code, delay = ((143, 0), (0, 500), (137, grace_ms), (143, 1000))[execution.script.stubborn]
            self.world.at(self.world.now + delay, self.end, execution, code)

    def forget(self, key: AttemptKey) -> None:
        execution = self.held.get(key)
        if execution is not None:
            assert execution.phase is Phase.ENDED, f"{key.id} is forgotten while it lives"
            del self.held[key]

    def census(self) -> tuple[Observation, ...]:
        return tuple(
            Observation(each.key, each.started_at, each.ended_at, each.evidence) for each in self.held.values()
        )

    def repeat_ends(self) -> None:
        """After a reconnect: what ended and is not forgotten is told again."""
        for each in self.held.values():
            if each.evidence is not None and each.ended_at is not None and each.started_at is not None:
                self.world.tell(Exited(each.key, each.ended_at, each.evidence, each.started_at))

    def engine_died(self, *, rebooted: bool) -> None:
        if rebooted or not self.durable:
            self.held.clear()
            self.running.clear()
            if not self.durable:
                self.begun.clear()

    def alive(self, attempt: AttemptKey) -> list[AttemptKey]:
        """What of this attempt is about to run, or runs."""
        job, idx, number, _ = attempt
        return [
            key
            for key, each in self.held.items()
            if key[1] == idx and key[2] == number and key[0] == job and each.phase is not Phase.ENDED
        ]

    def used(self) -> dict[str, list[int]]:
        """What really lives or is about to, per environment."""
        found: dict[str, list[int]] = {}
        for each in self.held.values():
            if each.phase is not Phase.ENDED:
                sums = found.setdefault(each.environment, [0, 0, 0])
                for number, amount in enumerate(each.resources):
                    sums[number] += amount
        return found
