from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.store.backup import back_up
from flowbatch.store.health import Health
from flowbatch.store.reader import Reader
from tests.cli.filled import History
from tests.core.builders import job


@pytest.fixture
def state(tmp_path: Path) -> Path:
    history = History()
    history.begin("run", job("a", size=3))
    history.done("a:0", "a:1", "a:2")
    history.store(tmp_path / "state")
    return tmp_path / "state"


def command(state: Path, *arguments: object) -> int:
    return run(["--state", str(state), "backup", *map(str, arguments)])


def test_a_copy_is_a_store(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy.db"
    assert command(state, copy, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"file": str(copy), "bytes": copy.stat().st_size}
    assert copy.stat().st_mode & 0o777 == 0o600
    with Reader(copy) as reader, Reader(StateFolder(state).database) as original:
        assert reader.runs() == original.runs()
        assert reader.jobs(reader.run("last")) == original.jobs(original.run("last"))
    with Health(copy) as health:
        assert health.damage() == []
        assert health.violations() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.db", "state"]


def test_a_copy_made_while_somebody_writes_is_of_one_moment(state: Path, tmp_path: Path) -> None:
    """Two rows change together, again and again: no copy shows them apart."""
    database = StateFolder(state).database
    with closing(sqlite3.connect(database)) as db:
        db.execute("CREATE TABLE pair (name TEXT PRIMARY KEY, value INTEGER, padding TEXT)")
        db.executemany("INSERT INTO pair VALUES (?, 0, ?)", [(str(number), "x" * 3000) for number in range(1000)])
        db.commit()
    over, commits = threading.Event(), 0

    def write() -> None:
        nonlocal commits
        with closing(sqlite3.connect(database)) as db:
            while not over.is_set():
                commits += 1
                db.execute("UPDATE pair SET value = ? WHERE name IN ('1', '999')", (commits,))
                db.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            before = commits
            back_up(database, tmp_path / f"{number}.db")
            with closing(sqlite3.connect(tmp_path / f"{number}.db")) as db:
                [(first,), (last,)] = db.execute("SELECT value FROM pair WHERE name IN ('1', '999')").fetchall()
            assert first == last >= before - 1
    finally:
        over.set()
        writer.join()


def test_what_cannot_be_is_said(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.db").write_text("mine")
    for target, wrong in (
        (tmp_path, "a folder; name the file"),
        (tmp_path / "there.db", "there is a file already; --force replaces it"),
        (tmp_path / "none" / "a.db", "the copy cannot be written here: No such file"),
        (StateFolder(state).database, "this is the store itself"),
        ("/dev/full/x", "cannot be written here"),
    ):
        assert command(state, target) == 2
        assert wrong in capsys.readouterr().err
    assert (tmp_path / "there.db").read_text() == "mine"
    assert command(state, tmp_path / "there.db", "--force") == 0
    assert command(tmp_path / "nothing", tmp_path / "b.db") == 2
    assert "there is no state folder here yet" in capsys.readouterr().err


def test_a_damaged_store_leaves_no_copy(state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = StateFolder(state).database
    with database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    assert command(state, tmp_path / "copy.db") == 4
    assert "damaged" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
