"""The engine's shell in small: lives, turns, commits, effects, and what may go wrong between them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from msgspec.structs import replace

from flowbatch.core import invariants
from flowbatch.core.host import largest
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.core.state import State
from flowbatch.model.effects import Answer, Effect, Forget, Launch, Stop
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import ALONE, AttemptKey, Millis
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import NOTHING
from flowbatch.model.status import Status
from flowbatch.model.stimuli import (
    Census,
    CreateToken,
    LaunchFailed,
    Resume,
    Started,
    Stimulus,
    SubmitJob,
    SubmitRun,
    Tick,
)
from flowbatch.model.tokens import Token
from tests.sim.backend import Fact, SimBackend
from tests.sim.golden import Left
from tests.sim.laws import Laws
from tests.sim.place_laws import PlaceLaws
from tests.sim.plans import Places, Script, Scripts
from tests.sim.store import DictStore

WINDOWS: Final = (0, 3000, 6000, *(10_000, 14_000, 18_000, 22_000) * 6)  # of a turn, in ms
WHOLE_EACH: Final = 20  # turns: then laws look at everything; after the others at what the turn has touched
PATIENCE_MS: Final = 180_000  # a grace, two censuses, and what delays them


class Crash(IntEnum):
    BEFORE_COMMIT = 1
    AFTER_COMMIT = 2
    WHILE_ACTING = 3


class Shell:
    """`faults` counts what went wrong, `trace` says what happens where it is asked for."""

    scripts: Scripts

    def __init__(
        self,
        rng: random.Random,
        places: Places,
        *,
        calm: bool,
        luck: random.Random,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.rng = rng
        self.luck = luck  # of what was added later: the worlds of old seeds stay as they were
        self.places = places
        self.calm = calm
        self.trace = trace
        self.now = 1_000_000
        self.jump = 0  # of the engine's clock against the time that has passed: between two lives somebody has set it
        self.jumps = False  # whether that happens in this world
        self.skew = 0  # of the clock that backends stamp with, against what has passed
        self.agenda: list[tuple[int, int, Callable[..., None], tuple[object, ...]]] = []
        self.count = 0
        self.epoch = 0  # of the engine: what was on its way to an earlier one is lost
        self.faults = 0
        self.turns = 0
        self.window = WINDOWS[int(rng.random() * len(WINDOWS))]
        self.delay = (0, 0, 500, 6000)[int(rng.random() * 4)]
        self.drops, self.repeats = rng.choice(((0.0, 0.0), (0.05, 0.05), (0.1, 0.0), (0.0, 0.1)))
        self.census_ms = rng.choice((30_000, 40_000, 50_000))
        self.full = luck.choice((0.0, 0.0, 0.0, 0.2))  # of the commits find no room on the disk
        self.slow = rng.random() < 0.3  # some launches need secrets
        self.store = DictStore()
        self.backends = self.make_backends()
        self.enforcing = frozenset(name for name, each in self.backends.items() if each.enforces_timeout)
        self.laws = Laws(self.store, self.backends)
        self.laws.capacity = {each.name: each.total() for each in places.environments}
        self.place_laws = PlaceLaws(self.store)
        self.place_laws.host = places.host
        self.inbox: list[Stimulus] = []
        self.waiting: dict[int, Stimulus] = {}  # commands without an answer: a crash may have lost them
        self.crash: Crash | None = None  # of this turn
        self.halted: dict[AttemptKey, int] = {}  # since when, in this life
        self.handing: dict[AttemptKey, bool] = {}  # on their way to the backend; True: stopped meanwhile
        self.launched: set[AttemptKey] = set()  # in this life
        self.drained = False  # before this turn
        self.stopping: set[AttemptKey] = set()  # in this turn
        self.committing = False  # a turn is decided and not durable
        self.left: Left | None = None  # by the life that has just been killed
        self.machine = Machine(State())

    def make_backends(self) -> dict[str, SimBackend]:
        """Those that the environments use."""
        used = {"process" if each.backend == "local" else each.backend for each in self.places.environments}
        enforcing, durable = self.rng.random() < 0.5, self.calm or self.rng.random() < 0.3
        backends = (
            SimBackend("process", self, durable=True, enforces_timeout=enforcing),
            SimBackend("fake", self, durable=durable, enforces_timeout=False),
        )
        return {each.name: each for each in backends if each.name in used}

    def crash_of(self, stimuli: list[Stimulus]) -> tuple[Crash | None, bool]:
        """Whether this turn ends in one, and in a reboot of the machine."""
        raise NotImplementedError

    def note(self, stimuli: list[Stimulus], crash: Crash | None) -> None:
        """Before a turn."""

    def at(self, time: int, action: Callable[..., None], *args: object) -> None:
        self.count += 1
        heapq.heappush(self.agenda, (time, self.count, action, args))

    def script(self, key: AttemptKey) -> Script:
        return self.scripts.of(*key)

    def stamp(self) -> Millis:
        return Millis(self.now + self.skew)

    def set_clock(self, by_ms: int) -> None:
        """Of the machine where the work is done. Nothing may be lost, last a negative time, or hang."""
        self.faults += 1
        self.skew += by_ms

    def remembers_start(self) -> bool:
        return self.rng.random() < 0.8

    def knows_start(self, key: AttemptKey) -> bool:
        no = self.store.job_no[key.job]
        if key.member != ALONE:
            seat = self.store.members.get((no, *key[1:]))
            return seat is not None and seat.status is Status.RUNNING
        row = self.store.tasks[no].get(key.idx)
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
        self.take_census(name)
        self.at(self.now + self.census_ms, self.ask_census, epoch, name)

    def take_census(self, name: str) -> None:
        census = Census(name, self.machine.state.turn, self.backends[name].census())
        late = self.rng.choice((0, 0, 1000, 7000))
        self.at(self.now + late, self.deliver, self.epoch, census)

    # --- lives and turns

    def begin_life(self, *, rebooted: bool = False) -> None:
        self.epoch += 1
        if self.jumps and self.epoch > 2 and self.luck.random() < 0.7:
            self.faults += 1
            by_ms = self.luck.choice((-900_000, -40_000, 40_000, 3_600_000))
            self.jump = max(-900_000, self.jump + by_ms)  # no clock shows less than nothing
            if self.luck.random() < 0.5:
                self.skew = self.jump
            self.laws.shares.clock_was_set()
        self.laws.shares.life_begins()
        self.inbox.clear()
        self.handing.clear()
        self.halted.clear()
        self.launched.clear()
        for backend in self.backends.values():
            backend.engine_died(rebooted=rebooted)
        loaded = self.store.begin_life(rebooted=rebooted)
        state = rebuild(loaded, enforcing=self.enforcing, child_events=ChildEvents.ALL)
        if self.left is not None:
            self.left.compare(state)
            self.left = None
        if self.epoch > 2 and not self.calm and self.rng.random() < 0.3:
            for run in state.runs.values():
                run.held = True
            self.at(self.now + int(self.rng.random() * 20_000), self.deliver, self.epoch, Resume(0))
        self.machine = Machine(state)
        self.inbox.append(self.places.configure)
        for ticket, command in list(self.waiting.items()):
            if isinstance(command, SubmitRun) and self.store.has_ended(command.plan.id):
                del self.waiting[
                    ticket
                ]  # whoever takes a submission asks the store first: the core has forgotten ended runs
            elif isinstance(command, SubmitJob):
                if command.plan.id in self.store.job_no:
                    del self.waiting[ticket]  # likewise
                else:
                    self.waiting[ticket] = again = self.found_again(command)
                    self.inbox.append(again)
            else:
                self.inbox.append(command)
        for name, backend in self.backends.items():
            if backend.durable and self.rng.random() < 0.3:
                backend.repeat_ends()
            self.ask_census(self.epoch, name)

    def found_again(self, command: SubmitJob) -> SubmitJob:
        """With what the store knows of the ended jobs that it needs."""
        found = (self.store.ended_job(need.job) for need in command.plan.spec.needs)
        return replace(command, ended=tuple(each for each in found if each is not None))

    def step(self) -> None:
        due = self.agenda[0][0]
        deadline = self.machine.next_deadline()
        if deadline is not None:
            deadline = Millis(deadline - self.jump)
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
        now = Millis(self.now + self.jump)
        crash, rebooted = self.crash_of(stimuli)
        self.crash = crash
        if self.trace is not None:
            self.trace(f"--- turn {self.turns} at {now - 1_000_000} ms, life {self.store.life} {crash or ''}")
            for stimulus in stimuli:
                self.trace(f"  < {stimulus!r:.300}")
        self.laws.note_reservations(self.machine.state, now)
        if self.places.host is not None:
            self.place_laws.note_holder(self.machine.state, now)
        self.note(stimuli, crash)
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

    def decide(self, stimuli: list[Stimulus], now: Millis) -> Outcome:
        return self.machine.handle(stimuli, now)

    def persist_and_act(self, outcome: Outcome, crash: Crash | None, now: Millis) -> None:
        if crash is Crash.BEFORE_COMMIT:
            return
        if self.full and outcome.writes and self.luck.random() < self.full and not self.found_room():
            return
        self.laws.look_at_writes(outcome.writes)
        self.store.commit(outcome.writes)
        self.look_at_state(outcome, now)
        if (
            crash is None and self.rng.random() < 0.05
        ):  # asked while the commit was under way: its launches are not there
            for name in self.backends:
                self.take_census(name)
        if crash is not Crash.AFTER_COMMIT:
            self.perform(outcome.effects, cut=crash is not None)

    def found_room(self) -> bool:
        """The disk is full: the same commit is tried again each second. Meanwhile the world goes on, and nothing is decided.
        False where the engine was ended meanwhile: the turn is gone with it."""
        self.faults += 1
        epoch, end = self.epoch, self.now + 1000 * (1 + int(self.luck.random() * 40))
        self.committing = True
        while self.agenda and self.agenda[0][0] <= end and self.epoch == epoch:
            time, _, action, args = heapq.heappop(self.agenda)
            self.now = max(self.now, time)
            action(*args)
        self.committing = False
        self.now = max(self.now, end) if self.epoch == epoch else self.now
        return self.epoch == epoch

    def look_at_state(self, outcome: Outcome, now: Millis) -> None:
        state = self.machine.state
        if not outcome.writes:
            return  # nothing has changed; if it has all the same, the next commit shows it
        whole = self.crash is not None or self.turns % WHOLE_EACH == 0
        invariants.check(state, None if whole else invariants.touched(state, outcome.writes))
        launches = [effect for effect in outcome.effects if isinstance(effect, Launch)]
        self.laws.shares.look(state, outcome.writes, launches, now, whole=whole)
        self.laws.look_at_placement(state, launches, now)
        for live in state.live.values():
            if live.halt is not Halt.NONE:
                waited = now - self.halted.setdefault(live.key, now)
                assert waited <= PATIENCE_MS, f"{live.key.id}: asked to stop {waited} ms ago, and still lives"
        self.laws.look_at_rows(state, outcome.writes)
        if self.places.host is not None:
            for place in state.environments.values():  # one that was lowered may still hold what it had
                total, known = place.spec.total(), self.laws.capacity.get(place.name, NOTHING)
                if not total.fits(known):
                    self.laws.capacity[place.name] = largest([total, known])
            self.place_laws.look_at_turn(state, outcome.effects, now)
        if self.crash is not None:
            self.left = Left.of(state, now)  # for the life that follows
        elif whole:
            again = rebuild(self.store.load(), enforcing=self.enforcing, child_events=ChildEvents.ALL)
            Left.of(state, now).compare(again)

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
        if effects:
            self.laws.look_at_capacity()
            self.laws.look_at_promises()

    def perform_one(self, effect: Effect) -> None:
        match effect:
            case Launch():
                state = self.machine.state
                job = state.jobs[effect.key.job]
                held = job.held
                assert effect.key not in self.launched, f"{effect.key.id}: launched twice in a life"
                self.launched.add(effect.key)
                self.laws.look_at_launch(effect, draining=self.drained, held=held, stopped=effect.key in self.stopping)
                if self.slow and self.rng.random() < 0.3:
                    self.handing[effect.key] = False
                    self.at(self.now + int(self.rng.random() * 25_000), self.hand_over, self.epoch, effect)
                else:
                    self.backends[effect.backend].launch(effect)
            case Stop():
                self.laws.look_at_stop(effect.key)
                if effect.key in self.handing:
                    self.handing[effect.key] = True
                self.backends[effect.backend].stop(effect.key, effect.grace_ms, effect.why)
            case Forget():
                self.laws.look_at_forget(effect.key)
                self.backends[effect.backend].forget(effect.key)
            case Answer():
                command = self.waiting.pop(effect.ticket, None)
                if effect.error is not None and isinstance(command, SubmitJob | SubmitRun):
                    self.ask_again(effect, command)
                    return
                if isinstance(command, SubmitJob):
                    if command.plan.id in self.store.job_no:
                        return
                    assert isinstance(effect.value, dict), f"{command.plan.id}: {effect.error}"
                    assert effect.value["absent"], f"{command.plan.id}: {effect.error}"
                    self.waiting[effect.ticket] = again = self.found_again(command)
                    self.inbox.append(again)
                if isinstance(command, SubmitRun):
                    assert command.plan.id in self.store.run_no, f"{command.plan.id}: answered, and not stored"

    def ask_again(self, refusal: Answer, command: SubmitJob | SubmitRun) -> None:
        """An operator has deleted tokens that it needs; they are made again, and it is submitted again."""
        plans = (command.plan,) if isinstance(command, SubmitJob) else command.plan.jobs
        needed = {name for each in plans for name, _ in each.spec.tokens if not name.endswith("/own")}
        gone = needed - self.store.tokens.keys()  # none, where somebody has made them again in that very turn
        assert gone or "which do not exist" in (refusal.error or ""), f"{command.plan.id}: {refusal.error}"
        self.faults += 1
        self.inbox += [CreateToken(0, Token(name, 3)) for name in sorted(gone)]
        self.waiting[refusal.ticket] = again = self.found_again(command) if isinstance(command, SubmitJob) else command
        self.inbox.append(again)

    def hand_over(self, epoch: int, launch: Launch) -> None:
        """The executor had to read secrets first; a stop that came meanwhile is the answer."""
        if epoch != self.epoch:
            return
        if self.handing.pop(launch.key):
            self.inbox.append(LaunchFailed(launch.key, self.stamp(), Evidence()))
        else:
            self.backends[launch.backend].launch(launch)
