"""A state folder that an older version left: what changes it brings it up to date, what reads it says how."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.store import migrate


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """As the first version made it."""
    folder = StateFolder(tmp_path / "state")
    folder.create()
    with closing(sqlite3.connect(folder.database, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        migrate.apply(db, migrate.migrations()[:1])
    return folder.path


def version(state: Path) -> int:
    with closing(sqlite3.connect(StateFolder(state).database)) as db:
        [(number,)] = db.execute("PRAGMA user_version").fetchall()
    return int(number)


def test_a_verb_that_reads_says_what_brings_it_up_to_date(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--state", str(state), "runs"]) == 4
    assert "written by an older flowbatch; `flowbatch resume` brings it up to date" in capsys.readouterr().err
    assert version(state) == 1


@pytest.mark.parametrize(("words", "code"), [(("resume",), 0), (("cancel", "last"), 2), (("retry", "last"), 2)])
def test_a_verb_that_changes_does_it(
    state: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int
) -> None:
    assert run(["--state", str(state), *words]) == code
    capsys.readouterr()
    assert version(state) == migrate.latest()
    assert run(["--state", str(state), "runs"]) == 0
    assert "Nothing has run here yet" in capsys.readouterr().out


def test_not_while_another_engine_holds_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StateFolder(state).hold():
        assert run(["--state", str(state), "resume"]) == 3
    assert version(state) == 1
