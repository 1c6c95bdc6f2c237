"""Every workflow in workflows/ is run, on a copy, and its outputs are looked into."""

from __future__ import annotations

import csv
import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.app.commands import commands

pytestmark = pytest.mark.slow

WORKFLOWS = Path(__file__).parents[2] / "workflows"
RUN = {"hello", "retries", "census", "mandelbrot", "spot", "multinode", "fairshare"}
IN_CONTAINERS = {"containers", "oom", "multinode-containers"}  # these need a Docker Engine, and so do their tests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(WORKFLOWS, tmp_path / "workflows", ignore=shutil.ignore_patterns("__pycache__", "*.png", ".*"))
    return tmp_path


def counts(job: dict[str, Any]) -> dict[str, int]:
    return {status: count for status, count in job["counts"].items() if count}


def test_each_example_has_a_test_here() -> None:
    assert {path.stem for path in WORKFLOWS.glob("*.yaml")} == RUN | IN_CONTAINERS


def test_hello(folder: Path) -> None:
    with commands(folder) as flowbatch:
        done = flowbatch.ok("run", "workflows/hello.yaml", "--json")
        assert counts(done.json["jobs"]["hello"]) == {"SUCCEEDED": 5}
        assert flowbatch.ok("logs", "last/hello:3").out == "I am 3 of 5\n"


def test_retries(folder: Path) -> None:
    with commands(folder) as flowbatch:
        done = flowbatch.call("run", "workflows/retries.yaml", "--json")
        assert done.code == 1
        jobs = done.json["jobs"]
        every = flowbatch.ok("jobs", "last", "--all", "--json").json
    statuses = {name: job["status"] for name, job in jobs.items()}
    assert statuses == {
        "flaky": "SUCCEEDED",
        "picky": "FAILED",
        "slow": "FAILED",
        "most": "SUCCEEDED",
        "after": "SUCCEEDED",
        "rescue": "SUCCEEDED",
        "report": "SUCCEEDED",
    }
    assert jobs["slow"]["status_reason"] == "Job attempt duration exceeded timeout"
    assert counts(jobs["most"]) == {"SUCCEEDED": 16, "FAILED": 4}
    singles = {job["job"]: (job["attempts"], job["exit_code"]) for job in every if jobs[job["job"]]["array"] is None}
    assert singles["flaky"] == (3, 0)
    assert singles["picky"] == (1, 2)
    assert singles["slow"][0] == 1
    failed = [job["index"] for job in every if job["job"] == "most" and job["exit_code"] == 7]
    assert failed == [4, 9, 14, 19]


def test_census(folder: Path) -> None:
    tree = folder / "tree"
    (tree / "inner").mkdir(parents=True)
    sources = {
        "one.py": "def a():\n    pass\n",
        "inner/two words.py": "import os\n\n\nasync def b():\n    pass\n\n\ndef c():\n    pass\n",
        "empty.py": "",
    }
    for name, text in sources.items():
        (tree / name).write_text(text, encoding="utf-8")
    (tree / "other.txt").write_text("not counted", encoding="utf-8")
    table = folder / "census.csv"
    with commands(folder) as flowbatch:
        words = ["-p", f"files={tree}/**/*.py", "-p", f"out={table}"]
        flowbatch.ok("run", "workflows/census.yaml", *words)
        printed = flowbatch.ok("logs", "last/merge").out
    with table.open(encoding="utf-8", newline="") as stream:
        rows = {row.pop("file"): row for row in csv.DictReader(stream)}
    assert rows == {
        str(tree / name): {
            "lines": str(text.count("\n")),
            "words": str(len(text.split())),
            "bytes": str(len(text)),
            "functions": str(text.count("def ")),
        }
        for name, text in sources.items()
    }
    assert "3 files" in printed
    assert "11 lines" in printed
    assert str(table) in printed


def test_mandelbrot(folder: Path) -> None:
    image = folder / "small.png"
    with commands(folder) as flowbatch:
        size = ["-p", "width=48", "-p", "height=33", "-p", "tiles=5", "-p", "depth=60"]
        flowbatch.ok("run", "workflows/mandelbrot.yaml", *size, "-p", f"out={image}")
    width, height, rows = decoded(image.read_bytes())
    assert (width, height) == (48, 33)
    assert all(row[0] == 0 for row in rows)  # no filter
    colours = {row[1 + 3 * x : 4 + 3 * x] for row in rows for x in range(width)}
    assert len(colours) > 50, "a blank picture"
    assert not list(folder.joinpath("workflows").glob("*.png"))


def test_multinode(folder: Path) -> None:
    """The main node hands out blocks over a socket; each node has an address of its own."""
    with commands(folder) as flowbatch:
        flowbatch.ok("run", "workflows/multinode.yaml", "-p", "nodes=4", "-p", "blocks=9")
        lines = flowbatch.ok("logs", "last/primes@0").out.splitlines()
        nodes = flowbatch.ok("show", "last/primes", "--json").json["members"]
    sieve = bytearray([1]) * 180_000
    sieve[:2] = b"\0\0"
    for n in range(2, 425):
        sieve[n * n :: n] = bytes(len(range(n * n, 180_000, n)))
    assert lines[0] == f"{sum(sieve)} primes below 180000"
    counted = {line.split()[1]: int(line.split()[3]) for line in lines[1:]}
    assert set(counted) <= {"1", "2", "3"}
    assert sum(counted.values()) == 9
    assert len({each["address"] for each in nodes}) == 4
    assert all(each["address"].startswith("127.") for each in nodes)


def test_fairshare(folder: Path) -> None:
    with commands(folder) as flowbatch:
        done = flowbatch.ok("run", "workflows/fairshare.yaml", "--json")
        assert [counts(done.json["jobs"][name]) for name in ("alice", "bob")] == [{"SUCCEEDED": 9}] * 2
        every = flowbatch.ok("jobs", "last", "--all", "--json").json
    children = sorted((each["started_at"], each["job"]) for each in every if each["index"] is not None)
    order = [job for _, job in children]
    assert order[0] == "alice", "nobody else was there yet"
    # Both wait until bob has had his nine: two of his for each of hers, whose first counts too.
    last = max(place for place, job in enumerate(order) if job == "bob")
    assert 3 <= order[:last].count("alice") <= 6


def test_spot(folder: Path) -> None:
    with commands(folder) as flowbatch:
        done = flowbatch.ok("run", "workflows/spot.yaml", "--json")
        assert counts(done.json["jobs"]["render"]) == {"SUCCEEDED": 3}
        every = flowbatch.ok("jobs", "last", "--all", "--json").json
        again = [each["index"] for each in every if each["job"] == "render" and each["attempts"] == 2]
        assert len(again) == 1, "one had to give way, and one was enough"
        shown = flowbatch.ok("show", f"last/render:{again[0]}", "--json").json
        first = shown["history"][0]
        assert re.fullmatch(r"Host EC2 \(instance i-[0-9a-f]{17}\) terminated\.", first["status_reason"])
        assert first["exit_code"] is None
        assert "given back" in flowbatch.ok("logs", f"last/render:{again[0]}#1").out


def decoded(png: bytes) -> tuple[int, int, list[bytes]]:
    """Width, height and the rows of an 8-bit RGB image; the checksums are right."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length) == (zlib.crc32(kind + data),)
        chunks[kind] = data
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    pixels = zlib.decompress(chunks[b"IDAT"])
    line = 1 + 3 * width
    assert len(pixels) == line * height
    return width, height, [pixels[y * line : (y + 1) * line] for y in range(height)]
