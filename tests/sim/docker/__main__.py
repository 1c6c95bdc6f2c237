"""`python -m tests.sim.docker SEED` replays a world and says what happens; `python -m tests.sim.docker FROM TO` plays many."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.sim.docker.world import World


def main(arguments: list[str]) -> int:
    first, last = int(arguments[0]), int(arguments[-1])
    alone = len(arguments) == 1
    began, broken, faults = time.perf_counter(), 0, 0
    for seed in range(first, last + alone):
        with TemporaryDirectory(prefix="fbw-") as folder:
            world = World(seed, Path(folder), trace=print if alone else None)
            try:
                world.play()
            except Exception as error:
                if alone:
                    raise
                broken += 1
                print(f"seed {seed}: {error!r:.600}")
            faults += world.faults
    print(f"{last + alone - first} worlds, {broken} broken, {faults} faults; {time.perf_counter() - began:.1f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
