"""Many worlds. A failure names its seed; `python -m tests.sim SEED` replays it."""

from __future__ import annotations

import random

import pytest

from tests.sim.world import World

QUICK, EACH = 20, 12
BATCHES, WORLDS = 15, 200


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
