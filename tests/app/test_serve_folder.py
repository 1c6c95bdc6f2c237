"""`serve FOLDER` as a process: what lies there runs, by its content, and the drop box gives results."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.app.commands import PATIENCE_S, Commands

pytestmark = pytest.mark.slow


@pytest.fixture
def flows(flowbatch: Commands) -> Path:
    path = flowbatch.folder / "flows"
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    return path


def serve(flowbatch: Commands, *words: str) -> subprocess.Popen[str]:
    process = flowbatch.start("serve", "flows", "--listen", "127.0.0.1:0", *words)
    assert process.stderr is not None
    for line in process.stderr:
        if re.search(r"^Watching .*/flows$", line):
            return process
    raise AssertionError("it never served")


def stop(flowbatch: Commands, process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert flowbatch.end(process).code == 0


def until(there: Callable[[], bool]) -> None:
    """The folder is polled once a second by a process of its own: there is nothing to wait on but what it writes."""
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(flowbatch: Commands) -> list[tuple[str, str]]:
    return [(run["workflow"], run["status"]) for run in reversed(flowbatch.ok("runs", "--all", "--json").json)]


def test_a_folder_of_workflows_is_served(flowbatch: Commands, flows: Path) -> None:
    (flows / "one.yaml").write_text("jobs: {a: {script: 'echo one > one.txt'}}\n")
    (flows / "bad.yaml").write_text("jobs: {a: {scrip: 'true'}}\n")
    (flows / "asked.yaml").write_text("start: manual\njobs: {a: {script: 'true'}}\n")
    (flows / "nightly.yaml").write_text("schedule: {cron: '0 2 * * *'}\njobs: {a: {script: 'true'}}\n")
    process = serve(flowbatch)
    (flows / "inbox" / "drop.yaml").write_text("jobs: {a: {script: 'exit 3'}}\n")
    until((flows / "inbox" / "failed" / "drop.yaml.result.json").exists)
    until((flows / "one.txt").exists)  # a job runs where its file lies
    until((flows / "bad.yaml.errors.txt").exists)
    until(lambda: sorted(runs(flowbatch)) == [("drop", "FAILED"), ("one", "SUCCEEDED")])
    assert "did you mean 'script'?" in (flows / "bad.yaml.errors.txt").read_text()
    result = json.loads((flows / "inbox" / "failed" / "drop.yaml.result.json").read_text())
    assert (result["status"], result["jobs"]["a"]["counts"]) == ("FAILED", {"FAILED": 1})
    assert [each["workflow"] for each in flowbatch.ok("schedules", "--json").json] == ["nightly.yaml"]
    stop(flowbatch, process)
    process = serve(flowbatch)
    (flows / "two.yaml").write_text("jobs: {a: {script: 'true'}}\n")
    until(lambda: ("two", "SUCCEEDED") in runs(flowbatch))
    assert [name for name, _ in runs(flowbatch)].count("one") == 1
    stop(flowbatch, process)


def test_a_job_that_was_submitted_before_runs_with_the_server(flowbatch: Commands, flows: Path) -> None:
    job = flowbatch.ok("submit", "--", "sh", "-c", "echo now > ran.txt").out.strip()
    assert not (flowbatch.folder / "ran.txt").exists()
    process = serve(flowbatch)
    until((flowbatch.folder / "ran.txt").exists)
    flowbatch.ok("submit", "--needs", job, "--", "sh", "-c", "echo then > then.txt")
    until((flowbatch.folder / "then.txt").exists)
    stop(flowbatch, process)


def test_a_folder_that_others_may_write_to_is_refused(flowbatch: Commands, flows: Path) -> None:
    flows.chmod(0o777)
    refused = flowbatch.call("serve", "flows", "--listen", "127.0.0.1:0")
    assert refused.code == 2
    assert "others may write here, and what they put in would run as you" in refused.err
