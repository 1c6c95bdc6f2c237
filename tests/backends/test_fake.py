from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest

from flowbatch.backends.fake import FakeBackend
from flowbatch.clock import VirtualClock
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey
from flowbatch.model.jobspec import FakeScript
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, LaunchFailed, Started
from flowbatch.ports import LaunchOrder
from tests.backends.conformance import CASES, JOB, LONG_MS, Facts, World, running


def scripted(script: FakeScript, idx: int = 0, attempt: int = 1, log: str = "", **limits: int) -> LaunchOrder:
    return LaunchOrder(
        key=AttemptKey(JOB, idx, attempt),
        command=(),
        env={},
        workdir="/",
        resources=Resources(),
        log=log,
        log_cap_bytes=1 << 20,
        timeout_ms=limits.get("timeout_ms"),
        stop_grace_ms=limits.get("stop_grace_ms", LONG_MS),
        fake=script,
    )


class FakeWorld:
    def __init__(self, logs: Path, stack: AsyncExitStack) -> None:
        self.clock = VirtualClock(1_000)
        self.backend = FakeBackend(self.clock, write_logs=True)
        self.facts = Facts(self.clock)
        self.logs = logs
        self.stack = stack

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
    ) -> LaunchOrder:
        script = FakeScript(
            duration_ms=10 * LONG_MS if endless else 0,
            exit_code=exit_code,
            output=output,
            ignores_term=ignores_term,
            launch_error="CannotStartContainerError: no such command" if no_such_command else None,
        )
        limits = {"stop_grace_ms": stop_grace_ms} | ({} if timeout_ms is None else {"timeout_ms": timeout_ms})
        return scripted(script, idx, attempt, str(self.logs / "ab" / f"{idx}.{attempt}.log"), **limits)

    async def settled(self, key: AttemptKey) -> None:
        await self.facts.started(key)

    async def next_life(self) -> None:
        await self.stack.aclose()
        self.facts = Facts(self.clock)
        await self.stack.enter_async_context(running(self.backend, self.facts))


@asynccontextmanager
async def fake_world(logs: Path) -> AsyncIterator[FakeWorld]:
    async with AsyncExitStack() as stack:
        world = FakeWorld(logs, stack)
        await stack.enter_async_context(running(world.backend, world.facts))
        yield world


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_conformance(case: Callable[[World], Awaitable[None]], tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        await case(world)


async def test_takes_as_long_as_its_script_says(tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        slow, quick = scripted(FakeScript(duration_ms=5_000), 0), scripted(FakeScript(duration_ms=2_000), 1)
        world.backend.launch([slow])
        await world.facts.started(slow.key)
        world.backend.launch([quick])  # while the backend sleeps for the slow one
        assert (await world.facts.exited(quick.key)).at == 3_000
        assert (await world.facts.exited(slow.key)).at == 6_000
        assert world.clock.now() == 6_000


async def test_follows_the_scripts_of_indices_and_attempts(tmp_path: Path) -> None:
    fails_first = FakeScript(by_attempt={1: FakeScript(exit_code=9)})
    script = FakeScript(exit_code=1, by_index={1: FakeScript(exit_code=2), 2: fails_first})
    async with fake_world(tmp_path) as world:
        codes = {}
        for idx, attempt in ((0, 1), (1, 1), (2, 1), (2, 2)):
            order = scripted(script, idx, attempt)
            world.backend.launch([order])
            codes[idx, attempt] = (await world.facts.exited(order.key)).evidence.exit_code
    assert codes == {(0, 1): 1, (1, 1): 2, (2, 1): 9, (2, 2): 0}


async def test_a_lost_attempt_has_no_exit_code(tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        order = scripted(FakeScript(lost=True))
        world.backend.launch([order])
        evidence = (await world.facts.exited(order.key)).evidence
    assert evidence.lost
    assert evidence.exit_code is None


async def test_an_end_within_the_grace_of_a_timeout_keeps_its_code(tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        script = FakeScript(duration_ms=120, exit_code=5, ignores_term=True)
        order = scripted(script, timeout_ms=100, stop_grace_ms=50)
        world.backend.launch([order])
        end = await world.facts.exited(order.key)
    assert (end.at, end.evidence.exit_code, end.evidence.timed_out) == (1_120, 5, True)


async def test_a_stop_does_not_delay_a_natural_end(tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        order = scripted(FakeScript(duration_ms=120, exit_code=5, ignores_term=True))
        world.backend.launch([order])
        await world.facts.started(order.key)
        world.backend.stop(order.key, 10_000, Halt.TERMINATE)
        end = await world.facts.exited(order.key)
    assert (end.at, end.evidence.exit_code) == (1_120, 5)


async def test_every_launch_of_a_crowd_is_answered_in_order(tmp_path: Path) -> None:
    async with fake_world(tmp_path) as world:
        orders = [scripted(FakeScript(), idx) for idx in range(5_000)]
        world.backend.launch(orders)
        world.backend.stop(orders[-1].key, 0, Halt.TERMINATE)
        await world.facts.until(lambda: len(world.facts.all) == 2 * len(orders) - 1)
        kinds: dict[AttemptKey, list[type]] = {}
        for fact in world.facts.all:
            kinds.setdefault(fact.key, []).append(type(fact))
    assert kinds.pop(orders[-1].key) == [LaunchFailed]
    assert all(kind == [Started, Exited] for kind in kinds.values())


async def test_check_says_that_it_pretends() -> None:
    [finding] = await FakeBackend(VirtualClock()).check()
    assert finding.level == "note"


async def test_run_says_when_it_takes_calls() -> None:
    backend = FakeBackend(VirtualClock())
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda *, task_status: backend.run(lambda facts: None, task_status=task_status))
        assert await backend.census() == []
        tasks.cancel_scope.cancel()
