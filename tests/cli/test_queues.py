"""`queues`: from the engine, and from the store where none runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.queues import FairShare
from flowbatch.model.stimuli import Configure
from tests.cli.filled import History
from tests.core.builders import environment, job, queue

SETTINGS = """
environments: {farm: {backend: fake, vcpus: 2, memory: 4GiB}}
queues:
  bulk: {environments: farm, policy: {share_decay: 1h, compute_reservation: 10, shares: {ann: 0.5}}}
  fast: {environments: farm, priority: 9, state: disabled, max_running: 3,
    limits: [{reason: 'MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT', max_time: 30m}]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    (tmp_path / "flowbatch.yaml").write_text(SETTINGS)
    farm = environment(2, name="farm")
    history = History(farm)
    policy = FairShare(3_600_000, 10, (("ann", 5_000),))
    history.tell(Configure((farm,), (queue("bulk", 1, "farm", policy=policy),)))
    history.begin("run", job("a", size=120, queue="bulk", share="ann"), job("b", queue="bulk", share="bob", vcpus=9))
    return history.store(tmp_path / "state")


def told(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["--state", str(folder.path), *arguments]) == 0
    return capsys.readouterr().out


def test_the_list(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(folder, capsys, "queues").splitlines()
    assert [line.split() for line in lines] == [
        ["QUEUE", "STATE", "PRIORITY", "ENVIRONMENTS", "POLICY", "RUNNING", "RUNNABLE"],
        ["fast", "DISABLED", "9", "farm", "FIFO", "0", "0"],
        ["bulk", "ENABLED", "1", "farm", "fair", "share", "1", "120"],
        ["default", "ENABLED", "1", "farm", "FIFO", "0", "0"],
    ]
    assert told(folder, capsys, "queues", "list").splitlines() == lines
    found = json.loads(told(folder, capsys, "queues", "--json"))
    assert [each["queue"] for each in found] == ["fast", "bulk", "default"]
    assert found[0]["limits"] == [{"reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT", "max_time_ms": 1_800_000}]


def test_one_queue(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(folder, capsys, "queues", "show", "bulk")
    assert "policy        fair share, usage counts for 1h; 10 % kept for shares to come; weights ann=0.5\n" in text
    assert "running       1 task on 1 vCPU\n" in text
    shares, front = text.split("\n\n")[1:]
    assert [line.split()[:4] for line in shares.splitlines()[1:]] == [["ann", "0.5", "1", "1"], ["bob", "1", "1", "0"]]
    rows = front.splitlines()
    assert rows[1].split()[:4] == ["1", "b", rows[1].split()[2], "bob"]
    assert "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE" in rows[1]
    assert rows[-2].startswith("… of 120 RUNNABLE tasks")
    assert rows[-1] == "1 job of it cannot start as the environments are now."
    found = json.loads(told(folder, capsys, "queues", "show", "bulk", "--json"))
    assert [each["name"] for each in found["front"]][:3] == ["b", "a:1", "a:2"]
    assert len(found["front"]) == 100


def test_a_queue_that_is_not_there(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "queues", "show", "nope"]) == 2
    assert capsys.readouterr().err == "flowbatch: there is no queue nope; there are fast, bulk, default\n"


def test_without_a_state_folder_there_are_those_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(tmp_path / "none"), "queues"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "default"
    assert not (tmp_path / "none").exists()
