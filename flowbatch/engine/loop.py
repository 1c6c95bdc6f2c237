"""The engine: one turn at a time, decide → persist → act. The only task that touches the Machine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus
from msgspec.structs import replace

from flowbatch.core.machine import Machine
from flowbatch.engine.executor import Executor
from flowbatch.engine.inbox import Inbox
from flowbatch.engine.orders import OrderDesk
from flowbatch.errors import BackendUnavailable, StoreFull
from flowbatch.logs import Logger
from flowbatch.model.effects import Answer, Launch
from flowbatch.model.ids import JobId, Millis
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import Audited, Census, Reload, Retry, Stimulus, SubmitRun, Tick
from flowbatch.ports import Backend, Clock, Fact, Store

log = Logger(__name__)

TURN_STIMULI: Final = 5_000  # in one turn at most
CENSUS_EVERY_MS: Final = 30_000
CENSUS_RETRY_MS: Final = 1_000
FULL_RETRY_MS: Final = 1_000

Observer = Callable[[Outcome], None]
Elsewhere = Callable[[str], Backend | None]  # a backend that was not there at the start, by its name


def nowhere(_: str) -> Backend | None:
    return None


class Engine:
    """Owns the machine, is the only caller of the store's `commit`, and hands effects to the executor."""

    def __init__(
        self,
        machine: Machine,
        store: Store,
        backends: Mapping[str, Backend],
        desk: OrderDesk,
        clock: Clock,
        elsewhere: Elsewhere = nowhere,
    ) -> None:
        self.machine = machine
        self.clock = clock
        self.store = store
        self.inbox = Inbox()
        self.backends = dict(backends)
        self._elsewhere = elsewhere
        self.full_since: Millis | None = None  # the disk is full: nothing is decided until the commit succeeds
        self.in_turn = False  # decided, and not durable yet: what memory says may be lost with us
        self.recovered = anyio.Event()  # what passed while no engine looked is known, from every backend
        self._unheard = set(backends)  # backends whose first census has not been taken in
        self._desk = desk
        self._tickets = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._reopening = anyio.Lock()
        self._observers: list[Observer] = []

    # --- what others may do

    def post(self, *stimuli: Stimulus) -> None:
        self.inbox.post(stimuli)

    def report(self, facts: Sequence[Fact]) -> None:
        """For backends."""
        self.inbox.post(facts)

    def observe(self, observer: Observer) -> None:
        """Called after each durable turn, on the engine's task: be quick."""
        self._observers.append(observer)

    async def ask(self, command: Callable[[int], Stimulus]) -> Answer:
        """Posts a command and waits until its turn is durable. What it needs of the past is brought from the store."""
        ticket = next(self._tickets)
        stimulus = command(ticket)
        meant = stimulus.command if isinstance(stimulus, Audited) else stimulus
        if isinstance(meant, Retry):
            return await self._reopen(ticket, stimulus, meant)
        answer = await self._ask(ticket, stimulus)
        while isinstance(meant, SubmitRun) and isinstance(answer.value, dict) and "absent" in answer.value:
            absent = [JobId(each) for each in answer.value["absent"]]
            ended = await self.store.ended_jobs(absent)
            if not ended:
                return Answer(ticket, f"it needs job {absent[0]}, and there is none of that id in this state folder")
            meant = replace(meant, ended=(*meant.ended, *ended))
            stimulus = replace(stimulus, command=meant) if isinstance(stimulus, Audited) else meant
            answer = await self._ask(ticket, stimulus)
        return answer

    async def _ask(self, ticket: int, stimulus: Stimulus) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[ticket] = answer
        try:
            self.post(stimulus)
            return await answer
        finally:
            del self._asked[ticket]

    async def collect(self, before: int) -> int:
        """Deletes runs that ended before then (epoch milliseconds); returns how many."""
        total = 0
        while count := await self.store.collect(Millis(before)):
            total += count
        return total

    async def _reopen(self, ticket: int, stimulus: Stimulus, retry: Retry) -> Answer:
        """One at a time: a second could bring the run back as it was before the first, of which the rows are still on their way."""
        async with self._reopening:
            reloaded = await self._reload(retry)
            answer = await self._ask(ticket, stimulus)
            if answer.error is not None and not reloaded and await self._reload(retry):
                answer = await self._ask(
                    ticket, stimulus
                )  # it had ended, and left the memory, between the look and the turn
            return answer

    async def _reload(self, retry: Retry) -> bool:
        """An ended run is not in memory: it comes back from the store ahead of the command. Whether it was one."""
        run = retry.target.run
        if run is None or run in self.machine.state.runs:
            return False
        loaded = await self.store.load_run(run)
        if loaded is not None:
            self.post(Reload(loaded))
        return loaded is not None

    # --- tasks

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Never returns; raises where memory and disk may have parted. The restart recovers."""
        async with anyio.create_task_group() as tasks:
            executor = Executor(self.backends, self._desk, self.clock, self.report, tasks)
            for backend in self.backends.values():
                self._begin(backend, tasks)
            await self._turns(executor, tasks, task_status)

    def _begin(self, backend: Backend, tasks: TaskGroup) -> None:
        """Not waited for: calls are kept until it is connected, and the first turn has its commit to make meanwhile."""
        run = partial(backend.run, self.report, task_status=anyio.TASK_STATUS_IGNORED)
        tasks.start_soon(run, name=f"backend {backend.name}")
        tasks.start_soon(self._take_censuses, backend, name=f"census {backend.name}")

    def _add_backends(self, outcome: Outcome, tasks: TaskGroup) -> None:
        """Of nodes that were registered in this life, once something is launched there."""
        absent = {each.backend for each in outcome.effects if isinstance(each, Launch)} - self.backends.keys()
        for name in absent:
            backend = self._elsewhere(name)
            if backend is not None:
                self.backends[name] = backend
                self._begin(backend, tasks)

    async def _turns(self, executor: Executor, tasks: TaskGroup, task_status: TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await self.clock.wait(self.inbox.event, self.machine.next_deadline())
            stimuli = self.inbox.take(TURN_STIMULI) or [Tick()]
            self.in_turn = True
            outcome = self.machine.handle(stimuli, self.clock.now())
            if outcome.writes:
                await self._commit(outcome.writes)
            self.in_turn = False
            self._add_backends(outcome, tasks)
            executor.perform(outcome.effects)
            self._tell(outcome)
            if self._unheard:
                self._unheard -= {each.backend for each in stimuli if isinstance(each, Census)}
                if not self._unheard:
                    self.recovered.set()

    async def _commit(self, writes: Writes) -> None:
        """SQLITE_FULL stops the line: the same commit is tried again each second, what runs goes on."""
        while True:
            try:
                await self.store.commit(writes)
            except StoreFull as error:
                now = self.clock.now()
                if self.full_since is None:
                    self.full_since = now
                    log.error("store_full", error=str(error))
                await self.clock.sleep_until(Millis(now + FULL_RETRY_MS))
            else:
                if self.full_since is not None:
                    log.warning("store_has_room_again", waited_ms=self.clock.now() - self.full_since)
                    self.full_since = None
                return

    def _tell(self, outcome: Outcome) -> None:
        for effect in outcome.effects:
            if isinstance(effect, Answer):
                asked = self._asked.get(effect.ticket)
                if asked is not None and not asked.done():  # who asked may have gone
                    asked.set_result(effect)
        if any(row.status != RunStatus.RUNNING for row in outcome.writes.runs.values()):
            self._desk.forget_specs()
        for observer in self._observers:
            observer(outcome)

    async def _take_censuses(self, backend: Backend) -> None:
        """The safety net under the backend's own news, and the whole of recovery at the start of a life."""
        while True:
            asked = self.machine.state.turn
            try:
                observations = await backend.census()
            except BackendUnavailable as error:
                log.warning("census_failed", backend=backend.name, error=str(error))
                pause_ms = CENSUS_RETRY_MS
            else:
                self.post(Census(backend.name, asked, tuple(observations)))
                pause_ms = CENSUS_EVERY_MS
            await self.clock.sleep_until(Millis(self.clock.now() + pause_ms))
