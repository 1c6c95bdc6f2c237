"""`python -m tests.sim SEED` replays a world and says what happens; `python -m tests.sim FROM TO` plays many, on all cores."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from tests.sim.world import World

CHUNK = 20


def play(seeds: range) -> list[tuple[tuple[int, int, int], str | None]]:
    """Tasks, faults and turns of each world, and what was wrong with it."""
    found: list[tuple[tuple[int, int, int], str | None]] = []
    gc.collect()  # what the chunk before left; the modules are looked at once
    gc.freeze()
    gc.disable()  # a fifth of the time otherwise, and a chunk makes little garbage
    for seed in seeds:
        world, wrong = World(seed), None
        try:
            world.play()
        except Exception:
            kind = "calm" if world.calm else "wild"
            wrong = f"seed {seed} ({kind}): {traceback.format_exc().strip().splitlines()[-1]:.400}"
        found.append(((world.tasks, world.faults, world.turns), wrong))
    return found


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        World(int(arguments[0]), trace=print).play()
        return 0
    first, last = int(arguments[0]), int(arguments[1])
    began = time.perf_counter()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        chunks = [range(at, min(at + CHUNK, last)) for at in range(first, last, CHUNK)]
        worlds = [world for chunk in pool.map(play, chunks) for world in chunk]
    elapsed = time.perf_counter() - began
    wrong = [text for _, text in worlds if text is not None]
    print(*wrong[:20], sep="\n")
    tasks, faults, turns = (statistics.median(figures[column] for figures, _ in worlds) for column in range(3))
    print(f"{len(worlds)} worlds, {len(wrong)} broken; {len(worlds) / elapsed:.0f} worlds/s")
    print(f"median: {tasks} tasks, {faults} faults, {turns} turns")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
