"""cancel, terminate, retry, why, deadlines and timeouts: over the socket of a running engine, and without one."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from flowbatch.model.status import Status
from flowbatch.store.results import AttemptView, JobView
from tests.app.commands import Commands, Pipe, is_alive, line_with, wait_for_end

pytestmark = pytest.mark.slow

WORK = """
name: verbs
environments: {small: {backend: process, vcpus: 2}}
queues: {only: {environments: [small]}}
defaults: {queue: only, stop_grace: 300ms}
jobs:
  work: {array: 4, script: 'echo "$AWS_BATCH_JOB_ARRAY_INDEX $$" > news; read _ < gate'}
finally:
  report: {script: 'echo "${{ run.status }}" >> report.txt'}
"""
# one process ignores TERM, one has left the group and the session, one does both
ESCAPING = """
name: escaping
defaults: {stop_grace: 300ms}
jobs:
  work:
    script: |
      setsid sleep 300 &
      echo $! > news
      setsid sh -c 'trap "" TERM; echo $$ > news; sleep 300 & wait; sleep 300' &
      trap "" TERM
      echo $$ > news
      sleep 300 & wait
      sleep 300
    LIMIT
finally:
  report: {script: 'echo "${{ run.status }}" >> report.txt'}
"""


def job(flowbatch: Commands, name: str = "work") -> JobView:
    with flowbatch.reader() as reader:
        return next(job for job in reader.jobs(reader.run("last")) if job.name == name)


def last_attempts(flowbatch: Commands, name: str = "work") -> list[AttemptView]:
    found = job(flowbatch, name)
    with flowbatch.reader() as reader:
        return [attempts[-1] for index in range(found.tasks) if (attempts := reader.attempts(found, index))]


def reasons(flowbatch: Commands) -> list[tuple[Status, str | None]]:
    with flowbatch.reader() as reader:
        return [(task.status, task.status_reason) for task in reader.tasks(job(flowbatch))]


def run_status(flowbatch: Commands) -> str:
    with flowbatch.reader() as reader:
        return reader.run("last").status.name


def report(folder: Path) -> list[str]:
    path = folder / "report.txt"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def left_alone(flowbatch: Commands, news: Pipe, text: str = WORK, count: int = 2) -> list[int]:
    """Tasks that go on without an engine."""
    engine = flowbatch.start("run", flowbatch.write("work.yaml", text))
    pids = [int(line.split()[-1]) for line in news.lines(count)]
    engine.send_signal(signal.SIGTERM)
    flowbatch.end(engine)
    return pids


def test_cancel_lets_what_runs_end_by_itself(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORK))
    news.lines(2)
    assert flowbatch.ok("cancel", "last", "--reason", "not needed", "--json").json["changed"] == 2
    assert report(tmp_path) == []
    gate.let(2)
    assert flowbatch.end(engine).code == 1
    ended = [(Status.SUCCEEDED, "Essential container in task exited")] * 2 + [(Status.FAILED, "not needed")] * 2
    assert reasons(flowbatch) == ended
    assert report(tmp_path) == ["FAILED"]
    again = flowbatch.ok("cancel", "last")
    assert "nothing to cancel: run " in again.out
    assert " is FAILED already." in again.out
    assert "nothing to terminate: work is FAILED already." in flowbatch.ok("terminate", "last/work").out


def test_cancel_of_single_children(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", WORK))
    news.lines(2)
    assert flowbatch.ok("cancel", "last/work:2-3", "--json").json["changed"] == 2
    assert flowbatch.ok("terminate", "last/work:0", "--json").json["changed"] == 1
    gate.let(2)  # the one that is being stopped may be quicker than its signal
    assert flowbatch.end(engine).code == 1
    assert [status.name for status, _ in reasons(flowbatch)] == ["FAILED", "SUCCEEDED", "FAILED", "FAILED"]


def test_terminate_ends_every_process_of_the_run(flowbatch: Commands, tmp_path: Path) -> None:
    news = flowbatch.pipe("news")
    engine = flowbatch.start("run", flowbatch.write("escaping.yaml", ESCAPING.replace("LIMIT", "")))
    pids = [int(line) for line in news.lines(3)]
    assert all(map(is_alive, pids))
    assert "1 task terminated" in flowbatch.ok("terminate", "last").out
    assert flowbatch.end(engine).code == 1
    assert not any(map(is_alive, pids))
    [ended] = last_attempts(flowbatch)
    assert (ended.exit_code, ended.status_reason) == (137, "Terminated by the user")
    assert report(tmp_path) == ["FAILED"]


def test_a_timeout_ends_every_process_of_the_task(flowbatch: Commands, tmp_path: Path) -> None:
    news = flowbatch.pipe("news")
    done = flowbatch.call("run", flowbatch.write("late.yaml", ESCAPING.replace("LIMIT", "timeout: 500ms")), "--json")
    assert done.code == 1
    assert not any(is_alive(int(line)) for line in news.lines(3))
    [ended] = last_attempts(flowbatch)
    assert ended.exit_code == 137
    assert ended.status_reason == "Job attempt duration exceeded timeout"
    assert ended.started_at is not None
    assert ended.stopped_at is not None
    assert 800 <= ended.stopped_at - ended.started_at < 10_000
    assert report(tmp_path) == ["FAILED"]


def test_a_timeout_comes_on_time_while_no_engine_looks(flowbatch: Commands) -> None:
    news = flowbatch.pipe("news")
    text = ESCAPING.replace("LIMIT", "timeout: 3s")
    engine = flowbatch.start("run", flowbatch.write("late.yaml", text))
    pids = [int(line) for line in news.lines(3)]
    engine.kill()
    flowbatch.end(engine)
    assert is_alive(pids[2])
    wait_for_end(pids[2])
    assert flowbatch.call("resume").code == 1
    assert not any(map(is_alive, pids))
    [ended] = last_attempts(flowbatch)
    assert ended.status_reason == "Job attempt duration exceeded timeout"
    assert ended.started_at is not None
    assert ended.stopped_at is not None
    assert 3_300 <= ended.stopped_at - ended.started_at < 15_000


def test_a_deadline_stops_the_run_and_finally_follows(flowbatch: Commands, tmp_path: Path) -> None:
    flowbatch.pipe("news")
    flowbatch.pipe("gate")
    done = flowbatch.call("run", flowbatch.write("work.yaml", "deadline: 1s\n" + WORK), "--json")
    assert done.code == 1
    assert {reason for _, reason in reasons(flowbatch)} == {"Run deadline exceeded"}
    assert done.json["stopped_at"] - done.json["started_at"] >= 1000
    assert report(tmp_path) == ["FAILED"]


def test_cancel_without_an_engine(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    pids = left_alone(flowbatch, news)
    answer = flowbatch.ok("cancel", "last", "--json").json
    assert (answer["changed"], answer["left_running"]) == (2, 2)
    assert all(map(is_alive, pids))
    assert [status for status, _ in reasons(flowbatch)][2:] == [Status.FAILED, Status.FAILED]
    gate.let(2)
    assert flowbatch.call("resume").code == 1
    assert [status for status, _ in reasons(flowbatch)][:2] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assert report(tmp_path) == ["FAILED"]


def test_terminate_without_an_engine_stops_and_sees_finally_through(flowbatch: Commands, tmp_path: Path) -> None:
    news = flowbatch.pipe("news")
    flowbatch.pipe("gate")
    pids = left_alone(flowbatch, news)
    answer = flowbatch.ok("terminate", "last", "--json").json
    assert (answer["changed"], answer["left_running"]) == (4, 0)
    assert not any(map(is_alive, pids))
    assert report(tmp_path) == ["FAILED"]
    assert run_status(flowbatch) == "FAILED"


def test_terminate_does_not_undo_what_ended_before(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    pids = left_alone(flowbatch, news)
    gate.let(2)
    for pid in pids:
        wait_for_end(pid)
    flowbatch.ok("terminate", "last")
    assert [status.name for status, _ in reasons(flowbatch)] == ["SUCCEEDED", "SUCCEEDED", "FAILED", "FAILED"]
    assert report(tmp_path) == ["FAILED"]


FAILING = """
name: failing
jobs:
  work: {array: 3, script: 'test "$AWS_BATCH_JOB_ARRAY_INDEX" != 1 || test -e repaired'}
  after: {needs: work, script: 'echo after >> report.txt'}
  GATED
