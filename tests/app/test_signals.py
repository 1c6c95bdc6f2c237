"""What Ctrl-C, TERM and HUP do to `run`, and how it goes on: semantics.md 6 and 11, reliability.md F24, F46."""

from __future__ import annotations

import shlex
import signal
import stat
import subprocess
from contextlib import suppress

import pytest

from flowbatch.model.status import Status
from flowbatch.store.results import AttemptView
from tests.app.commands import Commands, is_alive, line_with, wait_for_end

pytestmark = pytest.mark.slow

WORKFLOW = """
name: signals
environments: {small: {backend: process, vcpus: 2}}
queues: {only: {environments: [small]}}
jobs:
  work:
    queue: only
    array: 4
    script: |
      echo "$AWS_BATCH_JOB_ARRAY_INDEX $AWS_BATCH_JOB_ATTEMPT $$" > news
      read _ < gate
"""
INTERRUPTED = 130


def resume_words(line: str) -> list[str]:
    """The command line that the user is told to go on with, less `flowbatch --state …`, which the helper adds."""
    words = shlex.split(line.partition("flowbatch ")[2])
    assert words[0] == "--state"
    return words[2:]


def attempts(flowbatch: Commands) -> list[list[AttemptView]]:
    """Of each child of `work`, in the last run."""
    with flowbatch.reader() as reader:
        [job] = reader.jobs(reader.run("last"))
        return [reader.attempts(job, index) for index in range(4)]


def counts(flowbatch: Commands) -> dict[Status, int]:
    with flowbatch.reader() as reader:
        [job] = reader.jobs(reader.run("last"))
        return job.counts


def test_ctrl_c_once_drains_and_resume_finishes(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORKFLOW))
    news.lines(2)
    engine.send_signal(signal.SIGINT)
    assert "2 running tasks are waited for" in line_with(engine.stderr, "Draining")
    gate.let(2)
    words = resume_words(line_with(engine.stderr, "resume"))
    assert flowbatch.end(engine).code == INTERRUPTED
    assert counts(flowbatch) == {Status.SUCCEEDED: 2, Status.RUNNABLE: 2}
    gate.let(2)
    flowbatch.ok(*words)
    assert counts(flowbatch) == {Status.SUCCEEDED: 4}
    assert [len(each) for each in attempts(flowbatch)] == [1, 1, 1, 1]


def test_who_keeps_pressing_is_told_all_the_same_how_to_go_on(flowbatch: Commands) -> None:
    news = flowbatch.pipe("news")
    flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORKFLOW))
    news.lines(2)
    engine.send_signal(signal.SIGINT)
    line_with(engine.stderr, "Draining")
    engine.send_signal(signal.SIGINT)
    line_with(engine.stderr, "Interrupting")
    while engine.poll() is None:
        engine.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            engine.wait(0.01)
    said = flowbatch.end(engine).err
    assert "The run is kept. To continue it:  flowbatch --state" in said
    assert "Traceback" not in said
    assert engine.returncode == INTERRUPTED


def test_ctrl_c_twice_stops_what_runs_and_charges_nothing(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORKFLOW))
    pids = [int(line.split()[2]) for line in news.lines(2)]
    engine.send_signal(signal.SIGINT)
    line_with(engine.stderr, "Draining")
    engine.send_signal(signal.SIGINT)
    assert "nothing is charged" in line_with(engine.stderr, "Interrupting")
    words = resume_words(line_with(engine.stderr, "resume"))
    assert flowbatch.end(engine).code == INTERRUPTED
    assert not any(map(is_alive, pids))
    assert counts(flowbatch) == {Status.RUNNABLE: 4}
    gate.let(4)
    flowbatch.ok(*words)  # with a single attempt each: none was used up
    assert counts(flowbatch) == {Status.SUCCEEDED: 4}
    interrupted = [each for each in attempts(flowbatch) if len(each) == 2]
    assert len(interrupted) == 2
    assert all((first.status_reason or "").startswith("Interrupted") for first, _ in interrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_term_and_hup_leave_the_tasks_alone_and_resume_adopts_them(flowbatch: Commands, number: int) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORKFLOW))
    pids = [int(line.split()[2]) for line in news.lines(2)]
    engine.send_signal(number)
    left = flowbatch.end(engine)
    assert left.code == INTERRUPTED
    assert "2 tasks go on without the engine" in left.err
    assert all(map(is_alive, pids))
    again = flowbatch.start("resume", stdout=subprocess.DEVNULL)
    gate.let(4)
    assert flowbatch.end(again).code == 0
    assert len(news.lines(2)) == 2  # of the other two
    assert all(len(each) == 1 and each[0].exit_code == 0 for each in attempts(flowbatch))


