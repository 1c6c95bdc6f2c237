"""Three-word builders for core tests, and a world that answers every launch by hand."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from flowbatch.core import invariants
from flowbatch.core.machine import Machine
from flowbatch.core.state import Job, State
from flowbatch.core.timers import TimerKind
from flowbatch.model.effects import Answer, Effect, Forget, Launch, Stop
from flowbatch.model.ending import Evidence
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import ALONE, AttemptKey, JobId, Millis, RunId
from flowbatch.model.jobspec import (
    After,
    Environment,
    JobPlan,
    JobSpec,
    Members,
    Need,
    NodeGroup,
    Part,
    Queue,
    RetryPolicy,
    RunPlan,
    Stage,
    When,
)
from flowbatch.model.outcome import Outcome
from flowbatch.model.queues import FairShare, TimeLimit
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Configure, Exited, LaunchFailed, Started, Stimulus, SubmitRun

ONE = Resources(1000)


def environment(vcpus: float = 4, memory_mib: int = 4096, name: str = "default", backend: str = "fake") -> Environment:
    return Environment(name, backend, Resources(int(vcpus * 1000), memory_mib))


def queue(
    name: str = "default",
    priority: int = 1,
    *environments: str,
    max_running: int | None = None,
    policy: FairShare | None = None,
    limits: tuple[TimeLimit, ...] = (),
) -> Queue:
    return Queue(name, priority, environments or ("default",), max_running=max_running, policy=policy, limits=limits)


def need(job: str, when: When = When.SUCCESS, *, each: bool = False) -> Need:
    return Need(JobId(job), when, each)


def job(
    key: str,
    *,
    size: int | None = None,
    needs: Iterable[Need | str] = (),
    vcpus: float = 1,
    memory_mib: int = 0,
    attempts: int = 1,
    stage: Stage = Stage.MAIN,
    retry: RetryPolicy | None = None,
    queue: str = "default",
    sequential: bool = False,
    max_running: int | None = None,
    tolerate: int = 0,
    priority: int = 0,
    timeout_ms: int | None = None,
    share: str | None = None,
) -> JobPlan:
    """A job whose id is its key."""
    spec = JobSpec(
        key,
        queue,
        ("true",),
        Resources(int(vcpus * 1000), memory_mib),
        size,
        tuple(need(each) if isinstance(each, str) else each for each in needs),
        sequential,
        max_running,
        tolerate,
        priority,
        timeout_ms=timeout_ms,
        retry=retry or RetryPolicy(attempts),
        share=share,
    )
    return JobPlan(JobId(key), spec, stage)


def plan(*jobs: JobPlan, run: str = "run", deadline_ms: int | None = None) -> RunPlan:
    return RunPlan(RunId(run), "flow", jobs, deadline_ms=deadline_ms)


class World:
    """A machine whose outcomes are looked at one by one; invariants run after every turn."""

    def __init__(
        self, *environments: Environment, queues: tuple[Queue, ...] = (), child_events: ChildEvents = ChildEvents.NONE
    ) -> None:
        self.machine = Machine(State(child_events=child_events))
        self.now = Millis(1_000)
        self.effects: list[Effect] = []
        self.outcome = Outcome(0)
        self.tell(Configure(environments or (environment(),), queues or (queue(),)))

    @property
    def state(self) -> State:
        return self.machine.state

    def tell(self, *stimuli: Stimulus, at: int | None = None) -> Outcome:
        if at is not None:
            self.now = Millis(at)
        self.outcome = self.machine.handle(stimuli, self.now)
        self.effects += self.outcome.effects
        invariants.check(self.state)
        return self.outcome

    def submit(self, *jobs: JobPlan, run: str = "run", deadline_ms: int | None = None) -> Outcome:
        return self.tell(SubmitRun(1, plan(*jobs, run=run, deadline_ms=deadline_ms)))

    def launched(self) -> list[str]:
        """Takes the launches asked for since last time, as `job:index#attempt`, `job:index@member#attempt`."""
        keys = [effect.key for effect in self.effects if isinstance(effect, Launch)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, Launch)]
        return [short(key) for key in keys]

    def stops(self) -> list[str]:
        found = [effect for effect in self.effects if isinstance(effect, Stop)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, Stop)]
        return [f"{short(effect.key)} {effect.why.name}" for effect in found]

    def forgets(self) -> list[str]:
        return [short(effect.key) for effect in self.effects if isinstance(effect, Forget)]

    def answers(self) -> list[Answer]:
        return [effect for effect in self.effects if isinstance(effect, Answer)]

    def job(self, key: str) -> Job:
        return self.state.jobs[JobId(key)]

    def statuses(self, key: str) -> str:
        """A letter a child: S P R s(tarting) r(unning) + (succeeded) - (failed)."""
        return "".join("SPRsr+-"[cell & 7] for cell in self.job(key).cells)

    def timer(self, kind: TimerKind) -> Millis | None:
        """When the next one of that kind comes."""
        return min((timer.at for timer in self.state.timers.heap if timer.kind is kind), default=None)

    def start(self, *names: str) -> Outcome:
        return self.tell(*(Started(parse(name), self.now) for name in names))

    def end(self, *names: str, code: int | None = 0, evidence: Evidence | None = None) -> Outcome:
        """Ends attempts, with a start where none was told."""
        proof = evidence or Evidence(code)
        return self.tell(*(Exited(parse(name), self.now, proof, self.now) for name in names))

    def refuse(self, name: str, reason: str = "CannotStartContainerError: no such file") -> Outcome:
        return self.tell(LaunchFailed(parse(name), self.now, Evidence(start_error=reason)))


def short(key: AttemptKey) -> str:
    member = "" if key.member == ALONE else f"@{key.member}"
    return f"{key.job}:{key.idx}{member}#{key.attempt}"


def parse(name: str) -> AttemptKey:
    """`a`, `a:3`, `a:3#2`, `a@1`, `a:3@1#2`; index 0 and attempt 1 where they are left out."""
    rest, _, attempt = name.partition("#")
    rest, _, member = rest.partition("@")
    job_id, _, index = rest.partition(":")
    return AttemptKey(JobId(job_id), int(index or 0), int(attempt or 1), int(member) if member else ALONE)


def gang(nodes: int = 3, *, main: int = 0, node_vcpus: float = 1, **changes: object) -> JobPlan:
    """A multi-node job whose nodes are alike, `g` unless its key is given."""
    made = job(str(changes.pop("key", "g")), **changes)  # type: ignore[arg-type]
    one = replace(made.spec, resources=Resources(int(node_vcpus * 1000)))
    members = Members((NodeGroup(0, nodes - 1, (Part("", one),)),), nodes, main)
    return replace(made, spec=replace(made.spec, members=members, resources=one.resources.times(nodes)))


def crewed(
    *parts: tuple[str, bool, tuple[After, ...]], start_timeout_ms: int | None = None, **changes: object
) -> JobPlan:
    """A job `t` of several containers: name, essential, dependsOn."""
    made = job(str(changes.pop("key", "t")), **changes)  # type: ignore[arg-type]
    found = tuple(
        Part(name, made.spec, needful, after, start_timeout_ms if after else None) for name, needful, after in parts
    )
    members = Members((NodeGroup(0, 0, found),))
    return replace(made, spec=replace(made.spec, members=members, resources=made.spec.resources.times(len(parts))))


def with_free_losses(policy: RetryPolicy, count: int) -> RetryPolicy:
    return replace(policy, lost_free=count)


__all__ = ["ONE", "Status", "World", "environment", "job", "need", "plan", "queue", "short", "with_free_losses"]
