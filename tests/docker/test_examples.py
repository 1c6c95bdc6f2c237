"""The workflows in workflows/ that need an Engine, run as they are but for the image, which the tests have already."""

from __future__ import annotations

import json
import shutil
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
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workflows").mkdir()
    for name in ("containers.yaml", "oom.yaml"):
        shutil.copy(WORKFLOWS / name, tmp_path / "workflows" / name)
    return tmp_path


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
