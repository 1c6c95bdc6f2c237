"""`gc` deletes what is flowbatch's by its name and kind, and what the store does not know any more; nothing else, whoever put it there."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.json import encode

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.ids import AttemptKey, JobId, log_name
from flowbatch.model.notify import Notify
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job, queue

STRANGE = str(uuid4())  # of no job and no run here
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """`old` ended long ago; `open` is open, and has a log too."""
    history = History(environment(2))
    history.begin("old", job("a"), environments=(environment(2),), queues=(queue(),))
    history.done("a", run="old")
    history.begin("open", job("b"), workflow="other", environments=(environment(2),), queues=(queue(),))
    made = history.store(tmp_path / "state")
    history.log(made, "a", "o of a run that is deleted", run="old")
    history.log(made, "b", "o of a run that is kept", run="open")
    for name in ("old", "open"):
        (made.runs / id_of(name) / "items").mkdir(parents=True)
    return made


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    return path


def files(folder: StateFolder) -> set[str]:
    found = [path for top in (folder.logs, folder.runs) for path in top.rglob("*")]
    return {str(path.relative_to(folder.path)) for path in found if not path.is_dir() or path.is_symlink()}


def test_ended_runs_go_with_their_logs_and_scratch_and_open_ones_stay(
    folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(folder.path), "gc", "--older-than", "1d", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("1 run ended longer ago than 24h00m; nothing was deleted.")
    assert run(["--state", str(folder.path), "gc", "--older-than", "1d"]) == 0
    assert capsys.readouterr().out.startswith("1 run deleted, ")
    assert [path.name for path in folder.runs.iterdir()] == [id_of("open")]
    [log] = files(folder)
    assert (folder.path / log).read_bytes().endswith(b"of a run that is kept\n")


def test_who_has_not_been_told_of_what_goes_is_named(folder: StateFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with sqlite3.connect(folder.database) as db:
        [(last,)] = db.execute("SELECT max(seq) FROM event WHERE run = 1")
        for key, cursor in (("slack", 0), ("pager", last), ("1a/own", 0)):
            db.execute(
                "INSERT INTO sink (key, run, notify, status, cursor, created_at) VALUES (?, ?, ?, 0, ?, 1000)",
                (key, 2 if "/" in key else None, encode(Notify(key, jsonl="/log")).decode(), cursor),
            )
    db.close()
    assert run(["--state", str(folder.path), "gc", "--older-than", "1d", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("1 run ended longer ago")
    assert said.err.startswith(
        "slack has not been told of all of these runs: what is still owed of them will be a gap "
    )


def test_what_is_no_log_and_no_scratch_folder_stays(folder: StateFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    put(outside / "precious")
    name = log_name(AttemptKey(JobId(STRANGE), 0, 1).id)
    ours = [put(folder.logs / name), put(folder.logs / f"{name}.1"), put(folder.runs / STRANGE / "deep" / "file")]
    theirs = [
        put(folder.logs / "notes.txt"),
        put(folder.logs / name[:2] / "notes.log"),
        put(folder.logs / "zz" / Path(name).name),  # not where ours lie
        put(folder.logs / f"{name}.2"),
        put(folder.logs / f"{name.replace('.0.1', '.7.1')}" / "a folder, named like a log"),
        put(folder.runs / "mine" / "file"),
        put(folder.runs / STRANGE[:-1] / "file"),
        put(folder.runs / str(uuid4())),  # a file, named like a folder
    ]
    links = [folder.logs / name.replace(".0.1", ".8.1"), folder.runs / str(uuid4())]
    links[0].symlink_to(outside / "precious")
    links[1].symlink_to(outside)
    os.link(outside / "precious", folder.logs / "a link")
    assert run(["--state", str(folder.path), "gc", "--older-than", "1d"]) == 0
    assert [path.exists() for path in ours] == [False, False, False]
    assert [str(path) for path in theirs if not path.exists()] == []
    assert all(link.is_symlink() for link in links)
    assert (outside / "precious").read_bytes() == b"12345"


def test_a_link_inside_a_scratch_folder_is_not_followed(folder: StateFolder, tmp_path: Path) -> None:
    outside = put(tmp_path / "outside" / "precious")
    (folder.runs / id_of("old") / "link").symlink_to(outside.parent)
    assert run(["--state", str(folder.path), "gc", "--older-than", "1d"]) == 0
    assert not (folder.runs / id_of("old")).exists()
    assert outside.exists()


@pytest.mark.parametrize("age", ["1h", "23h", "0d", "d", "1.5d", "-3d", "30", "99999999d"])
def test_an_age_is_at_least_a_day(folder: StateFolder, capsys: pytest.CaptureFixture[str], age: str) -> None:
    assert run(["--state", str(folder.path), "gc", f"--older-than={age}"]) == 2
    assert f"--older-than {age}: " in capsys.readouterr().err
    assert len(files(folder)) == 2
