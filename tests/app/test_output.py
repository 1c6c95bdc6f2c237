"""What programs read of flowbatch: JSON shapes, exit codes, and what bad input leaves behind (semantics.md 14)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from flowbatch.model.status import Status
from tests.app.commands import Commands

pytestmark = pytest.mark.slow

WORKFLOW = """
name: shapes
jobs:
  single: {script: 'exit 3'}
  wide: {array: {size: 3, tolerate: 1}, script: 'test "$AWS_BATCH_JOB_ARRAY_INDEX" != 1'}
  after: {needs: single, command: ['true']}
"""


def test_the_object_of_a_run_and_the_list_of_its_jobs(flowbatch: Commands) -> None:
    done = flowbatch.call("run", flowbatch.write("shapes.yaml", WORKFLOW), "--json")
    assert done.code == 1
    assert done.err == ""
    run = done.json
    assert list(run) == ["run", "workflow", "status", "jobs", "started_at", "stopped_at"]
    assert (run["workflow"], run["status"]) == ("shapes", "FAILED")
    assert run["stopped_at"] >= run["started_at"] > 1_600_000_000_000
    assert list(run["jobs"]) == ["single", "wide", "after"]
    for job in run["jobs"].values():
        assert list(job) == ["id", "status", "status_reason", "counts", "array"]
        assert set(job["counts"]) <= {status.name for status in Status}
    assert run["jobs"]["single"]["array"] is None
    assert run["jobs"]["single"]["counts"]["FAILED"] == 1
    assert run["jobs"]["wide"]["array"] == 3
    assert run["jobs"]["wide"]["status"] == "SUCCEEDED"
    assert (run["jobs"]["wide"]["counts"]["SUCCEEDED"], run["jobs"]["wide"]["counts"]["FAILED"]) == (2, 1)
    assert run["jobs"]["after"]["status_reason"] == "Dependent Job failed"

    jobs = flowbatch.ok("jobs", run["run"], "--json").json
    assert [(job["job"], job["index"], job["status"]) for job in jobs] == [
        ("single", None, "FAILED"),
        ("wide", None, "SUCCEEDED"),
        ("after", None, "FAILED"),
    ]
    names = ["id", "job", "index", "status", "status_reason", "exit_code", "attempts"]
    names += ["created_at", "started_at", "stopped_at"]
    every = flowbatch.ok("jobs", "last", "--all", "--json").json
    assert all(set(names) <= set(job) for job in jobs + every)
    children = [job for job in every if job["index"] is not None]
    assert [(job["index"], job["exit_code"], job["attempts"]) for job in children] == [(0, 0, 1), (1, 1, 1), (2, 0, 1)]
    assert [job["id"] for job in children] == [f"{run['jobs']['wide']['id']}:{index}" for index in range(3)]
    single = jobs[0]
    assert (single["exit_code"], single["attempts"], single["id"]) == (3, 1, run["jobs"]["single"]["id"])
    assert single["created_at"] <= single["started_at"] <= single["stopped_at"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cycle.yaml", "jobs: {a: {needs: b, script: x}, b: {needs: a, script: x}}", "a → b → a"),
        ("unknown.yaml", "jobs: {a: {needs: bee, script: x}, bees: {script: x}}", "did you mean 'bees'"),
        ("size.yaml", "jobs: {a: {array: 10001, script: x}}", "10"),
        ("secret.yaml", "secrets: {k: {env: NOT_SET_HERE}}\njobs: {a: {secrets: {K: k}, script: x}}", "NOT_SET_HERE"),
        ("file.yaml", "secrets: {k: {file: ./none}}\njobs: {a: {secrets: {K: k}, script: x}}", "none"),
        ("large.yaml", "environments: {e: {vcpus: 2}}\njobs: {a: {vcpus: 64, script: x}}", "64"),
        ("later.yaml", "jobs: {a: {eksProperties: {}, script: x}}", "eksProperties"),
        ("brackets.yaml", "[" * 1_000_000, "brackets.yaml:1:"),
        ("lines.yaml", "jobs: {a: {array: {lines: none.txt}, script: x}}", "none.txt"),
    ],
)
def test_bad_input_starts_and_stores_nothing(flowbatch: Commands, name: str, text: str, message: str) -> None:
    done = flowbatch.call("run", flowbatch.write(name, text))
    assert done.code == 2
    assert message in done.err
    assert name in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert not flowbatch.state.exists()


def test_wrong_words_on_the_command_line(flowbatch: Commands) -> None:
    for words in (
        ["run"],
        ["run", "none.yaml"],
        ["fly"],
        ["jobs", "last"],
        ["resume"],
        ["cancel", "last"],
        ["run", "--fly"],
    ):
        done = flowbatch.call(*words)
        assert done.code == 2, words
        assert done.err
        assert "Traceback" not in done.err
    assert not flowbatch.state.exists()


def test_a_store_that_is_damaged_or_too_new_is_refused_untouched(flowbatch: Commands) -> None:
    workflow = flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}")
    flowbatch.ok("run", workflow)
    database = flowbatch.state / "flowbatch.db"
    with closing(sqlite3.connect(database)) as db:
        db.execute("PRAGMA user_version = 99")
        db.commit()
    newer = database.read_bytes()
    for words in (["run", workflow], ["resume"], ["runs"]):
        done = flowbatch.call(*words)
        assert done.code == 4, (words, done)
        assert "newer" in done.err
    assert database.read_bytes() == newer
    broken = b"this is no database, whatever it may be" * 200
    database.write_bytes(broken)
    for words in (["run", workflow], ["resume"], ["runs"]):
        assert flowbatch.call(*words).code == 4, words
    assert database.read_bytes() == broken
    assert flowbatch.tasks() == {}


def test_nothing_to_resume(flowbatch: Commands) -> None:
    flowbatch.ok("run", flowbatch.write("one.yaml", "jobs: {one: {command: ['true']}}"))
    assert "nothing to resume" in flowbatch.ok("resume").out
    assert flowbatch.ok("resume", "--json").json == []
    ended = flowbatch.call("resume", "last")
    assert ended.code == 2
    assert "SUCCEEDED" in ended.err


def test_a_dry_run_leaves_nothing(flowbatch: Commands) -> None:
    text = "jobs: {one: {command: [touch, here]}, wide: {needs: one, array: 500, timeout: 1h, command: [touch, there]}}"
    done = flowbatch.ok("run", flowbatch.write("dry.yaml", text), "--dry-run")
    assert "nothing was started" in done.out
    assert not flowbatch.state.exists()
    assert sorted(path.name for path in flowbatch.folder.iterdir()) == ["dry.yaml"]