def test_a_task_that_ends_while_no_engine_looks_keeps_its_exit_code(flowbatch: Commands) -> None:
    gate, news = flowbatch.pipe("gate"), flowbatch.pipe("news")
    workflow = flowbatch.write("one.yaml", "jobs: {one: {script: 'echo $$ > news; read _ < gate; exit 42'}}")
    engine = flowbatch.start("run", workflow)
    pid = int(news.line())
    engine.kill()
    flowbatch.end(engine)
    gate.let(1)
    wait_for_end(pid)
    done = flowbatch.call("resume", "last", "--json")
    assert done.code == 1
    assert done.json["jobs"]["one"]["status"] == "FAILED"
    [one] = flowbatch.ok("jobs", "last", "--json").json
    assert one["exit_code"] == 42


def test_a_second_engine_is_refused_with_the_pid_of_the_first(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    workflow = flowbatch.write("work.yaml", WORKFLOW)
    engine = flowbatch.start("run", workflow)
    news.lines(2)
    for words in (["run", workflow], ["run", workflow, "--detach"], ["resume"]):
        refused = flowbatch.call(*words)
        assert refused.code == 3, words
        assert f"process {engine.pid}" in refused.err
    gate.let(4)
    assert flowbatch.end(engine).code == 0
    with flowbatch.reader() as reader:
        assert len(reader.runs()) == 1


def test_detached(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    workflow = flowbatch.write("work.yaml", WORKFLOW)
    started = flowbatch.ok("run", workflow, "--detach", "--json").json
    assert set(started) == {"run", "pid"}
    news.lines(2)
    assert is_alive(started["pid"])
    gate.let(4)
    wait_for_end(started["pid"])
    [run] = flowbatch.ok("runs", "--json").json
    assert (run["id"], run["status"]) == (started["run"], "SUCCEEDED")
    plain = flowbatch.ok("run", flowbatch.write("quick.yaml", "jobs: {quick: {command: ['true']}}"), "--detach")
    assert plain.out.strip() == flowbatch.ok("runs", "--json").json[0]["id"]
    assert "Runs in the background" in plain.err
    assert f"`flowbatch --state {flowbatch.state} show {plain.out[:8]}`" in plain.err  # to be typed as it stands
    assert stat.S_IMODE((flowbatch.state / "engine.log").stat().st_mode) == 0o600
    bad = flowbatch.call("run", flowbatch.write("bad.yaml", "jobs: {quick: {}}"), "--detach")
    assert bad.code == 2


def test_what_keeps_a_detached_engine_from_beginning_is_told_with_its_own_code(flowbatch: Commands) -> None:
    workflow = flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}")
    flowbatch.ok("run", workflow)
    database = flowbatch.state / "flowbatch.db"
    database.write_bytes(b"this is no database, whatever it may be" * 200)
    done = flowbatch.call("run", workflow, "--detach")
    assert done.code == 4
    assert done.out == ""
    assert "ended at once, with exit code 4" in done.err
    assert str(database) in done.err.split("\n", 1)[1]  # the engine's own words


def test_interrupting_json_still_prints_one_object(flowbatch: Commands) -> None:
    news = flowbatch.pipe("news")
    flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORKFLOW), "--json")
    news.lines(2)
    engine.send_signal(signal.SIGTERM)
    done = flowbatch.end(engine)
    assert done.code == INTERRUPTED
    assert done.json["status"] == "RUNNING"
    found = done.json["jobs"]["work"]["counts"]
    assert found["STARTING"] + found["RUNNING"] == 2
    assert found["RUNNABLE"] == 2
    assert done.json["stopped_at"] is None
