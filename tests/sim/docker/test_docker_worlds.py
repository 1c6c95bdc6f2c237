"""Many worlds of the Docker backend. A failure names its seed; `python -m tests.sim.docker SEED` replays it."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio
import pytest

from flowbatch.backends.docker import ends, health
from flowbatch.backends.docker.api import START_S
from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.ends import UNSEEN
from flowbatch.backends.docker.instance import instance_of
from flowbatch.backends.docker.launching import Launcher
from flowbatch.backends.docker.names import container_name
from flowbatch.backends.docker.session import Session
from flowbatch.backends.docker.watching import Rounds
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import AttemptKey
from tests.backends.conformance import Facts, running
from tests.sim.docker.engine import FakeEngine, Script
from tests.sim.docker.loop import LoopClock
from tests.sim.docker.loop import play as in_virtual_time
from tests.sim.docker.wire import Wire, WireApi
from tests.sim.docker.world import JOB, World, order_of
from tests.sim.test_planted import Bug, planted

QUICK, EACH = 6, 5

# Each with a world that finds it. Where worlds are made otherwise, look for others: a few dozen do for most.
BUGS = {
    "a start that failed is taken for a refusal": (7_001, Bug(
        Launcher._begin,
        "raise Again(message, counts=failure is None or failure.kind is not Kind.UNKNOWN)",
        'return Evidence(start_error=f"CannotStartContainerError: {message}")',
    )),
    "what holds our name is ours": (7_007, Bug(Launcher._adopt, "!= attempt.key", "== 0")),
    "events alone tell of an end": (7_009, Bug(Rounds.once, "look_at(attempt, self._attend)", "pass")),
    "the list is believed": (7_101, Bug(Rounds.once, "for attempt in stale[:INSPECTIONS]:", "for attempt in ():")),
    "a process is taken to live": (7_101, Bug(
        Rounds.once, "if self._api.lives(attempt.id, attempt.pid):", "if attempt.pid:",
    )),
    "a kill is a kill, whoever did it": (7_010, Bug(ends.evidence, "not stopped and code in KILLS", "False")),
    "what was killed to be removed has ended": (7_011, Bug(
        ends.evidence, "not stopped and code == KILLED and look.removed", "False",
    )),
    "the machine's restart is not seen": (7_013, Bug(ends.evidence, "marked != boot.id", "False")),
    "what was created and not started is adopted as running": (7_040, Bug(
        Session._take, "if look.startable or look.leaving or key", "if key",
    )),
    "an absence is no outage": (7_010, Bug(health.Health._note_outage, "self._outages.append(", "list(")),
}  # fmt: skip


def starts_of_a_late_one(folder: Path) -> tuple[int, Evidence]:
    """A start that comes after everybody has given up on it, of a task that is over before its removal comes: how often the task
    ran, and what is told of it."""

    async def main() -> tuple[int, Evidence]:
        facts = Facts(LoopClock())
        async with anyio.create_task_group() as tasks:

            def at(seconds: float, function: Callable[..., object], *arguments: object) -> None:
                async def later() -> None:
                    await anyio.sleep(seconds)
                    function(*arguments)

                tasks.start_soon(later)

            engine = FakeEngine(random.Random(1), anyio.current_time, at)
            engine.images.add("here:1")
            engine.slow_removals = 0.0
            wire = Wire(engine, random.Random(2), 0.0)
            wire.late = {"POST /start": [START_S + 20], "DELETE ": [25.0]}
            backend = DockerBackend(
                folder / "docker", folder / "logs", LoopClock(), log_cap_bytes=1 << 20, api=lambda: WireApi(wire)
            )
            key = AttemptKey(JOB, 0, 1)
            engine.scripts[container_name(instance_of(folder / "docker"), key)] = Script(0, 0.01)
            async with running(backend, facts):
                backend.launch([order_of(key, folder, "here:1")])
                end = await facts.ended(key)
                await anyio.sleep(START_S * 2)
            tasks.cancel_scope.cancel()
        return sum(box.starts for box in (*engine.boxes.values(), *engine.gone)), end.evidence

    return in_virtual_time(main)


def test_a_start_that_comes_late_runs_the_task_once(tmp_path: Path) -> None:
    assert starts_of_a_late_one(tmp_path) == (1, UNSEEN)


@pytest.mark.parametrize(
    "bug",
    [
        Bug(Launcher._undo, "await self._take_away(look)", "await self._api.start(look.id)"),
        Bug(Launcher._undo, "UNSEEN if await self._began(container) else None", "None"),
    ],
    ids=["it is sent again", "what was removed had not begun"],
)
def test_a_planted_bug_runs_it_twice(tmp_path: Path, bug: Bug) -> None:
    with planted(bug):
        assert starts_of_a_late_one(tmp_path)[0] == 2


def play(seed: int, folder: Path) -> World:
    world = World(seed, folder / str(seed))
    try:
        world.play()
    except BaseException as error:
        raise AssertionError(
            f"seed {seed}: {first_of(error)}; replay it with `python -m tests.sim.docker {seed}`"
        ) from error
    return world


def first_of(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(QUICK))
def test_worlds(batch: int, tmp_path: Path) -> None:
    for seed in range(batch * EACH, (batch + 1) * EACH):
        play(seed, tmp_path)


def test_no_stream_is_left_to_the_collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection would stay for as long as that takes, and a world would go another way each time."""
    left: list[str] = []

    def finalize(loop: asyncio.BaseEventLoop, generator: AsyncGenerator[object, None]) -> None:
        left.append(repr(generator))

    monkeypatch.setattr(asyncio.BaseEventLoop, "_asyncgen_finalizer_hook", finalize)
    for seed in (7_032, 7_036):
        play(seed, tmp_path)
    gc.collect()
    assert not left


@pytest.mark.slow
def test_a_world_that_nobody_has_seen(tmp_path: Path) -> None:
    play(random.SystemRandom().randrange(2**40), tmp_path)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_and_nothing_where_there_is_none(name: str, tmp_path: Path) -> None:
    """The same world both times: a law that always breaks finds nothing."""
    seed, bug = BUGS[name]
    play(seed, tmp_path / "without")
    with planted(bug), pytest.raises((AssertionError, BaseExceptionGroup)) as caught:
        World(seed, tmp_path / "with").play()
    assert isinstance(first_of(caught.value), AssertionError), "it was planted badly"
