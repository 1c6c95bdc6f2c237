"""The engine's shell in small: turns, commits, effects, crashes; people and faults as the seed has them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import Final

from flowbatch.core import invariants
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.state import State
from flowbatch.model.effects import Answer, Effect, Forget, Launch, Stop
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, Millis, RunId
from flowbatch.model.jobspec import RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import (
    Cancel,
    Census,
    Configure,
    Drain,
    Interrupt,
    LaunchFailed,
    Reload,
    Resume,
    Retry,
    Started,
    Stimulus,
    SubmitRun,
    Target,
    Terminate,
    Tick,
)
from tests.sim import reference
from tests.sim.backend import Fact, SimBackend
from tests.sim.laws import Laws
from tests.sim.plans import Author, Script, make_places
from tests.sim.store import DictStore

STEPS: Final = 600
CLOSING_MS: Final = 150_000
PATIENCE_MS: Final = 150_000  # a grace, two censuses, and what delays them


class Crash(IntEnum):
    BEFORE_COMMIT = 1
    AFTER_COMMIT = 2
    WHILE_ACTING = 3


class World:
    """`faults` counts what went wrong in it, `trace` says what happened where it is asked for."""

    def __init__(self, seed: int, *, trace: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.rng = rng = random.Random(seed)
        self.trace = trace
        self.now = 1_000_000
        self.agenda: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self.count = 0
        self.epoch = 0  # of the engine: what was on its way to an earlier one is lost
        self.faults = 0
        self.turns = 0
        self.calm = rng.random() < 0.4
        self.window = (0, 2000, 5000, 8000, 10_000, 12_000, 15_000)[int(rng.random() * 7)]
        self.delay = (0, 0, 500, 6000)[int(rng.random() * 4)]
        self.drops, self.repeats = rng.choice(((0.0, 0.0), (0.1, 0.1), (0.3, 0.0), (0.0, 0.3)))
        self.census_ms = rng.choice((25_000, 30_000, 40_000))
        self.store = DictStore()
        author = Author(rng, seed, places := make_places(rng), calm=self.calm)
        self.places = places
        self.scripts = author.scripts
        enforcing = rng.random() < 0.5
        self.backends = {
            "process": SimBackend("process", self, durable=True, enforces_timeout=enforcing),
            "fake": SimBackend("fake", self, durable=self.calm or rng.random() < 0.3, enforces_timeout=False),
        }
        used = {"process" if each.backend == "local" else each.backend for each in places.environments}
        self.backends = {name: each for name, each in self.backends.items() if name in used}
        self.enforcing = frozenset(name for name, each in self.backends.items() if each.enforces_timeout)
        self.laws = Laws(self.store, self.backends)
        self.laws.capacity = {each.name: each.capacity for each in places.environments}
        plans = [author.run(0, 4 + int(rng.random() * 5))]
        if rng.random() < 0.35:
            plans.append(author.run(1, 2 + int(rng.random() * 3)))
        self.plans = {plan.id: plan for plan in plans}
        self.tasks = sum(job.spec.tasks for plan in plans for job in plan.jobs)
        self.inbox: list[Stimulus] = []
        self.waiting: dict[int, Stimulus] = {}  # commands without an answer: a crash may have lost them
        self.tickets = 0
        self.cruel = not self.calm and rng.random() < 0.3
        self.crash: Crash | None = None  # of this turn
        self.halted: dict[AttemptKey, int] = {}  # since when, in this life
        self.slow = rng.random() < 0.3  # some launches need secrets
        self.handing: dict[AttemptKey, bool] = {}  # on their way to the backend; True: stopped meanwhile
        self.launched: set[AttemptKey] = set()  # in this life
        self.crashes: dict[int, tuple[Crash, bool]] = {}
        self.drained = False  # before this turn
        self.stopping: set[AttemptKey] = set()  # in this turn
        self.machine = Machine(State())
        self.plan_faults()
        self.begin_life(rebooted=True)

    # --- what will happen

    def plan_faults(self) -> None:
        rng = self.rng
        for plan in self.plans.values():
            start = self.now if plan.id == "run0" else self.now + int(rng.random() * 20_000)
            self.at(start, self.order, "submit", plan)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            crash = Crash(1 + int(rng.random() * 3))
            self.crashes[2 + int(rng.random() * 24)] = (crash, not self.calm and rng.random() < 0.25)
        self.laws.lossy = any(reboot for _, reboot in self.crashes.values())
        if self.calm:
            return
        for _ in range(rng.choice((1, 2, 3, 4, 5))):
            kind = rng.choice(("cancel", "terminate", "terminate", "retry", "retry", "retry", "configure"))
            self.at(self.now + int(rng.random() * 80_000), self.order, kind, None)
        if rng.random() < 0.25:
            self.at(self.now + int(rng.random() * 60_000), self.leave, rng.random() < 0.7)

    def at(self, time: int, action: Callable[..., None], *args: object) -> None:
        self.count += 1
        heapq.heappush(self.agenda, (time, self.count, action, args))

    def script(self, key: AttemptKey) -> Script:
        return self.scripts.of(*key)

    def remembers_start(self) -> bool:
        return self.rng.random() < 0.8

    def knows_start(self, key: AttemptKey) -> bool:
        row = next((self.store.tasks[no].get(key.idx) for no in self.laws.numbers(key.job)), None)
        return row is not None and row.attempt == key.attempt and row.status is Status.RUNNING

    # --- news from backends, on their way to the engine

    def tell(self, fact: Fact) -> None:
        draw = self.rng.random
        if self.drops and draw() < self.drops:
            self.faults += 1
            return  # only the census will tell
        delay = int(draw() * self.delay) if self.delay else 0
        if delay and isinstance(fact, Started) and draw() < 0.3:
            self.faults += 1
            delay += 5000  # the end may overtake it
        self.at(self.now + delay, self.deliver, self.epoch, fact)
        if self.repeats and draw() < self.repeats:
            self.faults += 1
            self.at(self.now + int(draw() * 40_000), self.deliver, self.epoch, fact)

    def deliver(self, epoch: int, stimulus: Stimulus) -> None:
        if epoch == self.epoch:
            self.inbox.append(stimulus)

    def ask_census(self, epoch: int, name: str) -> None:
        if epoch != self.epoch:
            return
        census = Census(name, self.machine.state.turn, self.backends[name].census())
        late = self.rng.choice((0, 0, 1000, 7000))
        self.at(self.now + late, self.deliver, epoch, census)
        self.at(self.now + self.census_ms, self.ask_census, epoch, name)

    # --- people

    def order(self, kind: str, plan: RunPlan | None) -> None:
        """A command; it is sent again after a crash until it is answered."""
        self.tickets += 1
        made = self.command(kind, plan, self.tickets)
        for command in made if isinstance(made, tuple) else (made,):
            self.inbox.append(command)
        if kind == "submit":
            self.waiting[self.tickets] = self.inbox[-1]
            return
        self.faults += 1
        if kind != "configure" and self.rng.random() < 0.3:
            self.at(self.now + int(self.rng.random() * 3000), self.order, kind, None)  # and again

    def command(self, kind: str, plan: RunPlan | None, ticket: int) -> Stimulus | tuple[Stimulus, ...]:
        if plan is not None:
            return SubmitRun(ticket, plan)
        if kind == "configure":
            return self.toggle()
        target = self.target()
        if kind == "cancel":
            return Cancel(ticket, target, "cancelled")
        if kind == "terminate":
            return Terminate(ticket, target, "terminated")
        assert target.run is not None
        loaded = self.store.load_run(target.run) if target.run not in self.machine.state.runs else None
        retry = Retry(ticket, target)
        return (Reload(loaded), retry) if loaded is not None else retry

    def toggle(self) -> Configure:
        """An environment is switched off, and on again a little later."""
        places = self.places
        off = replace(places.environments[0], enabled=False)
        self.at(self.now + 15_000, self.deliver_places, places)
        return Configure((off, *places.environments[1:]), places.queues)

    def deliver_places(self, _: object) -> None:
        self.inbox.append(Configure(self.places.environments, self.places.queues))

    def target(self) -> Target:
        draw = self.rng.random
        run = self.plans[RunId("run1" if "run1" in self.plans and draw() < 0.3 else "run0")]
        if draw() < 0.35:
            return Target(run.id)
        job = run.jobs[int(draw() * len(run.jobs))]
        if job.spec.size and draw() < 0.5:
            lo = int(draw() * job.spec.size)
            return Target(run.id, job.id, ((lo, lo + int(draw() * 4)), (0, 0))[: 1 + int(draw() * 2)])
        return Target(run.id, job.id)

    def leave(self, interrupt: bool) -> None:
        """Ctrl-C once or twice; then the engine ends, and another life follows."""
        self.faults += 1
        self.inbox.append(Interrupt() if interrupt else Drain())
        self.at(self.now + 5000, self.leave_when_idle, self.epoch, 20)

    def leave_when_idle(self, epoch: int, patience: int) -> None:
        if epoch == self.epoch:
            if self.machine.state.live and patience:
                self.at(self.now + 5000, self.leave_when_idle, epoch, patience - 1)
            else:
                self.begin_life()

    # --- lives and turns

    def begin_life(self, *, rebooted: bool = False) -> None:
        self.epoch += 1
        self.inbox.clear()
        self.handing.clear()
        self.halted.clear()
        self.launched.clear()
        for backend in self.backends.values():
            backend.engine_died(rebooted=rebooted)
        loaded = self.store.begin_life(rebooted=rebooted)
        state = rebuild(loaded, enforcing=self.enforcing, child_events=ChildEvents.ALL)
        if self.epoch > 2 and not self.calm and self.rng.random() < 0.3:
            for run in state.runs.values():
                run.held = True
            self.at(self.now + int(self.rng.random() * 20_000), self.deliver, self.epoch, Resume(0))
        self.machine = Machine(state)
        self.inbox.append(Configure(self.places.environments, self.places.queues))
        self.inbox += self.waiting.values()
        for name, backend in self.backends.items():
            if backend.durable and self.rng.random() < 0.3:
                backend.repeat_ends()
            self.ask_census(self.epoch, name)

    def step(self) -> None:
        due = self.agenda[0][0]
        deadline = self.machine.next_deadline()
        first = due if deadline is None else min(due, deadline)
        self.now = max(self.now, first)
        end, self_now = self.now + self.window, self.now
        while self.agenda and self.agenda[0][0] <= end:
            time, _, action, args = heapq.heappop(self.agenda)
            self.now = max(self_now, time)
            action(*args)
        self.now = end
        if self.inbox or (deadline is not None and deadline <= end):
            stimuli, self.inbox = self.inbox or [Tick()], []
            self.turn(stimuli)

    def turn(self, stimuli: list[Stimulus]) -> None:
        self.turns += 1
        now = Millis(self.now)
        crash, rebooted = self.crash_of(stimuli)
        self.crash = crash
        if self.trace is not None:
            self.trace(f"--- turn {self.turns} at {now - 1_000_000} ms, life {self.store.life} {crash or ''}")
            for stimulus in stimuli:
                self.trace(f"  < {stimulus!r:.300}")
        self.laws.note_reservations(self.machine.state, now)
        self.doom(stimuli, crash)
        self.drained = self.machine.state.draining
        outcome = self.decide(stimuli, now)
        if self.trace is not None:
            for effect in outcome.effects:
                self.trace(f"  > {effect!r:.120}")
            for row in [*outcome.writes.jobs.values(), *outcome.writes.tasks.values()]:
                self.trace(f"  = {row!r}")
        self.persist_and_act(outcome, crash, now)
        if crash is not None:
            self.faults += 1
            self.begin_life(rebooted=rebooted)

    def crash_of(self, stimuli: list[Stimulus]) -> tuple[Crash | None, bool]:
        """As planned; or, in some worlds, where it hurts: once a stop is durable and the backend may not have heard of it."""
        planned = self.crashes.get(self.turns)
        if planned is not None:
            return planned
        if self.cruel and self.machine.state.live and any(isinstance(each, Terminate | Interrupt) for each in stimuli):
            self.cruel = False
            return Crash.WHILE_ACTING, False
        return None, False

    def decide(self, stimuli: list[Stimulus], now: Millis) -> Outcome:
        return self.machine.handle(stimuli, now)

    def persist_and_act(self, outcome: Outcome, crash: Crash | None, now: Millis) -> None:
        if crash is Crash.BEFORE_COMMIT:
            return
        self.laws.look_at_writes(outcome.writes)
        self.store.commit(outcome.writes)
        self.look_at_state(outcome, now)
        if crash is not Crash.AFTER_COMMIT:
            self.perform(outcome.effects, cut=crash is not None)

    def look_at_state(self, outcome: Outcome, now: Millis) -> None:
        state = self.machine.state
        if not outcome.writes:
            return  # nothing has changed; if it has all the same, the next commit shows it
        invariants.check(state)
        launches = [effect for effect in outcome.effects if isinstance(effect, Launch)]
        self.laws.look_at_placement(state, launches, now)
        for live in state.live.values():
            if live.halt is not Halt.NONE:
                waited = now - self.halted.setdefault(live.key, now)
                assert waited <= PATIENCE_MS, f"{live.key.id}: asked to stop {waited} ms ago, and still lives"
        self.laws.look_at_rows(state, outcome.writes)
        if self.crash is not None or self.turns % 3 == 0:
            self.look_at_rebuilt(state, now)

    def look_at_rebuilt(self, state: State, now: Millis) -> None:
        """The golden law. What memory and rows do not agree in stays so until a crash, so that each third turn and each crash
        will do; the rows that a turn has written are compared in that turn."""
        again = rebuild(self.store.load(), enforcing=self.enforcing, child_events=ChildEvents.ALL)
        for run_id, run in state.runs.items():
            if run.held:
                again.runs[run_id].held = True
        ours, theirs = invariants.canonical(state, now), invariants.canonical(again, now)
        for key, value in ours.items():
            assert value == theirs[key], f"rebuild differs in {key}:\n ours   {value}\n stored {theirs[key]}"

    def perform(self, effects: list[Effect], *, cut: bool = False) -> None:
        """In order; a crash in the middle leaves out some, of one attempt always the later ones."""
        left_out: set[AttemptKey | int] = set()
        self.stopping = {effect.key for effect in effects if isinstance(effect, Stop)}
        for effect in effects:
            subject = effect.ticket if isinstance(effect, Answer) else effect.key
            if cut and (subject in left_out or self.rng.random() < 0.5):
                left_out.add(subject)
            else:
                self.perform_one(effect)
        self.laws.look_at_capacity()

    def perform_one(self, effect: Effect) -> None:
        match effect:
            case Launch():
                state = self.machine.state
                job = state.jobs[effect.key.job]
                held = job.run is not None and job.run.held
                assert effect.key not in self.launched, f"{effect.key.id}: launched twice in a life"
                self.launched.add(effect.key)
                self.laws.look_at_launch(effect, draining=self.drained, held=held, stopped=effect.key in self.stopping)
                if self.slow and self.rng.random() < 0.3:
                    self.handing[effect.key] = False
                    self.at(self.now + int(self.rng.random() * 25_000), self.hand_over, self.epoch, effect)
                else:
                    self.backends[effect.backend].launch(effect)
            case Stop():
                if effect.key in self.handing:
                    self.handing[effect.key] = True
                self.backends[effect.backend].stop(effect.key, effect.grace_ms, effect.why)
            case Forget():
                self.laws.look_at_forget(effect.key)
                self.backends[effect.backend].forget(effect.key)
            case Answer():
                command = self.waiting.pop(effect.ticket, None)
                if isinstance(command, SubmitRun):
                    assert command.plan.id in self.store.run_no, f"{command.plan.id}: answered, and not stored"

    def hand_over(self, epoch: int, launch: Launch) -> None:
        """The executor had to read secrets first; a stop that came meanwhile is the answer."""
        if epoch != self.epoch:
            return
        if self.handing.pop(launch.key):
            self.inbox.append(LaunchFailed(launch.key, Millis(self.now), Evidence()))
        else:
            self.backends[launch.backend].launch(launch)

    def doom(self, stimuli: list[Stimulus], crash: Crash | None) -> None:
        """What a Terminate reaches may not succeed once it is durable; here it is, unless a crash comes before the commit."""
        if crash is Crash.BEFORE_COMMIT or len(stimuli) != 1:
            return
        command = stimuli[0]
        if isinstance(command, Terminate):
            target = command.target
            for live in self.machine.state.live.values():
                if self.reaches(target, live.key) and live.job.run is not None and live.job.run.stage is live.job.stage:
                    self.laws.doomed.add(live.key)

    def reaches(self, target: Target, key: AttemptKey) -> bool:
        if target.job is None:
            return any(job.id == key.job for job in self.plans[target.run or RunId("")].jobs)
        ranges = target.indices
        return target.job == key.job and (ranges is None or any(lo <= key.idx <= hi for lo, hi in ranges))

    # --- to its end

    def play(self) -> None:
        """Raises AssertionError, or InvalidTransition, where a law is broken."""
        closing = self.now + CLOSING_MS
        while self.turns < STEPS:
            self.step()
            if self.over():
                break
            if self.now > closing and not self.calm:
                closing = self.now + 40_000
                self.close()
        else:
            open_jobs = [(job.id, job.status.name, job.counts) for job in self.machine.state.jobs.values()]
            raise AssertionError(f"not over after {STEPS} turns: {open_jobs[:8]}")
        self.tidy()
        self.look_at_end()

    def over(self) -> bool:
        ended = all(plan in self.store.run_no for plan in self.plans) and not self.machine.state.runs
        return ended and not any(entry[2] == self.order or entry[2] == self.leave for entry in self.agenda)

    def close(self) -> None:
        """What hangs by design (tasks without an end of their own) is terminated; the `finally` stage by the second."""
        if self.machine.state.draining:
            self.begin_life()
        self.inbox.append(Resume(0))
        for run in self.machine.state.runs.values():
            if not all(job.terminated for job in run.jobs if job.stage is run.stage and not job.status.terminal):
                self.inbox.append(Terminate(0, Target(run.id), "closing"))

    def tidy(self) -> None:
        """I7: three censuses later nothing is held without a live attempt."""
        for _ in range(3):
            self.now += 60_000
            while self.agenda and self.agenda[0][0] <= self.now:
                _, _, action, args = heapq.heappop(self.agenda)
                if action == self.ask_census or action == self.deliver:
                    continue
                action(*args)
            self.inbox.clear()
            turn = self.machine.state.turn
            self.turn([Census(name, turn, backend.census()) for name, backend in self.backends.items()])
        for backend in self.backends.values():
            assert not backend.held, f"left behind in {backend.name}: {list(backend.held)}"

    def look_at_end(self) -> None:
        store = self.store
        for row in store.runs.values():
            assert row.status is not RunStatus.RUNNING, f"run {row.no} never ended"
        for no, job in store.jobs.items():
            plan = store.job_plans[no]
            for idx in range(plan.spec.tasks):
                status = store.status_of(no, idx)
                assert status >= Status.SUCCEEDED, f"{plan.id}:{idx} is {Status(status).name} in an ended run"
                if plan.spec.size is not None:
                    told = self.laws.told.get((no, idx))
                    assert told == status, f"{plan.id}:{idx} is {status}, its events say {told}"
            assert job.status.terminal
        for backend in self.backends.values():
            if backend.durable:
                twice = [key.id for key, count in backend.starts.items() if count > 1]
                assert not twice, f"started twice: {twice}"
        if self.calm:
            reference.compare(self.store, self.plans, self.scripts)
