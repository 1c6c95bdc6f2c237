"""What every backend must do: one suite, passed by each of them, the fake included.

A backend brings a `World`; `CASES` are run against it. Nothing here sleeps: a case waits for facts, on the world's clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from uuid import uuid4

import anyio
from msgspec.structs import replace

from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey, JobId
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started
from flowbatch.ports import Backend, Clock, Fact, LaunchOrder

JOB = JobId(str(uuid4()))  # its own in each test process: supervisors find their escapees by the attempt's id
LONG_MS = 600_000


@dataclass
class Facts:
    """All that was reported, in order, and a way to wait for more."""

    clock: Clock
    all: list[Fact] = field(default_factory=list)
    _news: anyio.Event = field(default_factory=anyio.Event)

    def report(self, facts: Sequence[Fact]) -> None:
        self.all += facts
        self._news.set()

    def of(self, key: AttemptKey) -> list[Fact]:
        return [fact for fact in self.all if fact.key == key]

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._news = anyio.Event()
            await self.clock.wait(self._news, None)

    async def started(self, key: AttemptKey) -> Started:
        await self.until(lambda: any(isinstance(fact, Started) for fact in self.of(key)))
        return next(fact for fact in self.of(key) if isinstance(fact, Started))

    async def ended(self, key: AttemptKey) -> Exited | LaunchFailed:
        await self.until(lambda: any(not isinstance(fact, Started) for fact in self.of(key)))
        return next(fact for fact in self.of(key) if not isinstance(fact, Started))

    async def exited(self, key: AttemptKey) -> Exited:
        end = await self.ended(key)
        assert isinstance(end, Exited), end
        return end


class World(Protocol):
    """A backend under test, and orders that mean the same to each."""

    facts: Facts

    @property
    def backend(self) -> Backend: ...

    def order(
        self,
        idx: int = 0,
        *,
        attempt: int = 1,
        exit_code: int = 0,
        output: str = "",
        endless: bool = False,
        ignores_term: bool = False,
        no_such_command: bool = False,
        timeout_ms: int | None = None,
        stop_grace_ms: int = LONG_MS,
    ) -> LaunchOrder: ...

    async def settled(self, key: AttemptKey) -> None:
        """It has started, and is in the state that the order asked for (its handling of TERM is in place)."""

    async def next_life(self) -> None:
        """The engine dies and another comes: `backend` is what that one sees, `facts` begins anew."""


@asynccontextmanager
async def running(backend: Backend, facts: Facts) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda *, task_status: backend.run(facts.report, task_status=task_status))
        yield
        tasks.cancel_scope.cancel()


# --- the cases


async def an_attempt_starts_then_ends(world: World) -> None:
    order = world.order()
    world.backend.launch([order])
    end = await world.facts.exited(order.key)
    first, second = world.facts.of(order.key)
    assert isinstance(first, Started)
    assert second is end
    assert end.evidence.exit_code == 0
    assert end.started_at == first.at <= end.at


async def an_exit_code_is_kept(world: World) -> None:
    orders = [world.order(0, exit_code=3), world.order(1, exit_code=255)]
    world.backend.launch(orders)
    codes = [(await world.facts.exited(order.key)).evidence.exit_code for order in orders]
    assert codes == [3, 255]


async def many_end_once_each(world: World) -> None:
    orders = [world.order(idx, exit_code=idx % 2) for idx in range(32)]
    world.backend.launch(orders)
    for order in orders:
        assert (await world.facts.exited(order.key)).evidence.exit_code == order.key.idx % 2
    assert len(world.facts.all) == 2 * len(orders)


async def launching_twice_starts_once(world: World) -> None:
    order = world.order(endless=True)
    world.backend.launch([order, order])
    await world.facts.started(order.key)
    world.backend.launch([order])
    world.backend.stop(order.key, LONG_MS, Halt.TERMINATE)
    await world.facts.exited(order.key)
    world.backend.launch([order])
    later = world.order(1)
    world.backend.launch([later])
    await world.facts.exited(later.key)
    assert len([fact for fact in world.facts.of(order.key) if isinstance(fact, Started)]) == 1


async def a_stop_before_the_start_prevents_it(world: World) -> None:
    order = world.order(endless=True)
    world.backend.launch([order])
    world.backend.stop(order.key, LONG_MS, Halt.TERMINATE)
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    assert end.evidence.exit_code is None
    assert end.evidence.start_error is None
    assert world.facts.of(order.key) == [end]


async def a_stop_asks_first(world: World) -> None:
    order = world.order(endless=True)
    world.backend.launch([order])
    await world.settled(order.key)
    world.backend.stop(order.key, LONG_MS, Halt.TERMINATE)
    world.backend.stop(order.key, LONG_MS, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence.exit_code == 128 + 15


async def a_stop_kills_after_the_grace(world: World) -> None:
    order = world.order(endless=True, ignores_term=True)
    world.backend.launch([order])
    await world.settled(order.key)
    world.backend.stop(order.key, 50, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence.exit_code == 128 + 9


async def a_later_stop_may_hurry(world: World) -> None:
    order = world.order(endless=True, ignores_term=True)
    world.backend.launch([order])
    await world.settled(order.key)
    world.backend.stop(order.key, LONG_MS, Halt.INTERRUPT)
    world.backend.stop(order.key, 0, Halt.TERMINATE)
    assert (await world.facts.exited(order.key)).evidence.exit_code == 128 + 9


async def unknown_attempts_are_fine(world: World) -> None:
    stranger = AttemptKey(JOB, 99, 1)
    world.backend.stop(stranger, 0, Halt.TERMINATE)
    world.backend.forget([stranger])
    order = world.order()
    world.backend.launch([order])
    await world.facts.exited(order.key)
    world.backend.stop(order.key, 0, Halt.TERMINATE)
    assert world.facts.of(stranger) == []


async def a_census_tells_all(world: World) -> None:
    ended, alive, waits = world.order(0, exit_code=4), world.order(1, endless=True), world.order(2, endless=True)
    world.backend.launch([ended, alive])
    await world.facts.exited(ended.key)
    started = await world.facts.started(alive.key)
    world.backend.launch([waits])
    census = {each.key: each for each in await world.backend.census()}
    assert set(census) == {ended.key, alive.key, waits.key}
    evidence = census[ended.key].evidence
    assert evidence is not None
    assert evidence.exit_code == 4
    assert census[alive.key].evidence is None
    assert census[alive.key].started_at == started.at
    assert census[waits.key].evidence is None
    for order in (alive, waits):
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        await world.facts.ended(order.key)


async def the_forgotten_are_gone(world: World) -> None:
    one, other, alive = world.order(0), world.order(1), world.order(2, endless=True)
    world.backend.launch([one, other, alive])
    await world.facts.exited(one.key)
    await world.facts.exited(other.key)
    await world.facts.started(alive.key)
    world.backend.forget([one.key, alive.key])
    world.backend.forget([one.key])
    assert {each.key for each in await world.backend.census()} == {other.key, alive.key}
    world.backend.stop(alive.key, 0, Halt.TERMINATE)
    await world.facts.exited(alive.key)


async def a_timeout_is_enforced(world: World) -> None:
    order = world.order(endless=True, timeout_ms=40)
    world.backend.launch([order])
    evidence = (await world.facts.exited(order.key)).evidence
    assert evidence.timed_out
    assert evidence.exit_code == 128 + 15


async def a_timeout_kills_after_the_grace(world: World) -> None:
    # Longer than its handling of TERM takes to be in place.
    order = world.order(endless=True, ignores_term=True, timeout_ms=150, stop_grace_ms=30)
    world.backend.launch([order])
    await world.settled(order.key)
    evidence = (await world.facts.exited(order.key)).evidence
    assert evidence.timed_out
    assert evidence.exit_code == 128 + 9


async def a_failed_start_is_no_exit(world: World) -> None:
    order = world.order(no_such_command=True)
    world.backend.launch([order])
    end = await world.facts.ended(order.key)
    assert isinstance(end, LaunchFailed)
    assert (end.evidence.start_error or "").startswith("CannotStartContainerError: ")
    assert world.facts.of(order.key) == [end]
    [seen] = await world.backend.census()
    assert seen.evidence == end.evidence


async def a_log_holds_the_output(world: World) -> None:
    order, silent = world.order(0, output="one\n\ntwo"), world.order(1)
    world.backend.launch([order, silent])
    await world.facts.exited(order.key)
    await world.facts.exited(silent.key)
    lines = (await anyio.Path(order.log).read_text()).splitlines()
    assert [line.split(" ", 2)[1:] for line in lines] == [["o", "one"], ["o", ""], ["o", "two"]]
    assert all(line.split(" ")[0].isdigit() for line in lines)
    assert await anyio.Path(silent.log).read_bytes() == b""


async def another_attempt_is_another_start(world: World) -> None:
    first, second = world.order(attempt=1, exit_code=1), world.order(attempt=2)
    world.backend.launch([first])
    assert (await world.facts.exited(first.key)).evidence.exit_code == 1
    world.backend.launch([second])
    assert (await world.facts.exited(second.key)).evidence.exit_code == 0


async def the_next_engine_finds_everything(world: World) -> None:
    ended, alive = world.order(0, exit_code=7), world.order(1, endless=True)
    world.backend.launch([ended, alive])
    await world.facts.exited(ended.key)
    await world.settled(alive.key)
    await world.next_life()
    census: dict[AttemptKey, Observation] = {each.key: each for each in await world.backend.census()}
    evidence = census[ended.key].evidence
    assert evidence is not None
    assert evidence.exit_code == 7
    assert census[alive.key].evidence is None
    world.backend.stop(alive.key, LONG_MS, Halt.TERMINATE)
    assert (await world.facts.exited(alive.key)).evidence.exit_code == 128 + 15


def as_member(order: LaunchOrder, member: int) -> LaunchOrder:
    key = order.key.of_member(member)
    return replace(order, key=key, log=order.log.replace(order.key.id, key.id))


async def members_are_told_apart(world: World) -> None:
    """Of one attempt, and of an attempt that has none; over a change of engines too."""
    first, second = as_member(world.order(0, endless=True), 0), as_member(world.order(0, exit_code=6), 1)
    alone = world.order(1, endless=True)
    world.backend.launch([first, second, alone])
    assert (await world.facts.exited(second.key)).evidence.exit_code == 6
    await world.settled(first.key)
    await world.settled(alone.key)
    await world.next_life()
    census = {each.key: each for each in await world.backend.census()}
    assert set(census) == {first.key, second.key, alone.key}
    assert census[first.key].evidence is None
    world.backend.forget([second.key])
    world.backend.stop(first.key, LONG_MS, Halt.TERMINATE)
    assert (await world.facts.exited(first.key)).evidence.exit_code == 128 + 15
    assert {each.key for each in await world.backend.census()} == {first.key, alone.key}
    world.backend.stop(alone.key, 0, Halt.TERMINATE)
    await world.facts.exited(alone.key)


CASES: list[Callable[[World], Awaitable[None]]] = [
    an_attempt_starts_then_ends,
    an_exit_code_is_kept,
    many_end_once_each,
    launching_twice_starts_once,
    a_stop_before_the_start_prevents_it,
    a_stop_asks_first,
    a_stop_kills_after_the_grace,
    a_later_stop_may_hurry,
    unknown_attempts_are_fine,
    a_census_tells_all,
    the_forgotten_are_gone,
    a_timeout_is_enforced,
    a_timeout_kills_after_the_grace,
    a_failed_start_is_no_exit,
    a_log_holds_the_output,
    another_attempt_is_another_start,
    the_next_engine_finds_everything,
    members_are_told_apart,
]
