"""Nodes elsewhere: one environment over two Engines, one by its socket and one over TLS by a context of Docker's."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flowbatch.backends.docker.names import ATTEMPT, INSTANCE
from flowbatch.model.status import Status
from tests.app.commands import PATIENCE_S, Commands, commands
from tests.docker.daemon import a_daemon
from tests.docker.engine import IMAGE, Raw
from tests.docker.test_tls import HOST, authority, identity

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="a dockerd of the test's own needs root"),
    pytest.mark.timeout(300),
]

NAME = "farm-two"
TASKS = 4
SETTINGS = f"""
environments:
  farm:
    backend: docker
    type: unmanaged
    nodes:
      here: {{vcpus: 2, memory: 1GiB}}
      there: {{vcpus: 2, memory: 1GiB, endpoint: 'context:{NAME}'}}
"""
FILE = f"""
jobs:
  each:
    image: {IMAGE}
    array: {TASKS}
    vcpus: 1
    memory: 16MiB
    network: none
    volumes: ['mine:/mine']
    script: 'trap "exit $((40 + AWS_BATCH_JOB_ARRAY_INDEX))" TERM; hostname; while :; do sleep 0.1; done'
"""


def context(home: Path, certificates: Path) -> None:
    """As `docker context create` makes it."""
    mark = hashlib.sha256(NAME.encode()).hexdigest()
    kept = home / ".docker" / "contexts" / "meta" / mark
    kept.mkdir(parents=True)
    endpoint = {"Host": f"tcp://{HOST}", "SkipTLSVerify": False}
    (kept / "meta.json").write_text(json.dumps({"Name": NAME, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    files = home / ".docker" / "contexts" / "tls" / mark / "docker"
    files.mkdir(parents=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (files / name).write_bytes((certificates / name).read_bytes())


def containers(engines: list[Raw], instances: list[str]) -> list[list[dict[str, Any]]]:
    """Of each Engine. Both have names of their own: an Engine that two endpoints lead to would be asked twice."""
    return [raw.labelled(f"{INSTANCE}={instance}") for raw, instance in zip(engines, instances, strict=True)]


def running(flowbatch: Commands) -> int:
    with flowbatch.reader() as reader:
        jobs = [job for run in reader.open_runs() for job in reader.jobs(run)]
        return sum(task.status is Status.RUNNING for job in jobs for task in reader.tasks(job))


def wait_until_running(flowbatch: Commands, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (flowbatch.state / "flowbatch.db").exists() or running(flowbatch) < count:
        assert time.monotonic() < deadline, "they do not start"
        time.sleep(0.05)


async def test_one_environment_over_two_engines(tmp_path: Path, raw: Raw) -> None:
    """Each task on the Engine of its node; found there by the engine after a kill -9; nothing stays behind on either."""
    signer = authority(tmp_path / "authority")
    server = identity(signer, tmp_path / "server", "engine", "serverAuth")
    context(tmp_path, identity(signer, tmp_path / "client", "flowbatch", "clientAuth"))
    files = [f"--tls{word}={server}/{name}.pem" for word, name in (("cacert", "ca"), ("cert", "cert"), ("key", "key"))]
    async with a_daemon("--tlsverify", *files, f"--host=tcp://{HOST}") as daemon:
        with commands(tmp_path, {"HOME": str(tmp_path)}, prefix=daemon.inside()) as flowbatch:
            flowbatch.write("flowbatch.yaml", SETTINGS)
            flowbatch.write("each.yaml", FILE)
            engine = flowbatch.start("run", "each.yaml")
            wait_until_running(flowbatch, TASKS)
            engine.kill()
            engine.communicate()
            folder = flowbatch.state / "docker"
            marks = [*folder.glob("instance"), *folder.glob("nodes/*/instance")]
            instances = [json.loads(mark.read_text())["instance"] for mark in marks]
            both = containers([raw, daemon.raw], instances)
            assert [len(each) for each in both] == [TASKS // 2, TASKS // 2], both
            last = [max(each, key=lambda item: str(item["Labels"][ATTEMPT])) for each in both]
            for one, item in zip((raw, daemon.raw), last, strict=True):  # ends while no engine looks
                one.ok("POST", f"/containers/{item['Id']}/kill", signal="TERM")

            resumed = flowbatch.start("resume")
            for one, each in zip((raw, daemon.raw), both, strict=True):
                for item in each:
                    one.call("POST", f"/containers/{item['Id']}/kill", signal="TERM")
            done = flowbatch.end(resumed)
            assert done.code == 1, done
            shown = [flowbatch.ok("show", f"last/each:{index}", "--json").json for index in range(TASKS)]
            assert [each["exit_code"] for each in shown] == [40, 41, 42, 43]
            assert [each["attempts"] for each in shown] == [1] * TASKS
            assert [each["node"] for each in shown] == ["here", "here", "there", "there"]
            assert "\nnode         there\n" in flowbatch.ok("show", "last/each:3").out
            assert containers([raw, daemon.raw], instances) == [[], []]
            found = flowbatch.ok("doctor", "--json").json
            assert any(
                f"node farm/there: Engine {daemon.raw.ok('GET', '/version')['Version']}" in each["text"]
                for each in found
            )
            for instance in instances:
                raw.sweep(instance)  # the volume of a run that failed
