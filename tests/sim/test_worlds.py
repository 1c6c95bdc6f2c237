"""Many worlds. A failure names its seed; `python -m tests.sim SEED` replays it."""

from __future__ import annotations

import random

import pytest

from tests.sim.world import World

# Worlds in which a law was broken once.
MENDED = (
    1_000_068, 1_001_850, 1_002_302, 1_002_793, 52_299, 52_371, 3_000_874, 3_001_484, 3_001_558, 3_001_898, 3_002_664, 3_003_788,
    3_005_101, 10_074, 4_000_466, 4_001_538,
)  # fmt: skip
QUICK, EACH = 24, 6
BATCHES, WORLDS = 25, 100


def play(seed: int) -> World:
    world = World(seed)
    try:
        world.play()
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}; replay it with `python -m tests.sim {seed}`") from error
    return world


@pytest.mark.parametrize("batch", range(QUICK))
def test_worlds(batch: int) -> None:
    for seed in range(batch * EACH, (batch + 1) * EACH):
        play(seed)


@pytest.mark.parametrize("seed", MENDED)
def test_what_was_mended_holds(seed: int) -> None:
    play(seed)


def test_a_world_that_nobody_has_seen() -> None:
    play(random.SystemRandom().randrange(2**40))


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_thousands_of_worlds(batch: int) -> None:
    first = 1_000_000 + batch * WORLDS
    worlds = [play(seed) for seed in range(first, first + WORLDS)]
    tasks, faults = sorted(world.tasks for world in worlds), sorted(world.faults for world in worlds)
    assert tasks[WORLDS // 2] >= 30
    assert faults[WORLDS // 2] >= 3
