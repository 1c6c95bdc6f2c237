"""COUNT × /bin/true as an array on processes, WIDE at a time, durable: `process_tasks COUNT WIDE FOLDER`. Prints JSON: run in a process
of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from uuid import uuid4

import anyio

from flowbatch.__main__ import tune
from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import Settings


async def measure(count: int, wide: int, folder: str) -> dict[str, float]:
    environment = Environment("default", "process", Resources(wide * 1000))
    settings = Settings((environment,), (Queue("default"),))
    spec = JobSpec("true", "default", ("/bin/true",), Resources(1000), count)
    plan = RunPlan(
        RunId(str(uuid4())), "bench", (JobPlan(JobId(str(uuid4())), spec),), environments=settings.environments,
        queues=settings.queues,
    )  # fmt: skip
    async with open_app(StateFolder(Path(folder) / "state"), settings) as app:
        over = anyio.Event()
        status: list[int] = []

        def look(outcome: Outcome) -> None:
            ended = [row.status for row in outcome.writes.runs.values() if row.status != RunStatus.RUNNING]
            if ended:
                status.extend(ended)
                over.set()

        app.engine.observe(look)
        begun, cpu = time.perf_counter(), time.process_time()
        await app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
        await over.wait()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        turns = app.engine.machine.state.turn
        assert status == [RunStatus.SUCCEEDED], status
    logs = sum(len(files) for _, _, files in os.walk(Path(folder) / "state" / "logs"))
    assert logs == count, f"{logs} logs of {count} tasks"
    return {"tasks_per_s": count / seconds, "engine_cpu_us_per_task": cpu * 1e6 / count, "turns": turns}


if __name__ == "__main__":
    tune()
    print(json.dumps(anyio.run(measure, int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
