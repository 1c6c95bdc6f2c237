"""From an end that frees a slot to the launch of the next task, with 100,000 waiting. Prints JSON.

The environment has 50 slots, and each fake task takes 20 ms: all 50 end together, so that a turn has 50 ends and as many starts in its
one commit, and a start waits for both.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import anyio
from msgspec.structs import replace

from bench.fake_tasks import plan
from flowbatch.__main__ import tune
from flowbatch.app import open_app
from flowbatch.folder import StateFolder
from flowbatch.model.jobspec import Environment, FakeScript, Queue
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, SubmitRun
from flowbatch.ports import Fact, LaunchOrder
from flowbatch.settings import Settings

SLOTS, SAMPLES = 50, 10_000
SETTINGS = Settings((Environment("default", "fake", Resources(SLOTS * 1000)),), (Queue("default"),))


async def measure() -> dict[str, float]:
    work = plan(10, 10_000)
    jobs = tuple(replace(job, spec=replace(job.spec, needs=(), fake=FakeScript(duration_ms=20))) for job in work.jobs)
    work = replace(work, jobs=jobs, environments=SETTINGS.environments)
    freed: deque[float] = deque()
    waits: list[float] = []
    over = anyio.Event()
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        async with open_app(StateFolder(Path(folder) / "state"), SETTINGS) as app:
            backend = app.engine.backends["fake"]
            report, launch = app.engine.inbox.post, backend.launch

            def post(facts: Sequence[Fact]) -> None:
                now = time.perf_counter()
                freed.extend(now for fact in facts if isinstance(fact, Exited))
                report(facts)

            def start(orders: Sequence[LaunchOrder]) -> None:
                now = time.perf_counter()
                waits.extend(now - freed.popleft() for _ in range(min(len(orders), len(freed))))
                if len(waits) >= SAMPLES:
                    over.set()
                launch(orders)

            app.engine.inbox.post = post  # type: ignore[method-assign, assignment]
            backend.launch = start  # type: ignore[method-assign]
            await app.engine.ask(lambda ticket: SubmitRun(ticket, work))
            await over.wait()
    waits.sort()
    return {
        "p50_ms": waits[len(waits) // 2] * 1000,
        "p99_ms": waits[len(waits) * 99 // 100] * 1000,
        "samples": len(waits),
    }


if __name__ == "__main__":
    tune()
    print(json.dumps(anyio.run(measure)))
