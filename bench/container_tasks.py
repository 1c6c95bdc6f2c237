"""COUNT no-op containers as an array, WIDE at a time, durable; and the raw Engine API with the same options. Prints JSON.

`raw SOCKET COUNT WIDE`: create, start, wait, remove over plain HTTP by WIDE threads, without anything of flowbatch but the body.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from uuid import uuid4

import anyio
from msgspec.structs import replace

from flowbatch.app import open_app
from flowbatch.backends.docker.backend import DockerBackend
from flowbatch.backends.docker.body import create_body
from flowbatch.folder import StateFolder
from flowbatch.model.container import Container
from flowbatch.model.ids import AttemptKey, JobId, RunId
from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, Queue, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.resources import Resources
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import SubmitRun
from flowbatch.ports import LaunchOrder
from flowbatch.settings import Settings
from tests.docker.engine import IMAGE, Connection

CONTAINER = Container(IMAGE)
ONE = Resources(1000)


async def measure(count: int, wide: int) -> dict[str, float]:
    environment = Environment("default", "docker", ONE.times(wide))
    settings = Settings((environment,), (Queue("default"),))
    spec = JobSpec("true", "default", ("true",), ONE, count, container=CONTAINER)
    plan = RunPlan(
        RunId(str(uuid4())), "bench", (JobPlan(JobId(str(uuid4())), spec),), environments=settings.environments,
        queues=settings.queues,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        async with open_app(StateFolder(Path(folder) / "state"), settings) as app:
            docker = app.engine.backends["docker"]
            assert isinstance(docker, DockerBackend)
            docker.need()
            await docker.census()  # connected: what is measured is the work, not the imports
            over = anyio.Event()

            def look(outcome: Outcome) -> None:
                if any(row.status == RunStatus.SUCCEEDED for row in outcome.writes.runs.values()):
                    over.set()

            app.engine.observe(look)
            begun, cpu = time.perf_counter(), time.process_time()
            await app.engine.ask(lambda ticket: SubmitRun(ticket, plan))
            await over.wait()
            await docker.tidy()
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"per_s": count / seconds, "cpu_share": cpu / seconds, "cpu_ms_each": cpu * 1000 / count}


def raw(path: str, count: int, wide: int) -> dict[str, float]:
    order = LaunchOrder(
        AttemptKey(JobId("raw"), 0, 1), ("true",), {}, "/", ONE, "", 64 << 20, None, 0, container=CONTAINER
    )
    body = json.dumps(create_body(order, replace(CONTAINER), "raw", "-")).encode()
    left = iter(range(count))
    lock = threading.Lock()

    def work() -> None:
        connection = Connection(path)

        def call(method: str, path: str, data: bytes | None = None) -> bytes:
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 300, answer
            return answer

        while True:
            with lock:
                if next(left, None) is None:
                    break
            container = json.loads(call("POST", "/containers/create", body))["Id"]
            call("POST", f"/containers/{container}/start")
            call("POST", f"/containers/{container}/wait")
            call("DELETE", f"/containers/{container}?v=1")
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(wide)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_s": count / (time.perf_counter() - begun)}


if __name__ == "__main__":
    if sys.argv[1] == "raw":
        print(json.dumps(raw(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    else:
        print(json.dumps(anyio.run(measure, int(sys.argv[1]), int(sys.argv[2]))))
