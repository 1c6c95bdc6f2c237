"""A world: its plans, what people do in it, what goes wrong, and its end."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from flowbatch.core.dependencies import DEPENDENT_FAILED
from flowbatch.model.definition import Registration
from flowbatch.model.ids import AttemptKey, RunId
from flowbatch.model.jobspec import JobPlan, Queue, RunPlan
from flowbatch.model.place_commands import DrainNode
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import (
    Cancel,
    Census,
    Configure,
    CreateToken,
    DeleteToken,
    DeregisterDefinition,
    Drain,
    Interrupt,
    RegisterDefinition,
    Reload,
    Resume,
    Retry,
    Stimulus,
    SubmitJob,
    SubmitRun,
    Target,
    Terminate,
    UpdateToken,
)
from flowbatch.model.tokens import Token, TokenOperation
from tests.sim import reference
from tests.sim.operators import change_of_places, change_of_policy
from tests.sim.plans import Author, make_places, make_tokens, share_host
from tests.sim.shell import Crash, Shell

TASKS: Final = (16, *(28,) * 8, 36)  # about: most worlds are small, some are not
STEPS: Final = 600
CLOSING_MS: Final = 150_000
CHANGES_TOKENS: Final = frozenset({CreateToken, UpdateToken, DeleteToken, Configure})


class World(Shell):
    """A calm one has no ends but those of its own tasks, whatever else goes wrong: its outcome is known beforehand."""

    def __init__(self, seed: int, *, trace: Callable[[str], None] | None = None) -> None:
        rng = random.Random(seed)
        calm = rng.random() < 0.28
        places = make_places(rng, random.Random(seed ^ 0xFA17))
        places.tokens = make_tokens(rng, calm=calm)
        hosts = random.Random(seed ^ 0x4057)
        if hosts.random() < 0.4:
            places = share_host(hosts, places, calm=calm)
        super().__init__(rng, places, calm=calm, luck=random.Random(-1 - seed), trace=trace)
        author = Author(rng, seed, self.places, calm=calm)
        self.dice = author.dice
        self.scripts = author.scripts
        second, alone = rng.random() < 0.2, rng.random() < 0.35
        tasks = rng.choice(TASKS) if self.window else TASKS[0]  # a turn for each piece of news
        plans = [author.run(0, max(6, tasks - 10 * second - 11 * alone))]
        if second:
            plans.append(author.run(1, 6))
        self.plans = {plan.id: plan for plan in plans}
        self.laws.plans = self.plans
        self.tasks = sum(job.spec.tasks for plan in plans for job in plan.jobs)
        self.alone: list[JobPlan] = []
        if alone:
            self.alone = author.alone([job for plan in plans for job in plan.jobs])
        self.tasks += sum(job.spec.tasks for job in self.alone)
        self.tickets = 0
        self.scheduling = random.Random(seed ^ 0x5C4ED)
        self.cruel = not calm and rng.random() < 0.5
        self.crashes: dict[int, tuple[Crash, bool]] = {}
        self.plan_faults()
        self.begin_life(rebooted=True)

    # --- what will happen

    def plan_faults(self) -> None:
        rng = self.rng
        for plan in self.plans.values():
            start = self.now if plan.id == "run0" else self.now + int(rng.random() * 20_000)
            self.at(start, self.order, "submit", plan)
        start = self.now
        for job in self.alone:
            start += int(rng.random() * 15_000)
            self.at(start, self.submit_alone, job)
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            crash = Crash(1 + int(rng.random() * 3))
            self.crashes[2 + int(rng.random() * 18)] = (crash, not self.calm and rng.random() < 0.25)
        self.laws.lossy = any(reboot for _, reboot in self.crashes.values())
        if self.calm:
            return
        self.jumps = self.luck.random() < 0.2
        for _ in range(self.luck.choice((0, 0, 0, 2))):
            by_ms = self.luck.choice((-600_000, -20_000, 20_000, 3_600_000))
            self.at(self.now + int(self.luck.random() * 80_000), self.set_clock, by_ms)
        for _ in range(rng.choice((1, 2, 3, 4, 5))):
            kind = rng.choice(("cancel", "terminate", "terminate", "retry", "retry", "retry", "configure"))
            self.at(self.now + int(rng.random() * 80_000), self.order, kind, None)
        for kind in ("register", "deregister", "tokens", "tokens"):
            if rng.random() < 0.4:
                self.at(self.now + int(rng.random() * 80_000), self.order, kind, None)
        if self.places.host is not None:
            for _ in range(rng.choice((0, 2, 4, 8))):
                self.at(self.now + int(rng.random() * 60_000), self.order, "places", None)
            if self.luck.random() < 0.5:
                self.at(self.now + 1000 + int(self.luck.random() * 20_000), self.order, "drain", None)
        if rng.random() < 0.25:
            self.at(self.now + int(rng.random() * 60_000), self.leave, rng.random() < 0.7)
        fair = [queue for queue in self.places.queues if queue.policy is not None]
        if fair and self.scheduling.random() < 0.3:
            for _ in range(self.scheduling.choice((2, 4, 6))):
                self.at(self.now + int(self.scheduling.random() * 60_000), self.change_policy, fair)

    def crash_of(self, stimuli: list[Stimulus]) -> tuple[Crash | None, bool]:
        """As planned; or, in some worlds, where it hurts: once a stop is durable and the backend may not have heard of it."""
        planned = self.crashes.get(self.turns)
        if planned is not None:
            return planned
        if self.cruel and self.machine.state.live and any(isinstance(each, Terminate | Interrupt) for each in stimuli):
            self.cruel = False
            return (Crash.WHILE_ACTING if self.rng.random() < 0.5 else Crash.AFTER_COMMIT), False
        return None, False

    def note(self, stimuli: list[Stimulus], crash: Crash | None) -> None:
        """What a Terminate reaches may not succeed once it is durable, and what a Cancel of children finds at work has its last
        attempt; here it is durable, unless a crash comes before the commit."""
        kinds = {type(each) for each in stimuli}
        if Cancel in kinds:
            targets = [each.target for each in stimuli if isinstance(each, Cancel)]
            self.laws.asked |= {target.job for target in targets if target.job and target.indices}
        self.laws.tokens_changed = not kinds.isdisjoint(CHANGES_TOKENS)
        self.laws.registering = RegisterDefinition in kinds
        if crash is Crash.BEFORE_COMMIT or len(stimuli) != 1:
            return
        command = stimuli[0]
        if isinstance(command, Cancel) and command.target.indices is not None:
            for live in self.machine.state.live.values():
                if self.reaches(command.target, live.key):
                    self.laws.spared[live.key.job, live.key.idx] = live.key.attempt
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

    # --- people

    def order(self, kind: str, plan: RunPlan | None) -> None:
        """A command; it is sent again after a crash until it is answered."""
        if (
            kind == "retry" and self.committing
        ):  # the engine brings ended runs back one at a time, as the store has them by then
            self.at(self.now + 5_000, self.order, kind, plan)
            return
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

    def submit_alone(self, plan: JobPlan) -> None:
        """Once all that it needs has been submitted."""
        if any(need.job not in self.store.job_no for need in plan.spec.needs):
            self.at(self.now + 5_000, self.submit_alone, plan)
            return
        self.tickets += 1
        self.waiting[self.tickets] = command = self.found_again(SubmitJob(self.tickets, plan))
        self.inbox.append(command)

    def command(self, kind: str, plan: RunPlan | None, ticket: int) -> Stimulus | tuple[Stimulus, ...]:
        if plan is not None:
            return SubmitRun(ticket, plan)
        if kind == "configure":
            return self.toggle()
        if kind == "tokens":
            return self.change_tokens(ticket)
        if kind == "places":
            runs = all(plan in self.store.run_no for plan in self.plans)
            whole = runs and all(job.id in self.store.job_no for job in self.alone)
            return change_of_places(self.rng, ticket, whole=whole)
        if kind == "drain":
            return DrainNode(ticket, "farm", self.luck.choice(("n1", "n2")))
        if kind == "register":
            digest = f"digest{int(self.rng.random() * 2)}"
            return RegisterDefinition(ticket, Registration(f"d{int(self.rng.random() * 4)}", "{}", digest))
        if kind == "deregister":
            name, revision = f"d{int(self.rng.random() * 4)}", 1 + int(self.rng.random() * 3)
            return DeregisterDefinition(ticket, name, revision)
        target = self.target()
        if self.alone and kind in ("cancel", "terminate") and self.rng.random() < 0.3:
            job = self.alone[int(self.rng.random() * len(self.alone))]
            target = Target(job=job.id)
        if kind == "cancel":
            return Cancel(ticket, self.at_work() or target, "cancelled")
        if kind == "terminate":
            return Terminate(ticket, target, "terminated")
        assert target.run is not None
        loaded = self.store.load_run(target.run) if target.run not in self.machine.state.runs else None
        retry = Retry(ticket, target)
        return (Reload(loaded), retry) if loaded is not None else retry

    def change_tokens(self, ticket: int) -> Stimulus:
        """An operator: totals rise and fall, also below what is in use; tokens come and go."""
        draw = self.rng.random
        name = ("licence", "link", "budget", "r0/own", "spare")[int(draw() * 5)]
        kind = int(draw() * 6)
        if kind == 0:
            return CreateToken(ticket, Token(name, 2))
        if kind == 1:
            return DeleteToken(ticket, name)
        operation = (TokenOperation.SET, TokenOperation.ADD, TokenOperation.ADD, TokenOperation.REMOVE)[kind - 2]
        return UpdateToken(ticket, name, operation, 1 + int(draw() * 3))

    def change_policy(self, queues: list[Queue]) -> None:
        """An operator: a queue is divided otherwise from now on."""
        self.faults += 1
        self.tickets += 1
        self.inbox += change_of_policy(self.scheduling, self.tickets, queues)

    def toggle(self) -> Stimulus:
        """An environment is switched off, or a queue has only the small one; a little later all is as before."""
        places = self.places
        if self.dice.random() < 0.4:
            self.at(self.now + 15_000, self.deliver_places, places)
            narrow = replace(places.queues[0], environments=("small",))
            return replace(places, queues=(narrow, *places.queues[1:])).configure
        off = replace(places.environments[0], enabled=False)
        self.at(self.now + 15_000, self.deliver_places, places)
        return replace(places, environments=(off, *places.environments[1:])).configure

    def deliver_places(self, _: object) -> None:
        self.inbox.append(self.places.configure)

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

    def at_work(self) -> Target | None:
        """Half of the time a child that runs and could be tried again, where there is one."""
        live = [
            each
            for each in self.machine.state.live.values()
            if each.job.array and each.key.attempt < each.job.spec.retry.attempts
        ]
        if not live or self.rng.random() < 0.5:
            return None
        chosen = live[int(self.rng.random() * len(live))]
        run = chosen.job.run
        return Target(None if run is None else run.id, chosen.job.id, ((chosen.key.idx, chosen.key.idx),))

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
        ended = ended and all(job.id in self.store.job_no for job in self.alone) and not self.machine.state.jobs
        return ended and not any(entry[2] == self.order or entry[2] == self.leave for entry in self.agenda)

    def close(self) -> None:
        """What hangs by design (tasks without an end of their own) is terminated; the `finally` stage by the second."""
        if self.machine.state.draining:
            self.begin_life()
        self.inbox.append(Resume(0))
        for run in self.machine.state.runs.values():
            if not all(job.terminated for job in run.jobs if job.stage is run.stage and not job.status.terminal):
                self.inbox.append(Terminate(0, Target(run.id), "closing"))
        self.inbox += [Terminate(0, Target(job=job.id), "closing") for job in self.alone]

    def tidy(self) -> None:
        """I7: three censuses later, at most, nothing is held without a live attempt; a crash may undo one of them."""
        for _ in range(3 + len(self.crashes)):
            self.now += 60_000
            while self.agenda and self.agenda[0][0] <= self.now:
                _, _, action, args = heapq.heappop(self.agenda)
                if action == self.ask_census or action == self.deliver:
                    continue
                action(*args)
            self.inbox.clear()
            turn = self.machine.state.turn
            self.turn([Census(name, turn, backend.census()) for name, backend in self.backends.items()])
            if not any(backend.held for backend in self.backends.values()):
                break
        for backend in self.backends.values():
            assert not backend.held, f"left behind in {backend.name}: {list(backend.held)}"

    def look_at_alone(self, plan: JobPlan) -> None:
        """What succeeded had its needs met, and what failed with another job had one that did fail."""
        store = self.store
        no = store.job_no[plan.id]
        for idx in range(plan.spec.tasks):
            met = []
            for need in plan.spec.needs:
                source, child = store.job_no[need.job], idx if need.each else need.index
                met.append(
                    (store.jobs[source].status if child is None else store.status_of(source, child)) == Status.SUCCEEDED
                )
            row = store.tasks[no].get(idx)
            if store.status_of(no, idx) == Status.SUCCEEDED:
                assert all(met), f"{plan.id}:{idx} SUCCEEDED, and its needs did not"
            reason = store.jobs[no].rest_reason if row is None else row.status_reason
            if self.calm and reason == DEPENDENT_FAILED and not plan.spec.sequential:
                assert not all(met), f"{plan.id}:{idx} failed with what did not fail"

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
        for plan in self.alone:
            self.look_at_alone(plan)
        if self.calm:
            reference.compare(self.store, self.plans, self.scripts)
