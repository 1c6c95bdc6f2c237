"""A store with 100,000 unfinished tasks that have rows of their own: from opening it to the first placement. Prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anyio
from msgspec.structs import replace

from bench.fake_tasks import SETTINGS, plan
from flowbatch.__main__ import tune
from flowbatch.app import boot_id, open_app
from flowbatch.clock import SystemClock
from flowbatch.folder import StateFolder
from flowbatch.model.ending import Halt
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import TaskRow, Writes
from flowbatch.model.status import Status
from flowbatch.model.stimuli import SubmitRun
from flowbatch.store.writer import SqliteStore

ARRAYS, SIZE = 10, 10_000


async def prepare(folder: StateFolder) -> None:
    """Ten arrays, every child retried once and RUNNABLE again: nothing rests."""
    async with open_app(folder, replace(SETTINGS, environments=()), fake_only=True) as app:
        work = plan(ARRAYS, SIZE)
        free = replace(work, jobs=tuple(replace(job, spec=replace(job.spec, needs=())) for job in work.jobs))
        await app.engine.ask(lambda ticket: SubmitRun(ticket, replace(free, deadline_ms=None)))
    store = await SqliteStore.open(folder.database, boot_id=boot_id(), pid=1, now=SystemClock().now())
    loaded = await store.load()
    for row, _ in loaded.jobs:
        tasks = {
            (row.no, index): TaskRow(
                row.no, index, Status.RUNNABLE, 1, 0, 0, 0, None, 1, Halt.NONE, None, None, None, None, None, "again"
            )
            for index in range(SIZE)
        }
        await store.commit(Writes(tasks=tasks))
    await store.close()


async def recover(folder: StateFolder) -> dict[str, float]:
    begun = time.perf_counter()
    placed = anyio.Event()

    def look(outcome: Outcome) -> None:
        if any(row.status == Status.STARTING for row in outcome.writes.tasks.values()):
            placed.set()

    async with open_app(folder, SETTINGS) as app:
        app.engine.observe(look)
        if not app.engine.machine.state.live:
            await placed.wait()
        return {"first_placement_s": time.perf_counter() - begun}


def main() -> None:
    if len(sys.argv) > 1:
        tune()
        print(json.dumps(anyio.run(recover, StateFolder(Path(sys.argv[1])))))
        return
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        state = Path(folder) / "state"
        anyio.run(prepare, StateFolder(state))
        done = subprocess.run(
            [sys.executable, "-m", "bench.recovery", str(state)], check=True, stdout=subprocess.PIPE, text=True
        )
        print(done.stdout.strip())


if __name__ == "__main__":
    main()
