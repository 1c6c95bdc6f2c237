"""The workflows in workflows/ that need an Engine, run as they are but for the image, which the tests have already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from flowbatch.backends.docker.instance import instance_file
from flowbatch.backends.docker.names import INSTANCE
from tests.app.commands import Commands, commands
from tests.docker.engine import IMAGE, Raw

WORKFLOWS = Path(__file__).parents[2] / "workflows"
BLOCKS = 4


@pytest.fixture
def folder(tmp_path: Path, raw: Raw) -> Iterator[Path]:
    (tmp_path / "workflows").mkdir()
    for name in ("containers.yaml", "oom.yaml", "multinode-containers.yaml"):
        shutil.copy(WORKFLOWS / name, tmp_path / "workflows" / name)
    yield tmp_path
    raw.sweep_state(tmp_path / "state")  # volumes of a run that failed stay, for its retry


def label_of(flowbatch: Commands) -> str:
    return f"{INSTANCE}={json.loads(instance_file(flowbatch.state / 'docker').read_text())['instance']}"


def primes_below(end: int) -> list[int]:
    return [n for n in range(2, end) if all(n % d for d in range(2, int(n**0.5) + 1))]


def test_containers(folder: Path, raw: Raw) -> None:
    """array → N_TO_N → merge over a named volume, which goes with the run."""
    primes = primes_below(BLOCKS * 1000)
    blocks = [[n for n in primes if n // 1000 == block] for block in range(BLOCKS)]
    widest = max(b - a for block in blocks for a, b in pairwise(block))
    with commands(folder) as flowbatch:
        done = flowbatch.ok(
            "run", "workflows/containers.yaml", "-p", f"image={IMAGE}", "-p", f"blocks={BLOCKS}", "--json"
        )
        jobs = done.json["jobs"]
        assert {name: job["status"] for name, job in jobs.items()} == dict.fromkeys(
            ("sieve", "gaps", "merge"), "SUCCEEDED"
        )
        assert {name: jobs[name]["counts"]["SUCCEEDED"] for name in ("sieve", "gaps")} == {
            "sieve": BLOCKS,
            "gaps": BLOCKS,
        }
        told = flowbatch.ok("logs", "last/merge").out
        assert told == f"{len(primes)} primes below {BLOCKS}000, at most {widest} apart in their thousand\n"
        label = label_of(flowbatch)
        assert raw.labelled(label) == []
        assert not raw.ok("GET", "/volumes", filters=json.dumps({"label": [label]}))["Volumes"]


def test_oom(folder: Path, raw: Raw) -> None:
    """Too little memory at first, twice as much on the retry."""
    with commands(folder) as flowbatch:
        flowbatch.ok("run", "workflows/oom.yaml", "-p", f"image={IMAGE}")
        first, second = flowbatch.ok("show", "last/hungry", "--json").json["history"]
        assert (first["exit_code"], first["reason"]) == (137, "OutOfMemoryError: Container killed due to memory usage")
        assert second["exit_code"] == 0
        assert flowbatch.ok("logs", "last/hungry#2").out.splitlines()[0] == "attempt 2 needs 48 MiB"
        assert raw.labelled(label_of(flowbatch)) == []


def test_multinode_containers(folder: Path, raw: Raw) -> None:
    """A main node that hands out blocks, others that count; nothing of them is left, the network included."""
    with commands(folder) as flowbatch:
        words = ["-p", f"image={IMAGE}", "-p", "nodes=3", "-p", "blocks=6"]
        done = flowbatch.ok("run", "workflows/multinode-containers.yaml", *words, "--json")
        assert done.json["jobs"]["primes"]["status"] == "SUCCEEDED"
        lines = flowbatch.ok("logs", "last/primes@0").out.splitlines()
        nodes = {each["label"]: each for each in flowbatch.ok("show", "last/primes", "--json").json["members"]}
        assert raw.labelled(label_of(flowbatch)) == []
        names = [
            each["Name"] for each in raw.ok("GET", "/networks", filters=json.dumps({"label": [label_of(flowbatch)]}))
        ]
        assert names == []
    assert lines[0] == f"{len(primes_below(6000))} primes"
    counted = {line.split()[1]: int(line.split()[3]) for line in lines[1:]}
    assert set(counted) <= {"1", "2"}
    assert sum(counted.values()) == 6
    addresses = [
        each["address"] for each in nodes.values() if each["address"]
    ]  # one that was quick has none by the time of a look
    assert len(set(addresses)) == len(addresses) >= 1
    assert nodes["0"]["exit_code"] == 0


SEVERAL = """
jobs:
  web:
    image: IMAGE
    vcpus: 0.25
    memory: 16MiB
    volumes: ['shared:/shared']
    containers:
      - name: app
        needs: [{container: init, when: success}, echo]
        script: until echo "$(cat /shared/word)" | nc -w 2 localhost 7000 2> /dev/null; do sleep 0.1; done
      - {name: init, essential: false, script: echo hello > /shared/word}
      - {name: echo, essential: false, script: nc -ll -p 7000 -e cat}
  doomed:
    image: IMAGE
    vcpus: 0.25
    memory: 16MiB
    containers:
      - {name: app, needs: [{container: init, when: success}], script: echo never}
      - {name: init, essential: false, script: exit 4}
"""


def test_several_containers(folder: Path, raw: Raw) -> None:
    """Shared network and volume, dependencies, and a task whose dependency fails."""
    (folder / "several.yaml").write_text(SEVERAL.replace("IMAGE", IMAGE), encoding="utf-8")
    with commands(folder) as flowbatch:
        jobs = flowbatch.call("run", "several.yaml", "--json").json["jobs"]
        assert flowbatch.ok("logs", "last/web@app").out == "hello\n"
        members = flowbatch.ok("show", "last/web", "--json").json["members"]
        assert raw.labelled(label_of(flowbatch)) == []
    assert (jobs["web"]["status"], jobs["doomed"]["status"]) == ("SUCCEEDED", "FAILED")
    assert jobs["doomed"]["status_reason"] == "Task failed to start"
    assert [each["label"] for each in members] == ["app", "init", "echo"]
