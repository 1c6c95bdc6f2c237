"""Many worlds of the Docker backend. A failure names its seed; `python -m tests.sim.docker SEED` replays it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from flowbatch.backends.docker import ends, health
from flowbatch.backends.docker.following import Follower
from flowbatch.backends.docker.launching import Launcher
from flowbatch.backends.docker.pulls import Puller
from flowbatch.backends.docker.session import Session
from flowbatch.backends.docker.watching import Rounds
from tests.sim.docker.world import World
from tests.sim.test_planted import Bug, planted

QUICK, EACH = 6, 5
FIRST_SEED = 7_000

BUGS = {
    "a start without an answer is sent again": Bug(
        Launcher._undo, "await self._take_away(look)", "await self._api.start(look.id)", 60,
    ),
    "what was removed had not begun": Bug(Launcher._undo, "UNSEEN if await self._began(container) else None", "None", 60),
    "a start that failed is taken for a refusal": Bug(
        Launcher._once,
        "raise Again(message, counts=failure is None or failure.kind is not Kind.UNKNOWN)",
        'return Evidence(start_error=f"CannotStartContainerError: {message}")', 40,
    ),
    "what holds our name is ours": Bug(Launcher._adopt, "!= attempt.key", "== 0", 60),
    "what is on its way out has failed": Bug(Launcher._adopt, "if look.leaving:", "if False:", 150),
    "a removal under way counts as done": Bug(
        Follower._after, "raise  # as long as it is there, a census would find it", "self._gone(attempt); return False", 80,
    ),
    "events alone tell of an end": Bug(Rounds.once, "look_at(attempt, self._attend)", "pass", 60),
    "the list is believed": Bug(Rounds.once, "for attempt in stale[:INSPECTIONS]:", "for attempt in ():", 60),
    "a kill is a kill, whoever did it": Bug(ends.evidence, "not stopped and code in KILLS", "False", 40),
    "a daemon's absence explains every end": Bug(ends.suffered, "outage.since - BEFORE_MS <= finished", "True", 80),
    "the machine's restart is not seen": Bug(ends.evidence, "marked != boot.id", "False", 80),
    "what was created and not started is adopted as running": Bug(
        Session._take, "if look.startable or look.leaving or key", "if key", 60,
    ),
    "a full disk is given up on": Bug(Puller._try, "pull.full = is_full(message)", "pull.full = False", 400),
    "an absence is no outage": Bug(health.Health._note_outage, "self._outages.append(", "list(", 60),
    "a stop waits for nobody": Bug(Launcher.withdraw, "if not attempt.sent:", "if True:", 80),
}  # fmt: skip


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


def worlds_until_found(bug: Bug, folder: Path) -> int | None:
    with planted(bug):
        for count in range(1, bug.worlds + 1):
            try:
                World(FIRST_SEED + count, folder / str(count)).play()
            except Exception as error:
                if not isinstance(first_of(error), AssertionError):
                    raise  # it was planted badly
                return count
    return None


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(QUICK))
def test_worlds(batch: int, tmp_path: Path) -> None:
    for seed in range(batch * EACH, (batch + 1) * EACH):
        play(seed, tmp_path)


@pytest.mark.slow
def test_a_world_that_nobody_has_seen(tmp_path: Path) -> None:
    play(random.SystemRandom().randrange(2**40), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str, tmp_path: Path) -> None:
    bug = BUGS[name]
    found = worlds_until_found(bug, tmp_path)
    print(name, found)
    assert found is not None, f"{bug.worlds} worlds have not found it"
