"""A server in a process of its own, and clients that say what they have signed beforehand: `python -m bench.api_calls`.

Prints a JSON object. Requests are whole bytes, signed before the clock starts, so that what is measured is the server, and the little that
reading an answer takes.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CLIENTS = 32
SUBMISSIONS = 6000
DESCRIPTIONS = 8000
RUNNING = 1000
OPEN = 1000
SETTINGS = """
environments:
  busy: {backend: fake, vcpus: 1000}
  shut: {backend: fake, vcpus: 1, state: disabled}
  here: {backend: process, vcpus: 4}
queues:
  default: {environments: [shut]}
  busy: {environments: [busy]}
  here: {environments: [here]}
"""


class Server:
    def __init__(self, folder: Path, count: int = 0) -> None:
        (folder / "flowbatch.yaml").write_text(SETTINGS, encoding="utf-8")
        self.state = folder / "state"
        command = [sys.executable, "-m", "flowbatch", "--state", str(self.state), "serve", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            found = re.search(r"Serving on http://([\d.]+):(\d+)", line)
            if found is not None:
                self.host, self.port = found[1], int(found[2])
                break
        key = dict(re.findall(r"^(\w+) = (\S+)$", (self.state / "admin.key").read_text(), re.MULTILINE))
        self.known = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])
        self.signer = SigV4Auth(self.known, "batch", "us-east-1")

    def request(self, operation: str, **given: Any) -> bytes:
        """As boto3 sends it."""
        body = json.dumps(given).encode()
        url = f"http://{self.host}:{self.port}/v1/{operation.lower()}"
        headers = {"content-type": "application/json", "amz-sdk-invocation-id": str(uuid.uuid4())}
        made = AWSRequest("POST", url, headers, body)
        self.signer.add_auth(made)
        lines = "".join(f"{name}: {value}\r\n" for name, value in made.headers.items())
        head = f"POST /v1/{operation.lower()} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        return head.encode() + body

    def boto(self) -> Any:
        import boto3

        return boto3.client(
            "batch", endpoint_url=f"http://{self.host}:{self.port}", region_name="us-east-1",
            aws_access_key_id=self.known.access_key, aws_secret_access_key=self.known.secret_key,
        )  # fmt: skip

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
    return int(head[9:12]), await reader.readexactly(length)


async def drive(server: Server, requests: Iterable[bytes], clients: int) -> tuple[float, list[float], list[bytes]]:
    """Seconds in all, milliseconds each, bodies. Raises where one is refused."""
    left, each_ms, bodies = iter(requests), [], []

    async def client() -> None:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        for request in left:
            begun = time.perf_counter()
            writer.write(request)
            status, body = await answer(reader)
            each_ms.append((time.perf_counter() - begun) * 1000)
            bodies.append(body)
            if status != 200:
                raise RuntimeError(body)
        writer.close()

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    return time.perf_counter() - begun, each_ms, bodies


async def many_open(server: Server) -> tuple[float, int]:
    """p99 of a request in milliseconds while a thousand connections are open and each asks now and then; and errors."""
    pairs = [await asyncio.open_connection(server.host, server.port) for _ in range(OPEN)]
    requests = [server.request("DescribeJobQueues") for _ in range(OPEN)]
    each_ms, errors = [], 0
    for (reader, writer), request in zip(pairs, requests, strict=True):
        begun = time.perf_counter()
        writer.write(request)
        status, _ = await answer(reader)
        each_ms.append((time.perf_counter() - begun) * 1000)
        errors += status != 200
    for _, writer in pairs:
        writer.close()
    return percentile(each_ms, 99), errors


def percentile(values: list[float], per_cent: int) -> float:
    return statistics.quantiles(values, n=100)[per_cent - 1]


def idle(server: Server) -> float:
    """The share of a core that it takes when nobody asks."""
    before, begun = server.cpu_s(), time.perf_counter()
    time.sleep(10)
    return (server.cpu_s() - before) / (time.perf_counter() - begun)


def prepare(batch: Any) -> None:
    box = {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
    batch.register_job_definition(jobDefinitionName="noop", type="container", containerProperties=box)


def starts(server: Server, batch: Any, count: int = 30) -> list[float]:
    """From submit_job to the start of the process, in milliseconds: the process says when it began."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        box = {
            "command": ["/bin/sh", "-c", f"date +%s%N > {folder}/$AWS_BATCH_JOB_ID"],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}],
        }
        batch.register_job_definition(jobDefinitionName="stamp", type="container", containerProperties=box)
        for _ in range(count):
            begun = time.time_ns()
            job = batch.submit_job(jobName="j", jobQueue="here", jobDefinition="stamp")["jobId"]
            path = Path(folder, job)
            while not path.exists() or not path.read_text().strip():
                time.sleep(0.002)
            found.append((int(path.read_text()) - begun) / 1e6)
    return found


def main() -> None:
    result: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="flowbatch-bench-") as folder:
        server = Server(Path(folder))
        try:
            batch = server.boto()
            prepare(batch)
            result["idle_share"], result["idle_mb"] = idle(server), server.rss_mb()
            submit: Callable[..., bytes] = lambda **more: server.request(  # noqa: E731
                "SubmitJob", jobName="bench", jobDefinition="noop", **{"jobQueue": "default", **more}
            )
            took, each_ms, bodies = asyncio.run(drive(server, [submit() for _ in range(SUBMISSIONS)], CLIENTS))
            result["submit_per_s"], result["submit_p99_ms"] = SUBMISSIONS / took, percentile(each_ms, 99)
            ids = [json.loads(body)["jobId"] for body in bodies]
            arrays = [submit(arrayProperties={"size": 10_000}) for _ in range(20)]
            _, each_ms, _ = asyncio.run(drive(server, arrays, 1))
            result["array_ms"] = statistics.median(each_ms)
            asyncio.run(drive(server, [submit(jobQueue="busy", arrayProperties={"size": RUNNING})], 1))
            describe = [server.request("DescribeJobs", jobs=[ids[at % len(ids)]]) for at in range(DESCRIPTIONS)]
            took, each_ms, _ = asyncio.run(drive(server, describe, CLIENTS))
            result["describe_per_s"], result["describe_p99_ms"] = DESCRIPTIONS / took, percentile(each_ms, 99)
            result["open_p99_ms"], result["open_errors"] = asyncio.run(many_open(server))
            result["start_p50_ms"] = statistics.median(starts(server, batch))
        finally:
            server.close()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
