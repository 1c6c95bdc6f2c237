"""Engines that live and die on one store and one backend: the store is SQLite, the backend pretends and remembers."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import anyio
from anyio.abc import TaskStatus

from flowbatch.backends.fake import FakeBackend
from flowbatch.clock import VirtualClock
from flowbatch.core.invariants import check
from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.engine.loop import Engine
from flowbatch.engine.orders import OrderDesk
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.jobspec import RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.stimuli import Exited, Observation, Resume, Started, SubmitRun
from flowbatch.ports import Backend, Fact, LaunchOrder, Report, Store
from flowbatch.spec.compile import parse, plan
from flowbatch.spec.pinning import pinned
from flowbatch.store.reader import Reader
from flowbatch.store.writer import SqliteStore

T0 = 1_700_000_000_000
VCPUS = 3

WORKFLOW = """
name: rich
environments: {here: {backend: fake, vcpus: 3}}
queues: {only: {environments: [here]}}
defaults: {queue: only, command: [pretend]}
jobs:
  first: {x-fake: {duration: 50ms}}
  wide:
    needs: first
    array: {size: 4, tolerate: 1}
    x-fake: {duration: 30ms, by_index: {'2': {exit: 9}}}
  each: {needs: [{each: wide, when: done}], x-fake: {duration: 20ms}}
  flaky:
    retry: {attempts: 3, backoff: 100ms..1s}
    x-fake: {duration: 10ms, by_attempt: {'1': {exit: 3}}}
  chain: {array: {size: 3, sequential: true}, x-fake: {duration: 5ms}}
  narrow: {array: {size: 3, max_running: 1}, x-fake: {duration: 15ms}}
  broken: {x-fake: {launch_error: 'CannotStartContainerError: there is no such thing'}}
  rescue: {needs: [{job: broken, when: failure}]}
  after: {needs: broken}
  unused: {needs: [{job: first, when: failure}]}
  long: {timeout: 200ms, x-fake: {duration: 1h}}
  gang:
    attempts: 2
    vcpus: 0.5
    nodes:
      count: 2
      main: 1
      groups:
        - {range: 0, x-fake: {duration: 1h}}
        - range: 1
          containers:
            - {name: app, needs: [{container: init, when: success}], x-fake: {duration: 20ms, by_attempt: {'1': {exit: 4}}}}
            - {name: init, essential: false, x-fake: {duration: 10ms}}
  gone: {attempts: 2, x-fake: {by_attempt: {'1': {lost: true, duration: 40ms}}}}
  empty: {array: 0, needs: wide}
  last: {needs: [each, flaky, chain, narrow, empty]}
finally:
  report: {x-fake: {duration: 10ms}}
