"""A world that gives little: nobody reads, the disk refuses, descriptors are few, logs flood. F21, F48 through the command line."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
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


def test_output_that_a_full_disk_takes_no_more_of_is_said_to_be_lost(flowbatch: Commands) -> None:
    lost = "flowbatch: the output cannot be written: No space left on device\n"
    workflow = flowbatch.write("one.yaml", "jobs: {one: {script: ':'}}")
    done = shell(flowbatch, "", "run", workflow, "--json", after=">/dev/full")
    assert (done.returncode, done.stderr) == (0, lost), "how the run went, and that nobody was told of it"
    for words in (["runs"], ["check", workflow], ["--help"]):
        done = shell(flowbatch, "", *words, after=">/dev/full")
        assert (done.returncode, done.stderr) == (2, lost), words


def test_a_working_directory_that_is_gone(flowbatch: Commands) -> None:
    flowbatch.write("one.yaml", "jobs: {one: {script: ':'}}")
    done = shell(flowbatch, "mkdir gone; cd gone; rmdir ../gone", "run", "../one.yaml")
    assert "Traceback" not in done.stderr
    assert "the working directory is gone" in done.stderr
    assert done.returncode == 2


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


# --- rights: root has all of them, unless it gives them up

RIGHTS = "-dac_override,-dac_read_search,-fowner"


def without_rights(flowbatch: Commands, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The modes of files hold for us too."""
    before = []
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot give up its rights without setpriv")
        before = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    return subprocess.run(
        [*before, sys.executable, "-m", "flowbatch", "--state", str(flowbatch.state), *map(str, words)],
        env=flowbatch.env, cwd=flowbatch.folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip


@pytest.fixture
def ended(flowbatch: Commands) -> Iterator[Path]:
    """The state folder of a run that has ended; it is opened again, so that it can be deleted."""
    flowbatch.call("run", flowbatch.write("one.yaml", "jobs: {one: {script: 'echo here; exit 3'}}"))
    yield flowbatch.state
    for path in (flowbatch.state, flowbatch.state / "logs", flowbatch.state / "runs"):
        path.chmod(0o700)


def test_a_folder_that_cannot_be_written_can_be_read(flowbatch: Commands, ended: Path) -> None:
    ended.chmod(0o500)
    assert "FAILED" in without_rights(flowbatch, "runs").stdout
    assert without_rights(flowbatch, "logs", "last/one").stdout == "here\n"
    assert "exited with 3" in without_rights(flowbatch, "why", "last").stdout
    refused = without_rights(flowbatch, "run", "one.yaml")
    assert refused.returncode == 2, refused.stderr
    assert "nothing can be written here" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [
        ("logs", ["logs", "last/one"], 2),
        ("logs", ["retry", "last"], 1),  # what cannot be shown in its summary does not keep it from being told
        ("runs", ["run", "one.yaml"], 1),  # the job fails, and says why
        (".", ["runs"], 2),
        (".", ["run", "one.yaml"], 2),
        (".", ["doctor"], 1),
        (".", ["gc", "--older-than", "1d"], 2),
    ],
)
def test_what_is_closed_to_us_is_said(
    flowbatch: Commands, ended: Path, closed: str, words: list[str], code: int
) -> None:
    (ended / closed).chmod(0)
    done = without_rights(flowbatch, *words)
    assert done.returncode == code, done
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert "bug" not in said
    if words[0] == "retry":
        assert "one: exit 3" in done.stdout
    else:
        assert "Permission denied" in said
