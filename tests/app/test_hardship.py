"""A world that gives little: nobody reads, the disk refuses, descriptors are few, logs flood. F21, F48 through the command line."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowbatch.model.status import RunStatus, Status
from tests.app.commands import PATIENCE_S, Commands

pytestmark = pytest.mark.slow

# as many lines as no pipe holds, on the fake backend; then a real process says that the run has come so far
TALKATIVE = """
environments: {fakes: {backend: fake}, real: {backend: process}}
queues: {fakes: {environments: [fakes]}, real: {environments: [real]}}
defaults: {queue: fakes, command: [pretend]}
jobs:
JOBS
finally:
  last: {queue: real, script: 'echo over > news'}
"""
ONE = "jobs: {one: {command: ['true']}, two: {needs: one, script: 'exit 3'}}"


def shell(flowbatch: Commands, before: str, *words: str | Path, after: str = "") -> subprocess.CompletedProcess[str]:
    """The command line after some words of the shell's, and with redirections after it."""
    command = shlex.join([sys.executable, "-m", "flowbatch", "--state", str(flowbatch.state), *map(str, words)])
    return subprocess.run(
        ["/bin/sh", "-c", f"{before}\nexec {command} {after}"],
        env=flowbatch.env,
        cwd=flowbatch.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def statuses(flowbatch: Commands) -> list[Status]:
    with flowbatch.reader() as reader:
        run = reader.run("last")
        assert run.status is not RunStatus.RUNNING
        return [job.status for job in reader.jobs(run)]


@pytest.mark.parametrize(
    "after", [">/dev/full", ">&-", ">/dev/full 2>/dev/full", ">&- 2>&-", "</dev/null >&- 2>&- <&-"]
)
@pytest.mark.parametrize("json", [[], ["--json"]], ids=["plain", "json"])
def test_a_run_that_nobody_can_be_told_of_goes_to_its_end(flowbatch: Commands, after: str, json: list[str]) -> None:
    """The exit code says all the same how it went."""
    done = shell(flowbatch, "", "run", flowbatch.write("one.yaml", ONE), *json, after=after)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert statuses(flowbatch) == [Status.SUCCEEDED, Status.FAILED]


def test_a_reader_that_goes_away_takes_no_run_with_it(flowbatch: Commands) -> None:
    gate, news = flowbatch.pipe("gate"), flowbatch.pipe("news")
    text = "jobs: {one: {script: 'echo here > news; read _ < gate'}, two: {needs: one, script: 'exit 3'}}"
    engine = flowbatch.start("run", flowbatch.write("one.yaml", text))
    news.line()
    assert engine.stdout is not None
    engine.stdout.close()
    gate.let(1)
    assert engine.stderr is not None
    with engine.stderr:
        assert "Traceback" not in engine.stderr.read()
    assert engine.wait(PATIENCE_S) == 1
    assert statuses(flowbatch) == [Status.SUCCEEDED, Status.FAILED]


def test_a_reader_that_sleeps_stops_no_engine(flowbatch: Commands) -> None:
    """Not one line is taken from the pipe until the run is over."""
    news = flowbatch.pipe("news")
    jobs = "\n".join(f"  a-job-with-a-name-of-some-length-{number}: {{}}" for number in range(1500))
    engine = flowbatch.start("run", flowbatch.write("talk.yaml", TALKATIVE.replace("JOBS", jobs)))
    assert news.line() == "over"
    done = flowbatch.end(engine)
    assert done.code == 0
    assert len(done.out) > 1 << 17  # twice what a pipe holds
    assert "SUCCEEDED" in done.out.splitlines()[-1]


def test_few_descriptors_only_slow_a_run(flowbatch: Commands) -> None:
    """Two hundred want to run at once; each takes three of the supervisor's descriptors."""
    text = "jobs: {many: {array: 200, vcpus: 0.001, script: 'sleep 0.05; echo $AWS_BATCH_JOB_ARRAY_INDEX'}}"
    done = shell(flowbatch, "ulimit -n 256", "run", flowbatch.write("many.yaml", text), "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    with flowbatch.reader() as reader:
        [job] = reader.jobs(reader.run("last"))
        assert job.counts == {Status.SUCCEEDED: 200}
        assert [task.attempts for task in reader.tasks(job)] == [1] * 200
    assert flowbatch.ok("logs", "last/many:150").out == "150\n"


def test_a_flood_stays_within_its_cap_and_is_told(flowbatch: Commands) -> None:
    flowbatch.env["FLOWBATCH_LOG_CAP"] = "1"  # MiB
    text = "jobs: {flood: {array: 2, script: 'yes flood | head -c 30000000; echo the end'}}"
    flowbatch.ok("run", flowbatch.write("flood.yaml", text))
    sizes = [path.stat().st_size for path in (flowbatch.state / "logs").rglob("*.log*")]
    assert len(sizes) == 4
    assert sum(sizes) <= 2 * ((1 << 20) + (64 << 10))
    shown = flowbatch.ok("logs", "last/flood:1", "--tail", "1")
    assert shown.out == "the end\n"
    whole = flowbatch.ok("logs", "last/flood:1")
    assert whole.out.endswith("flood\nthe end\n")
    assert "the log was capped: its beginning is gone" in whole.err
    assert "capped" in flowbatch.ok("show", "last/flood:0").out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_to_a_verb_that_only_looks_ends_it(flowbatch: Commands, number: int) -> None:
    flowbatch.ok("run", flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}"))
    follower = flowbatch.start("events", "-f")
    assert follower.stdout is not None
    assert follower.stdout.readline()
    os.kill(follower.pid, number)
    done = flowbatch.end(follower)
    assert done.code == -number
    assert "Traceback" not in done.err