"""


def planned(text: str = WORKFLOW) -> RunPlan:
    made = plan(
        parse(text.encode(), "rich.yaml"),
        params={},
        run_id=str(uuid4()),
        new_id=lambda: str(uuid4()),
        folder="/",
        home="/",
        read_source=lambda request: [],
        available=(),
        queues=(),
        root=False,
        guard=None,
    )
    return pinned(made.run, made.environments, made.queues)


class Memory(FakeBackend):
    """Remembers what it started, and that it was never asked for more than there is."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.starts: Counter[AttemptKey] = Counter()
        self.asked = anyio.Event()  # of the present life: its first census is in the inbox
        self._resources: dict[AttemptKey, Resources] = {}
        self._running: set[AttemptKey] = set()

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        self._resources |= {order.key: order.resources for order in orders}
        super().launch(orders)

    async def census(self) -> list[Observation]:
        self.asked.set()
        return await super().census()

    async def run(self, report: Report, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        def remember(facts: Sequence[Fact]) -> None:
            for fact in facts:
                if isinstance(fact, Started):
                    self.starts[fact.key] += 1
                    self._running.add(fact.key)
                    lives = {(key.task, key.attempt) for key in self._running}
                    assert len({task for task, _ in lives}) == len(lives), "two lives of one task"
                    assert sum(self._resources[key].vcpus_milli for key in self._running) <= VCPUS * 1000
                elif isinstance(fact, Exited):
                    self._running.discard(fact.key)
            report(facts)

        await super().run(remember, task_status=task_status)

    async def alone(self, clock: VirtualClock, duration_ms: int) -> None:
        """The world goes on while no engine lives; nobody hears of it."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.run, lambda facts: None)
            await clock.wait(anyio.Event(), Millis(clock.now() + duration_ms))
            tasks.cancel_scope.cancel()


class Rig:
    """A state folder with one run, and a backend that outlives its engines."""

    def __init__(self, folder: Path, plan: RunPlan) -> None:
        self.folder = folder
        self.plan = plan
        self.clock = VirtualClock(T0)
        self.backend = Memory(self.clock)

    @asynccontextmanager
    async def engine(
        self,
        *,
        store: Callable[[Store], Store] = lambda store: store,
        backend: Callable[[Backend], Backend] = lambda backend: backend,
        held: bool = False,
    ) -> AsyncIterator[Engine]:
        """One life; what it raises comes out of the block, in groups."""
        sqlite = await SqliteStore.open(self.folder / "flowbatch.db", boot_id="boot", pid=1, now=self.clock.now())
        try:
            state = rebuild(await sqlite.load(), enforcing=frozenset(["fake"]))
            for run in state.runs.values():
                run.held = held
            desk = OrderDesk(self.folder, log_cap_bytes=1 << 20)
            backends: Mapping[str, Backend] = {"fake": backend(self.backend)}
            engine = Engine(Machine(state), store(sqlite), backends, desk, self.clock)
            engine.observe(lambda _: check(state))
            self.backend.asked = anyio.Event()
            async with anyio.create_task_group() as tasks:
                await tasks.start(engine.run)
                yield engine
                tasks.cancel_scope.cancel()
        finally:
            await sqlite.close()

    async def to_the_end(self, engine: Engine) -> None:
        """Submits or resumes the run as the command line would, and stays until it is over and nothing is left of it."""
        over = anyio.Event()

        def look(outcome: Outcome) -> None:
            rows = outcome.writes.runs.values()
            if any(row.id == self.plan.id and row.status is not RunStatus.RUNNING for row in rows):
                over.set()

        engine.observe(look)
        with self.reader() as reader:
            known = {run.id: run.status for run in reader.runs()}
        if self.plan.id not in known:
            await engine.ask(lambda ticket: SubmitRun(ticket, self.plan))
        if known.get(self.plan.id, RunStatus.RUNNING) is RunStatus.RUNNING:
            await engine.ask(Resume)
            await over.wait()
        await self.backend.asked.wait()
        await engine.ask(Resume)
        assert await self.backend.census() == [], "the backend keeps what nobody waits for"

    def result(self) -> dict[tuple[str, int], tuple[Status, int | None]]:
        """How every task ended. Checks by the way that what is stored is what ran."""
        found = {}
        with self.reader() as reader:
            [run] = reader.runs()
            assert run.status is not RunStatus.RUNNING
            starts = Counter[AttemptKey]()
            for job in reader.jobs(run):
                for task in reader.tasks(job):
                    index = task.index or 0
                    attempts = reader.attempts(job, index)
                    assert [each.key.attempt for each in attempts] == list(range(1, task.attempts + 1))
                    for each in attempts:
                        crew = reader.members(job, index, each.key.attempt)
                        starts.update(one.key for one in crew if one.started_at is not None)
                        if not crew and each.started_at is not None:
                            starts[each.key] += 1
                    found[job.name, index] = (task.status, task.exit_code)
        assert starts == self.backend.starts, "every attempt was started once, and is known"
        return found

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with Reader(self.folder / "flowbatch.db") as reader:
            yield reader
