"""Multi-node jobs on the fake backend, all durable. Prints JSON: run in a process of its own.

Placed: from the submission until all nodes are ordered from the backend. That is two turns with a commit each, since the others are
launched once the main node runs; between them the backend starts it.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from uuid import uuid4

import anyio

from bench.report import peak_rss_mib
from flowbatch.__main__ import tune
from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.effects import Launch
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Environment, FakeScript, JobPlan, JobSpec, Members, NodeGroup, Part, Queue, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import Settings

SETTINGS = Settings((Environment("default", "fake", Resources(10_000_000)),), (Queue("default"),))


def plan(nodes: int) -> RunPlan:
    one = JobSpec("gang", "default", ("true",), Resources(1000), fake=FakeScript(duration_ms=50))
    members = Members((NodeGroup(0, nodes - 1, (Part("", one),)),), nodes)
    spec = JobSpec("gang", "default", ("true",), Resources(1000 * nodes), members=members)
    jobs = (JobPlan(JobId(str(uuid4())), spec),)
    return RunPlan(RunId(str(uuid4())), "bench", jobs, environments=SETTINGS.environments, queues=SETTINGS.queues)


async def measure(nodes: int, times: int) -> dict[str, float]:
    placed, whole = [], []
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        async with open_app(StateFolder(Path(folder) / "state"), SETTINGS) as app:
            launched, at, over = 0, 0.0, anyio.Event()

            def look(outcome: Outcome) -> None:
                nonlocal launched, at
                launched += sum(isinstance(effect, Launch) for effect in outcome.effects)
                if launched == nodes and not at:
                    at = time.perf_counter()
                if any(row.status == RunStatus.SUCCEEDED for row in outcome.writes.runs.values()):
                    over.set()

            app.engine.observe(look)
            for _ in range(times):
                launched, at, over = 0, 0.0, anyio.Event()
                work = plan(nodes)
                begun = time.perf_counter()
                answer = await app.engine.ask(lambda ticket, work=work: SubmitRun(ticket, work))  # type: ignore[misc]
                assert answer.error is None, answer.error
                await over.wait()
                whole.append(time.perf_counter() - begun)
                placed.append(at - begun)
    return {
        "nodes": nodes,
        "placed_ms": statistics.median(placed) * 1000,
        "placed_worst_ms": max(placed) * 1000,
        "whole_ms": statistics.median(whole) * 1000,
        "rss_peak_mib": peak_rss_mib(),
    }


if __name__ == "__main__":
    tune()
    print(json.dumps(anyio.run(measure, int(sys.argv[1]), int(sys.argv[2]))))
