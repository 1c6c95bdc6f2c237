from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowbatch.app import open_app
from flowbatch.cli import context
from flowbatch.cli.main import run
from flowbatch.folder import StateFolder, short_socket_path
from flowbatch.model.stimuli import Resume
from flowbatch.settings import Settings
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job, queue

JOB_KEYS = [
    "id", "job", "index", "status", "status_reason", "exit_code", "attempts", "created_at", "started_at", "stopped_at",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StateFolder:
    """`flow` has ended, FAILED: b:1 exited with 3 twice. `other` is open."""
    history = History(environment(16))
    history.begin("run", job("a"), job("b", size=3, needs=["a"], attempts=2), job("c", needs=["b"]))
    history.done("a", "b:0", "b:2")
    history.done("b:1", "b:1#2", code=3)
    history.begin("second", job("x"), workflow="other")
    return history.store(tmp_path_factory.mktemp("lists") / "state")


def told(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = run(["--state", str(folder.path), *arguments])
    printed, errors = capsys.readouterr()
    assert code == 0, errors
    return printed


def json_of(folder: StateFolder, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    found = json.loads(told(folder, capsys, *arguments, "--json"))
    assert isinstance(found, list)
    return found


# --- runs


def test_runs_the_newest_first(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "runs")
    assert [(each["workflow"], each["status"], each["interrupted"]) for each in found] == [
        ("other", "RUNNING", True),
        ("flow", "FAILED", False),
    ]
    assert found[1] == {
        "id": id_of("run"), "workflow": "flow", "file": "/flows/flow.yaml", "status": "FAILED", "interrupted": False,
        "status_reason": None, "generation": 0, "created_at": 1000, "deadline_at": None, "stopped_at": 8500,
    }  # fmt: skip


def test_an_interrupted_run_says_how_to_go_on(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    resume = f"`flowbatch --state {folder.path} resume {id_of('second')[:8]}` continues it"
    assert f"interrupted: {resume}" in told(folder, capsys, "runs")


def test_a_run_in_the_hands_of_an_engine_is_not_interrupted(
    folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with folder.hold():
        assert "interrupted" not in told(folder, capsys, "runs")
        assert not json_of(folder, capsys, "runs")[0]["interrupted"]


async def test_a_run_that_an_engine_only_keeps_is_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The engine was started for another run, and holds this one as it was left."""
    history = History(environment(1))
    history.begin("run", job("a"), job("b"), environments=(environment(1),), queues=(queue(),))
    folder = await anyio.to_thread.run_sync(history.store, tmp_path / "state")

    async def lines(*words: str) -> list[str]:
        assert await anyio.to_thread.run_sync(partial(run, ["--state", str(folder.path), *words])) == 0
        printed, errors = capsys.readouterr()
        return [*printed.splitlines(), *errors.splitlines()]

    settings = Settings((environment(2),), (queue(),))
    async with open_app(folder, settings, fake_only=True, hold_open_runs=True) as app:
        resume = f"`flowbatch --state {folder.path} resume {id_of('run')[:8]}`"
        said = f"{resume} continues it once the engine that runs now (process {os.getpid()}) has ended"
        assert (await lines("runs"))[1].endswith(f"interrupted: {said}")
        assert json.loads("\n".join(await lines("runs", "--json")))[0]["interrupted"]
        assert (await lines("jobs", "last"))[-1] == f"This run was interrupted: {said}."
        assert json.loads((await lines("show", "last", "--json"))[0])["interrupted"]
        answer = await app.engine.ask(Resume)
        assert answer.error is None
        assert "interrupted" not in "\n".join(await lines("runs"))


def test_an_engine_that_does_not_answer_is_taken_at_its_lock(
    folder: StateFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "PING_SECONDS", 0.01)
    with folder.hold(), socket.socket(socket.AF_UNIX) as deaf, short_socket_path(folder.socket) as name:
        deaf.bind(name)
        deaf.listen()
        try:
            assert not json_of(folder, capsys, "runs")[0]["interrupted"]
        finally:
            folder.socket.unlink()


def test_a_job_is_no_run(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "jobs", "last/b"]) == 2
    said = "'last/b': a run is needed here, 'last'; `flowbatch show last/b` shows a job"
    assert said in capsys.readouterr().err


def test_runs_are_limited_and_say_so(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(folder.path), "runs", "--limit", "1"]) == 0
    printed, errors = capsys.readouterr()
    assert len(printed.splitlines()) == 2
    assert "--all lists every run" in errors
    assert len(json_of(folder, capsys, "runs", "--limit", "1")) == 1
    assert len(json_of(folder, capsys, "runs", "--all", "--limit", "1")) == 2


def test_no_runs_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = History().store(tmp_path / "state")
    assert told(folder, capsys, "runs") == "Nothing has run here yet.\n"
    assert json_of(folder, capsys, "runs") == []


# --- jobs


def test_jobs_as_the_issue_has_them(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "jobs", "flow")
    assert all(list(each) == JOB_KEYS for each in found)
    assert found[0] == {
        "id": id_of("run/a"), "job": "a", "index": None, "status": "SUCCEEDED",
        "status_reason": "Essential container in task exited", "exit_code": 0, "attempts": 1, "created_at": 1000,
        "started_at": 2000, "stopped_at": 2500,
    }  # fmt: skip
    assert [(each["job"], each["status"], each["status_reason"]) for each in found[1:]] == [
        ("b", "FAILED", "Array Child Job failed"),
        ("c", "FAILED", "Dependent Job failed"),
    ]
    assert [(each["index"], each["exit_code"], each["attempts"]) for each in found[1:]] == [(None, None, 0)] * 2


def test_all_includes_every_child(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "jobs", "last", "--all")
    assert [each["job"] for each in found] == ["x"]
    found = json_of(folder, capsys, "jobs", id_of("run"), "--all")
    assert all(list(each) == JOB_KEYS for each in found)
    assert [(each["job"], each["index"], each["status"], each["exit_code"], each["attempts"]) for each in found] == [
        ("a", None, "SUCCEEDED", 0, 1),
        ("b", None, "FAILED", None, 0),
        ("b", 0, "SUCCEEDED", 0, 1),
        ("b", 1, "FAILED", 3, 2),
        ("b", 2, "SUCCEEDED", 0, 1),
        ("c", None, "FAILED", None, 0),
    ]
    assert found[3]["id"] == f"{id_of('run/b')}:1"


def test_children_that_only_rest_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(1))
    history.begin("run", job("a"), job("b", size=2500, needs=["a"]))
    found = json_of(history.store(tmp_path / "state"), capsys, "jobs", "flow", "--all", "--status", "pending")
    assert [each["index"] for each in found] == [None, *range(2500)]
    assert {each["created_at"] for each in found} == {1000}


def test_only_some_statuses(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(folder, capsys, "jobs", "flow", "--all", "--status", "FAILED")
    assert [(each["job"], each["index"]) for each in found] == [("b", None), ("b", 1), ("c", None)]
    assert "no such job" in told(folder, capsys, "jobs", "flow", "--status", "RUNNING")


def test_jobs_for_people(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(folder, capsys, "jobs", "flow").splitlines()
    assert lines[0].split() == ["JOB", "STATUS", "CHILDREN", "ATTEMPTS", "EXIT", "STARTED", "TOOK", "REASON"]
    assert lines[1].startswith("a    SUCCEEDED  -")
    assert "2 SUCCEEDED, 1 FAILED" in lines[2]
    assert lines[2].endswith("Array Child Job failed")
    assert len(lines) == 4


def test_a_table_of_children_is_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(environment(1))
    history.begin("run", job("b", size=1200))
    folder = history.store(tmp_path / "state")
    assert run(["--state", str(folder.path), "jobs", "flow", "--all"]) == 0
    printed, errors = capsys.readouterr()
    assert len(printed.splitlines()) == 1001
    assert errors.startswith("These are the first 1000: --json prints all")


# --- what goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs", "flaw"], "'flaw': no run has this id or workflow (did you mean 'flow'?)"),
        (["jobs", "flow", "--status", "DEAD"], "'DEAD' is not one of"),
        (["jobs"], "Missing argument 'RUN'"),
        (["runs", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_input(
    arguments: list[str], message: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(folder.path), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["runs"], ["jobs", "last"]])
def test_without_a_folder(verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(tmp_path / "none"), *verb]) == 2
    assert "there is no state folder here yet" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StateFolder(tmp_path)
    folder.database.write_bytes(b"something else altogether " * 500)
    before = folder.database.read_bytes()
    assert run(["--state", str(folder.path), "runs"]) == 4
    assert str(folder.database) in capsys.readouterr().err
    assert folder.database.read_bytes() == before


def test_reasons_drive_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a"), workflow="w\x1b]0;title\x07\u202eeman")
    history.start(history.name("a"))
    history.refuse(history.name("a"), "CannotStartContainerError: \x1b[2J\x9bgone\r\x08\n\u202e")
    folder = history.store(tmp_path / "state")
    for arguments in (["runs"], ["jobs", "last"]):
        printed = told(folder, capsys, *arguments)
        assert not set(printed) & set("\x1b\x07\x08\x9b\r\u202e")
    assert json_of(folder, capsys, "runs")[0]["workflow"] == "w\x1b]0;title\x07\u202eeman"


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    history = History(environment(1))
    history.begin("run", job("b", size=10_000))
    folder = history.store(tmp_path / "state")
    command = [sys.executable, "-m", "flowbatch", "--state", str(folder.path), "jobs", "flow", "--all", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert errors == b""
