"""Tasks on the fake backend, all durable, an event at least per child. Prints JSON: run in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import anyio

from bench.report import peak_rss_mib, rss_mib
from flowbatch.__main__ import tune
from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Environment, FakeScript, JobPlan, JobSpec, Need, Queue, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import Settings

SLOTS = 1_000
SETTINGS = Settings(
    (Environment("default", "fake", Resources(SLOTS * 1000)),), (Queue("default"),), child_events=ChildEvents.ENDS
)


def plan(arrays: int, size: int) -> RunPlan:
    """Arrays in pairs: the second N_TO_N on the first; each pair waits for the whole of the one before it."""
    jobs: list[JobPlan] = []
    for number in range(arrays):
        needs: tuple[Need, ...] = ()
        if number % 2:
            needs = (Need(jobs[-1].id, each=True),)
        elif number:
            needs = (Need(jobs[-1].id),)
        spec = JobSpec(
            f"a{number}", "default", ("true",), Resources(1000), size, needs, fake=FakeScript(), env=(("A", "b"),)
        )
        jobs.append(JobPlan(JobId(str(uuid4())), spec))
    return RunPlan(
        RunId(str(uuid4())), "bench", tuple(jobs), environments=SETTINGS.environments, queues=SETTINGS.queues
    )


async def measure(arrays: int, size: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        async with open_app(StateFolder(Path(folder) / "state"), SETTINGS) as app:
            work = plan(arrays, size)
            over = anyio.Event()
            before_mib = rss_mib()

            def look(outcome: Outcome) -> None:
                if any(row.status == RunStatus.SUCCEEDED for row in outcome.writes.runs.values()):
                    over.set()

            app.engine.observe(look)
            begun, cpu = time.perf_counter(), time.process_time()
            answer = await app.engine.ask(lambda ticket: SubmitRun(ticket, work))
            assert answer.error is None, answer.error
            submitted = time.perf_counter() - begun
            await over.wait()
            seconds = time.perf_counter() - begun
            cpu = time.process_time() - cpu
    tasks = arrays * size
    return {
        "tasks": tasks,
        "seconds": seconds,
        "tasks_per_s": tasks / seconds,
        "cpu_us_per_task": cpu * 1e6 / tasks,
        "submit_s": submitted,
        "rss_before_mib": before_mib,
        "rss_peak_mib": peak_rss_mib(),
    }


if __name__ == "__main__":
    tune()
    print(json.dumps(anyio.run(measure, int(sys.argv[1]), int(sys.argv[2]))))
