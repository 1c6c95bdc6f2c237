"""COUNT containers that sleep, at once: what the engine costs while nothing happens; then the next engine finds them. Prints JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import anyio

from bench.container_engine import an_engine
from bench.report import rss_mib
from flowbatch.app import open_app
from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.instance import instance_of
from flowbatch.backends.docker.names import INSTANCE
from flowbatch.folder import StateFolder
from flowbatch.model.container import Container
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status
from flowbatch.model.stimuli import SubmitRun
from flowbatch.settings import Settings
from tests.docker.engine import IMAGE, SOCKET

ONE = Resources(1000)
CALM_S = 90.0  # over the rounds of lists and inspections
SETTLE_S = 20.0


def sockets() -> int:
    """Open ones of this process."""
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            pass  # that of the listing itself
    return sum(link.startswith("socket:") for link in links)


async def measure(folder: StateFolder, count: int) -> dict[str, float]:
    settings = Settings((Environment("default", "docker", ONE.times(count)),), (Queue("default"),))
    spec = JobSpec("sleep", "default", ("sleep", "7200"), ONE, count, container=Container(IMAGE, network="none"))
    plan = RunPlan(
        RunId(str(uuid4())), "bench", (JobPlan(JobId(str(uuid4())), spec),), environments=settings.environments,
        queues=settings.queues,
    )  # fmt: skip
    async with open_app(folder, settings) as app:
        begun = time.perf_counter()
        await app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
        job = app.engine.machine.state.jobs[plan.jobs[0].id]
        up = anyio.Event()
        app.engine.observe(lambda _: up.set() if job.counts[Status.RUNNING] == count else None)
        await up.wait()
        started_s = time.perf_counter() - begun
        await anyio.sleep(SETTLE_S)
        begun, cpu = time.perf_counter(), time.process_time()
        await anyio.sleep(CALM_S)
        share = (time.process_time() - cpu) / (time.perf_counter() - begun)
        found: dict[str, float] = {
            "starts_per_s": count / started_s, "cpu_share": share, "rss_mib": rss_mib(), "sockets": sockets(),
        }  # fmt: skip
    begun, cpu = time.perf_counter(), time.process_time()
    async with open_app(folder, settings) as app:
        docker = app.engine.backends["docker"]
        assert isinstance(docker, DockerBackend)
        seen = await docker.census()
        found["recovery_s"] = time.perf_counter() - begun
        found["recovery_cpu_s"] = time.process_time() - cpu
        assert len(seen) == count, len(seen)
    return found


def main(count: int) -> None:
    with an_engine() as raw, tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as name:
        folder = StateFolder(Path(name) / "state")
        try:
            print(json.dumps(anyio.run(measure, folder, count)), flush=True)
        finally:
            if raw.path == SOCKET:  # an Engine that others use too
                left = [item["Id"] for item in raw.labelled(f"{INSTANCE}={instance_of(folder.docker)}")]
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(raw.remove, left))


if __name__ == "__main__":
    main(int(sys.argv[1]))
