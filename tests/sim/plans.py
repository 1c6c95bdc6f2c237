"""From a seed: places, plans, and what each attempt will do. No state: the reference and the backend ask the same script."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.definition import Registration
from flowbatch.model.ids import ALONE, JobId, RunId
from flowbatch.model.jobspec import (
    Action,
    After,
    Condition,
    Environment,
    JobPlan,
    JobSpec,
    Members,
    Need,
    NodeGroup,
    Part,
    Queue,
    RetryPolicy,
    Rule,
    RunPlan,
    Stage,
    When,
)
from flowbatch.model.places import EnvironmentType, Node
from flowbatch.model.queues import JOB_REQUIREMENT, MAX_RESOURCE, FairShare, TimeLimit, reason_code
from flowbatch.model.resources import NOTHING, Resources
from flowbatch.model.stimuli import Configure
from flowbatch.model.tokens import Demand, Token, TokenKind

JOBS: Final = 9  # of a run's main stage, at most
SERIAL: Final = 6  # children one after another, at most: long rows of them are many turns that are all alike
TIMEOUT_MS: Final = 40_000
WHENS: Final = (When.SUCCESS,) * 6 + (When.FAILURE, When.DONE, When.DONE)
SHAPES: Final = (
    Resources(1000),
    Resources(1000),
    Resources(500),
    Resources(250, 256),
    Resources(2000, 512),
    Resources(1000, 1024),
    Resources(3000),
    Resources(500, 0, 1),
)
NEVER: Final = (Resources(64_000), Resources(1000, 1 << 20), Resources(500, 0, 2))  # no environment has so much
SHARES: Final = ("a", "b1", "b2", "c")
EXIT: Final = Rule(Action.EXIT, reason="*")
GROW: Final = Rule(Action.RETRY, reason="OutOfMemory*", memory_factor=2.0)
RULES: Final[tuple[tuple[Rule, ...], ...]] = (
    (),
    (),
    (GROW,),
    (Rule(Action.RETRY, status_reason="Host EC2*"), EXIT),
    (GROW, Rule(Action.EXIT, exit_code="2")),
    (Rule(Action.EXIT, exit_code="13*"), Rule(Action.RETRY, reason="Cannot*"), EXIT),
)
DURATIONS: Final = (0, 1000, 1000, 5000, 5000, 15_000, 35_000)
CODES: Final = (1, 1, 2, 3, 139)


class Script(Struct, frozen=True):
    """What one attempt does. `duration_ms` None: until it is stopped."""

    code: int
    duration_ms: int | None
    delay_ms: int = 0  # from the launch to the start
    oom: bool = False
    refused: bool = False  # the launch fails
    lost: bool = False  # the backend loses it in the middle
    stubborn: int = 0  # answers TERM: 0 with 143, 1 with exit 0, 2 only to KILL


class Habit(Struct, frozen=True):
    """How the attempts of a job are drawn."""

    fails: int  # of 256
    duration_ms: int
    spread: bool
    endless: int  # of 256
    loses: int  # of 256


class Scripts(Struct):
    seed: int
    habits: dict[JobId, tuple[int, Habit]]
    endless: set[tuple[JobId, int]] = field(default_factory=set)  # members that run until they are stopped
    finite: set[tuple[JobId, int]] = field(default_factory=set)  # members that end by themselves: others wait for that

    def of(self, job: JobId, idx: int, attempt: int, member: int = ALONE) -> Script:
        if (job, member) in self.endless:
            return Script(0, None)
        script = self.drawn(job, idx, attempt, member)
        if script.duration_ms is None and (job, member) in self.finite:
            return replace(script, duration_ms=1000)
        return script

    def drawn(self, job: JobId, idx: int, attempt: int, member: int) -> Script:
        number, habit = self.habits[job]
        draw = self.seed * 31 + number * 1_000_003 + idx * 7919 + attempt * 104_729 + (member + 1) * 15_485_863
        draw *= 2_654_435_761
        draw ^= draw >> 17
        draw = (draw * 0x9E3779B1) & 0xFFFFFFFFFF
        delay_ms = (0, 0, 0, 1500)[draw >> 33 & 3]
        duration: int | None = habit.duration_ms
        if habit.spread:
            duration = DURATIONS[(draw >> 25 & 0xFF) % 7]
        if draw >> 4 & 0xFF < habit.endless:
            duration = None
        stubborn = draw >> 2 & 3
        if draw >> 12 & 0xFF < habit.loses:
            return Script(0, duration or 1000, delay_ms, lost=True)
        if draw >> 20 & 0xFF >= habit.fails:
            return Script(0, duration, delay_ms, stubborn=stubborn)
        kind = draw >> 28 & 7
        if kind == 0:
            return Script(0, 0, delay_ms, refused=True)
        if kind <= 2:
            return Script(137, duration, delay_ms, oom=True)
        return Script(CODES[kind - 3], duration, delay_ms, stubborn=stubborn)


class Places(Struct):
    environments: tuple[Environment, ...]
    queues: tuple[Queue, ...]
    tokens: tuple[Token, ...] = ()
    host: Resources | None = None

    @property
    def configure(self) -> Configure:
        return Configure(self.environments, self.queues, self.tokens, self.host, host_fixed=True)


def make_tokens(rng: random.Random, *, calm: bool) -> tuple[Token, ...]:
    """Of half of the worlds. What is used up lasts to the end only where the world is calm."""
    if rng.random() < 0.5:
        return ()
    budget = 100_000 if calm else rng.choice((5, 20, 60))
    return (
        Token("licence", rng.choice((1, 2, 3, 5))),
        Token("link", rng.choice((2, 4))),
        Token("budget", budget, TokenKind.NON_REPLENISHABLE),
    )


def make_places(rng: random.Random, dice: random.Random) -> Places:
    """The first environment can run everything; the others only some. `dice` are for policies and limits alone: the rest of a
    world is the same with them and without."""
    kinds = rng.choice((("process", "process"), ("fake", "fake"), ("process", "fake"), ("fake", "local")))
    big = Environment("big", kinds[0], Resources(rng.choice((3000, 4000, 6000, 9000)), rng.choice((2048, 4096)), 1))
    small = Environment("small", kinds[1], Resources(rng.choice((1000, 2000)), 1024))
    names = rng.choice((("big",), ("big",), ("big", "small"), ("small", "big")))
    limit = 3 if rng.random() < 0.2 else None
    queues = [Queue("q0", 1, names, max_running=limit, policy=make_policy(dice), limits=make_limits(dice))]
    queues += [
        Queue(f"q{number}", rng.choice((1, 5)), rng.choice((("big",), ("small", "big"))), policy=make_policy(dice))
        for number in range(1, rng.choice((1, 1, 2, 3)))
    ]
    return Places((big, small), tuple(queues))


def make_policy(rng: random.Random) -> FairShare | None:
    if rng.random() < 0.55:
        return None
    weights = rng.choice(
        ((), (("a", 5_000),), (("b*", 10_000), ("c", 2_500)), (("b*", 15_000),), (("a", 9_999_999), ("c", 1)))
    )
    return FairShare(rng.choice((0, 900_000)), rng.choice((0, 0, 25, 60)), weights)


def make_limits(rng: random.Random) -> tuple[TimeLimit, ...]:
    """Shorter than AWS allows, so that they come within a world."""
    if rng.random() < 0.5:
        return ()
    return (TimeLimit(reason_code(MAX_RESOURCE), 40_000), TimeLimit(reason_code(JOB_REQUIREMENT), 20_000))


def share_host(rng: random.Random, places: Places, *, calm: bool) -> Places:
    """All on one host, whose guard is below their sum; with nodes; and where outcomes need not be known beforehand, with Spot."""
    big, small = places.environments
    host = Resources(
        big.capacity.vcpus_milli + rng.choice((500, 1000)), big.capacity.memory_mib + rng.choice((0, 512)), 1
    )
    small = replace(small, min_vcpus_milli=rng.choice((0, 500)))
    nodes = (Node("n1", Resources(2000, 1024, 1)), Node("n2", Resources(rng.choice((1000, 3000)), 2048)))
    farm = Environment("farm", big.backend, Resources(), type=EnvironmentType.UNMANAGED, nodes=nodes)
    environments: tuple[Environment, ...] = (big, small, farm)
    queues = [*places.queues, Queue("qf", rng.choice((1, 5)), rng.choice((("farm", "big"), ("big", "farm"))))]
    if not calm:
        spot = Environment("spot", big.backend, big.capacity, spot=True, notice_ms=20_000)
        environments += (spot,)
        queues.append(
            Queue("qs", rng.choice((1, 5)), rng.choice((("spot",), ("spot",), ("spot", "big"), ("big", "spot"))))
        )
    return Places(environments, tuple(queues), places.tokens, host)


class Author:
    """Writes plans; `calm` ones have no ends but their own, so that their outcome is known."""

    def __init__(self, rng: random.Random, seed: int, places: Places, *, calm: bool) -> None:
        self.rng = rng
        self.dice = random.Random(~seed)  # for shares, and jobs that never fit
        self.places = places
        self.calm = calm
        self.scripts = Scripts(seed, {})
        self.size = rng.choice((4, 6, 8, 12))

    def run(self, number: int, tasks: int) -> RunPlan:
        """Of jobs until there are so many tasks."""
        rng = self.rng
        main: list[JobPlan] = []
        while sum(each.spec.tasks for each in main) < tasks and len(main) < JOBS:
            main.append(self.job(f"r{number}j{len(main)}", main, Stage.MAIN))
        last: list[JobPlan] = []
        for index in range(rng.choice((0, 0, 1, 2))):
            last.append(self.job(f"r{number}f{index}", last, Stage.FINALLY))
        plans = [*main, *last]
        if rng.random() < 0.5:
            rng.shuffle(plans)
        deadline = rng.choice((30_000, 90_000)) if not self.calm and rng.random() < 0.15 else None
        definitions, plans = self.define(plans)
        return RunPlan(
            RunId(f"run{number}"), "flow", tuple(plans), deadline_ms=deadline, environments=self.places.environments,
            queues=self.places.queues, definitions=definitions,
            tokens=(Token(own_token(f"r{number}j"), 2),) if self.places.tokens else (),
        )  # fmt: skip

    def define(self, plans: list[JobPlan]) -> tuple[tuple[Registration, ...], list[JobPlan]]:
        """A few definitions that the runs of a world share by name, with contents that differ now and then."""
        draw = self.rng.random
        names = [f"d{number}" for number in range(int(draw() * 4))]
        made = tuple(Registration(name, "{}", f"digest{int(draw() * 2)}") for name in names)
        choices = [*names, *names, ""]
        return made, [
            replace(plan, spec=replace(plan.spec, definition=name))
            if (name := choices[int(draw() * len(choices))])
            else plan
            for plan in plans
        ]

    def job(self, key: str, before: list[JobPlan], stage: Stage) -> JobPlan:
        draw = self.rng.random
        array = draw() < (0.7 if stage is Stage.MAIN else 0.2)
        size = None
        if array:
            size = self.size if draw() < 0.7 else int(draw() * 4) if draw() < 0.5 else int(draw() * 14)
        timeout = TIMEOUT_MS if draw() < 0.25 else None
        long = draw() < 0.15
        habit = Habit(
            fails=(0, 0, 0, 20, 40, 60, 120, 256)[int(draw() * 8)],
            duration_ms=DURATIONS[int(draw() * 7)],
            spread=draw() < 0.4,
            endless=(60 if timeout else 0) if self.calm else 90 if timeout or long else 0,
            loses=0 if self.calm or draw() < 0.7 else 60,
        )
        tokens = self.tokens(key)
        job = JobId(key)
        self.scripts.habits[job] = (len(self.scripts.habits), habit)
        queues = self.places.queues
        queue = queues[int(draw() * len(queues))]
        shape = SHAPES[int(draw() * len(SHAPES))]
        if not self.calm and self.dice.random() < 0.03:
            shape = self.dice.choice(NEVER)
        spec = JobSpec(
            key,
            queue.name,
            ("true",),
            shape,
            size,
            self.needs(before, size),
            sequential=array and (size or 0) <= SERIAL and draw() < 0.12,
            max_running=1 + ((size or 0) > SERIAL) + int(draw() * 3) if array and draw() < 0.2 else None,
            tolerate=int(draw() * (size or 1)) if array and draw() < 0.3 else 0,
            priority=5 if draw() < 0.15 else 0,
            timeout_ms=timeout,
            retry=self.retry(),
            share=None if queue.policy is None else self.dice.choice(SHARES),
            tokens=tokens,
        )
        if draw() < 0.15:
            members = self.members(spec)
            total = NOTHING
            for group in members.groups:
                for part in group.parts * (group.last - group.first + 1):
                    total = total.plus(part.spec.resources)
            spec = replace(spec, members=members, resources=total)
        return JobPlan(job, spec, stage)

    def members(self, spec: JobSpec) -> Members:
        """Several nodes where it is no array, else several containers; all together fit the first environment."""
        draw = self.rng.random
        if spec.size is not None or draw() < 0.3:
            parts = self.containers(spec, 0)
            return Members((NodeGroup(0, 0, parts),))
        nodes = 1 + int(draw() * 5)
        split = 1 + int(draw() * (nodes - 1)) if nodes > 1 and draw() < 0.5 else nodes
        groups, first = [], 0
        for low, high in ((0, split), (split, nodes)):
            if low < high:
                one = draw() < 0.75 or nodes > 3
                parts = (Part("", self.member_spec(spec)),) if one else self.containers(spec, first)
                groups.append(NodeGroup(low, high - 1, parts))
                for node in range(1, high - low):
                    self.copy_habits(spec, first, len(parts), node)
                first += len(parts) * (high - low)
        return Members(tuple(groups), nodes, int(draw() * nodes))

    def copy_habits(self, spec: JobSpec, first: int, count: int, node: int) -> None:
        job = JobId(spec.key)
        for known in (self.scripts.endless, self.scripts.finite):
            known |= {
                (job, member + node * count)
                for name, member in known
                if name == job and first <= member < first + count
            }

    def member_spec(self, spec: JobSpec) -> JobSpec:
        shape = (Resources(100), Resources(250, 100), Resources(200, 50), Resources(250))[int(self.rng.random() * 4)]
        return replace(spec, resources=shape, size=None, needs=())

    def containers(self, spec: JobSpec, first: int) -> tuple[Part, ...]:
        """In any order; what one waits for is another that waits for less. A calm one has one essential container."""
        draw, job = self.rng.random, JobId(spec.key)
        count = 1 + int(draw() * 3)
        order = list(range(count))
        self.rng.shuffle(order)
        needful = {order[int(draw() * count)]}
        if not self.calm:
            needful |= {place for place in order if draw() < 0.4}
        keeper = count if draw() < 0.5 else None
        found: dict[int, Part] = {}
        for nth, place in enumerate(order):
            after = [After(keeper)] if keeper is not None else []
            for source in order[:nth]:
                if draw() < 0.5:
                    conditions = [Condition.START] if source in needful else list(Condition)
                    after.append(After(source, conditions[int(draw() * len(conditions))]))
                    if after[-1].condition is not Condition.START:
                        self.scripts.finite.add((job, first + source))
            impatient = after and not self.calm and draw() < 0.4
            found[place] = Part(
                f"c{place}", self.member_spec(spec), place in needful, tuple(after),
                (2000, 8000, 30_000)[int(draw() * 3)] if impatient else None,
            )  # fmt: skip
        parts = [found[place] for place in range(count)]
        if keeper is not None:
            self.scripts.endless.add((job, first + keeper))
            parts.append(Part("", replace(self.member_spec(spec), resources=NOTHING), essential=False, holder=True))
        return tuple(parts)

    def alone(self, before: list[JobPlan]) -> list[JobPlan]:
        """Jobs without a run, in an order in which they can be submitted; they need those of runs, and one another."""
        found: list[JobPlan] = []
        for index in range(1 + int(self.rng.random() * 4)):
            made = self.job(f"a{index}", [], Stage.MAIN)
            others = [each for each in (*before[-8:], *found[-4:]) if each.stage is Stage.MAIN]
            needs = tuple(self.needs_alone(others, made.spec.size))
            shared = tuple(each for each in made.spec.tokens if not each[0].endswith("/own"))
            spec = replace(made.spec, needs=needs, max_running=None, tolerate=0, priority=0, tokens=shared)
            found.append(replace(made, spec=spec))
        return found

    def needs_alone(self, others: list[JobPlan], size: int | None) -> Iterator[Need]:
        """AWS's: success alone, of a whole job, child by child, or of one child."""
        draw = self.rng.random
        for other in others:
            if draw() < 0.25:
                if other.spec.size and draw() < 0.3:
                    yield Need(other.id, index=int(draw() * other.spec.size))
                else:
                    yield Need(other.id, each=size is not None and other.spec.size == size and draw() < 0.7)

    def tokens(self, key: str) -> Demand:
        """Never more than there is at first; of the run's own one at most."""
        draw = self.rng.random
        if not self.places.tokens or draw() < 0.6:
            return ()
        found = {token.name: 1 + int(draw() * min(token.total, 3)) for token in self.places.tokens if draw() < 0.5}
        if draw() < 0.3:
            found[own_token(key)] = 1
        return tuple(sorted(found.items()))

    def needs(self, before: list[JobPlan], size: int | None) -> tuple[Need, ...]:
        draw = self.rng.random
        found: list[Need] = []
        for other in before[-6:]:
            if draw() < 0.3 and len(found) < 3:
                each = size is not None and other.spec.size == size and draw() < 0.7
                found.append(Need(other.id, WHENS[int(draw() * len(WHENS))], each))
        return tuple(found)

    def retry(self) -> RetryPolicy:
        draw = self.rng.random
        if draw() < 0.4:
            return RetryPolicy()
        first = (0, 0, 2000, 10_000)[int(draw() * 4)]
        free = 0 if draw() < 0.7 else 1
        return RetryPolicy(1 + int(draw() * 3), first, first * 4, RULES[int(draw() * len(RULES))], free)


def own_token(key: str) -> str:
    """Of the run whose job has this key (`r0j3`): what its file declares is named so."""
    return f"{key[:2]}/own"
