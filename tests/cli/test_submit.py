"""`submit`: one job, by the rules of a workflow file, with an engine and without."""

from __future__ import annotations

import json
import os
from pathlib import Path

import anyio.to_thread
import pytest

from flowbatch.app import open_app
from flowbatch.cli.main import run
from flowbatch.cli.submit import encoded
from flowbatch.engine.submitting import ended_of
from flowbatch.errors import InputError
from flowbatch.folder import StateFolder
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import Environment, JobSpec, Need, Queue
from flowbatch.model.resources import Resources
from flowbatch.model.rows import EndedJob
from flowbatch.model.status import Status
from flowbatch.settings import Settings
from flowbatch.store.reader import Reader
from tests.cli.filled import History, id_of
from tests.core.builders import job

FAKE = Settings((Environment("default", "fake", Resources(8000, 8192)),), (Queue("default"),))


def submit(state: Path, *words: str) -> int:
    return run(["--state", str(state), "submit", *words])


def stored(state: Path, job_id: str) -> tuple[JobSpec, Status]:
    with Reader(StateFolder(state).database) as reader:
        view = reader.job(job_id)
        assert view is not None
        return reader.job_plan(view).spec, view.status


def test_without_an_engine_it_is_kept_for_the_next_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "--name",
        "align",
        "--vcpus",
        "0.5",
        "--memory",
        "64MiB",
        "--env",
        "A=1=2",
        "--env",
        "B=",
        "--attempts",
        "3",
    )
    assert (
        submit(tmp_path / "s", *words, "--timeout", "2m", "--array", "2", "--", "sh", "-c", "echo ${{ x }} --name") == 0
    )
    out, err = capsys.readouterr()
    assert "serve` starts it" in err
    spec, status = stored(tmp_path / "s", out.strip())
    assert status is Status.PENDING  # the parent of an array
    assert (spec.key, spec.queue, spec.size, spec.resources) == ("align", "default", 2, Resources(500, 64))
    assert spec.command == ("sh", "-c", "echo ${{ x }} --name")  # flowbatch's own expressions are none here
    assert (spec.env, spec.retry.attempts, spec.timeout_ms) == ((("A", "1=2"), ("B", "")), 3, 120_000)
    assert spec.workdir == os.getcwd()


def test_a_name_is_made_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit(tmp_path / "s", "--json", "--", "/opt/my tools/run.sh", "x") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["queue"]) == ("run-sh", "default")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (
            ("--vcpus", "100000", "--", "true"),
            "--vcpus: needs 100000 vCPU, the largest environment of queue default has",
        ),
        (("--vcpus", "many", "--", "true"), "--vcpus many: a number is needed, such as 2 or 0.5"),
        (("--memory", "3Gb", "--", "true"), "--memory: '3Gb' is not a size"),
        (("--attempts", "11", "--", "true"), "--attempts: must be at most 10, found 11"),
        (("--array", "10001", "--", "true"), "10,000"),
        (("--queue", "none", "--", "true"), "--queue: unknown queue 'none'; known: default"),
        (("--env", "A", "--", "true"), "--env A: a variable is given as NAME=VALUE"),
        (("--needs", "last/a", "--", "true"), "there is no state folder here yet"),
        (("--image", "a b", "--", "true"), "--image"),
    ],
)
def test_what_is_wrong_is_said_by_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], wrong: str
) -> None:
    assert submit(tmp_path / "s", *words) == 2
    assert wrong in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_it_waits_for_jobs_and_children(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a", size=3))
    history.done("a:0", "a:1", "a:2")
    history.store(tmp_path / "s")
    for need, index in (("last/a:1", 1), ("last/a", None)):
        assert submit(tmp_path / "s", "--needs", need, "--", "true") == 0
        spec, found = stored(tmp_path / "s", capsys.readouterr().out.strip())
        assert spec.needs == (Need(JobId(id_of(f"run/{need[5]}")), index=index),)
        assert found is Status.RUNNABLE
    for need, wrong in (("last", "a job is needed, and this is a run"), ("last/a:0-1", "one child or the whole job")):
        assert submit(tmp_path / "s", "--needs", need, "--", "true") == 2
        assert wrong in capsys.readouterr().err


async def test_the_engine_that_runs_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StateFolder(tmp_path / "s")
    async with open_app(folder, FAKE, fake_only=True) as app:
        (tmp_path / "flowbatch.yaml").write_text("environments: {default: {backend: fake, vcpus: 8, memory: 8GiB}}\n")

        async def command(*words: str) -> str:
            assert await anyio.to_thread.run_sync(lambda: submit(tmp_path / "s", *words)) == 0
            return capsys.readouterr().out.strip()

        first = await command("--", "true")
        with anyio.fail_after(20):
            while JobId(first) in app.engine.machine.state.jobs:
                await anyio.lowlevel.checkpoint()
        second = await command("--needs", first, "--", "true")  # the engine has forgotten it: the store has not
        assert stored(tmp_path / "s", second)[0].needs == (Need(JobId(first)),)


def test_an_ended_job_goes_over_the_socket_whole() -> None:
    ended = EndedJob(JobId("j"), "a", Status.FAILED, 3, bytes([5, 6, 5]), again=True)
    assert ended_of(json.loads(json.dumps([encoded(ended)]))) == (ended,)
    wrongs: list[object] = [{}, [{}], [{**encoded(ended), "cells": "x"}], [{**encoded(ended), "status": 99}], [3]]
    for wrong in wrongs:
        with pytest.raises(InputError, match="ended"):
            ended_of(wrong)
