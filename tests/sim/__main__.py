"""`python -m tests.sim SEED` replays a world and says what happens; `python -m tests.sim FROM TO` plays many, quietly."""

from __future__ import annotations

import statistics
import sys
import time
import traceback

from tests.sim.world import World


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        World(int(arguments[0]), trace=print).play()
        return 0
    first, last = int(arguments[0]), int(arguments[1])
    tasks, faults, turns, bad = [], [], [], 0
    began, used = time.perf_counter(), time.process_time()
    for seed in range(first, last):
        world = World(seed)
        try:
            world.play()
        except Exception:
            bad += 1
            print(f"seed {seed} ({'calm' if world.calm else 'wild'})")
            print("  ", traceback.format_exc().strip().splitlines()[-1][:400])
            if bad >= 12:
                break
        tasks.append(world.tasks)
        faults.append(world.faults)
        turns.append(world.turns)
    count, elapsed, cpu = len(tasks), time.perf_counter() - began, time.process_time() - used
    print(f"{count} worlds, {bad} broken; {count / elapsed:.0f} worlds/s ({count / cpu:.0f} per second of CPU)")
    print(
        f"median: {statistics.median(tasks)} tasks, {statistics.median(faults)} faults, {statistics.median(turns)} turns"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
