"""Worlds of the simulator a second: `python -m bench.sim_worlds COUNT` prints one JSON object. Each core plays its part, as CI does.

After every step the laws look at what it touched; at each crash and each twentieth step at everything, and at the state that the store
would bring back.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.sim.__main__ import CHUNK, play

FIRST_SEED = 10_000


def main(count: int) -> None:
    chunks = [range(at, min(at + CHUNK, FIRST_SEED + count)) for at in range(FIRST_SEED, FIRST_SEED + count, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(len, chunks))  # the processes are there
        begun = time.perf_counter()
        worlds = [world for chunk in pool.map(play, chunks) for world in chunk]
        elapsed = time.perf_counter() - begun
    wrong = [text for _, text in worlds if text is not None]
    assert not wrong, wrong[:3]
    tasks, faults = (statistics.median(figures[column] for figures, _ in worlds) for column in range(2))
    print(json.dumps({"worlds_per_s": count / elapsed, "median_tasks": tasks, "median_faults": faults}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