finally:
  report: {script: 'echo "${{ run.status }}" >> report.txt'}
"""


def test_retry_runs_what_failed_and_what_failed_because_of_it(flowbatch: Commands, tmp_path: Path) -> None:
    assert flowbatch.call("run", flowbatch.write("failing.yaml", FAILING.replace("GATED", ""))).code == 1
    assert report(tmp_path) == ["FAILED"]
    assert flowbatch.call("retry", "last/work:failed").code == 1  # it fails again
    (tmp_path / "repaired").touch()
    done = flowbatch.ok("retry", "last/work:failed", "--json")
    assert done.json["status"] == "SUCCEEDED"
    assert report(tmp_path) == ["FAILED", "FAILED", "after", "SUCCEEDED"]
    assert [each.key.attempt for each in last_attempts(flowbatch)] == [1, 3, 1]
    assert [each.key.attempt for each in last_attempts(flowbatch, "after")] == [1]
    nothing = flowbatch.call("retry", "last")
    assert nothing.code == 2
    assert "nothing to retry" in nothing.err


def test_retry_in_a_running_engine(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    text = FAILING.replace(
        "GATED", "other: {needs: [{job: work, when: failure}], script: 'echo x > news; read _ < gate'}"
    )
    engine = flowbatch.start("run", flowbatch.write("failing.yaml", text))
    news.line()  # `work` has failed
    refused = flowbatch.call("retry", "last/work:failed")
    assert refused.code == 2
    assert "has begun after work" in refused.err
    (tmp_path / "repaired").touch()
    gate.let(1)
    assert flowbatch.end(engine).code == 1
    again = flowbatch.ok("retry", "last", "--json")
    assert again.json["jobs"]["after"]["status"] == "SUCCEEDED"


def test_retry_over_the_socket(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    text = FAILING.replace("GATED", "other: {script: 'echo x > news; read _ < gate'}")
    engine = flowbatch.start("run", flowbatch.write("failing.yaml", text))
    news.line()
    line_with(engine.stdout, "Dependent Job failed")
    (tmp_path / "repaired").touch()
    assert "Reopened in the running engine: work, after" in flowbatch.ok("retry", "last/work:failed").out
    gate.let(1)
    assert flowbatch.end(engine).code == 0
    assert report(tmp_path) == ["after", "SUCCEEDED"]


def test_retry_of_what_failed_while_no_engine_looked(flowbatch: Commands, tmp_path: Path) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    text = "jobs: {work: {script: 'echo $$ > news; read _ < gate; test -e repaired'}}"
    [pid] = left_alone(flowbatch, news, text, 1)
    gate.let(1)
    wait_for_end(pid)
    (tmp_path / "repaired").touch()
    gate.let(1)
    assert flowbatch.ok("retry", "last/work", "--json").json["status"] == "SUCCEEDED"


def test_why_asks_the_running_engine(flowbatch: Commands) -> None:
    news, gate = flowbatch.pipe("news"), flowbatch.pipe("gate")
    text = WORK.replace("jobs:", "jobs:\n  later: {needs: work, command: ['true']}")
    engine = flowbatch.start("run", flowbatch.write("work.yaml", text))
    news.lines(2)
    waiting = flowbatch.ok("why", "last/work:3", "--json").json
    assert waiting["status"] == "RUNNABLE"
    assert "2" in waiting["why"]
    assert "work" in flowbatch.ok("why", "last/later").out
    unknown = flowbatch.call("why", "last/work:9")
    assert unknown.code == 2
    gate.let(4)
    assert flowbatch.end(engine).code == 0
    assert "SUCCEEDED" in flowbatch.ok("why", "last/work:3", "--json").out
