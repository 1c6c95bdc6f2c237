"""The state folder: whose it is, and what of somebody's own is never taken for it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from flowbatch.cli.main import run
from flowbatch.errors import InputError
from flowbatch.folder import StateFolder


@pytest.mark.parametrize("name", ["thesis.tex", ".git", "engine.sock", "logs"])
def test_a_folder_that_holds_other_things_is_refused_untouched(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "docs"
    folder.mkdir(mode=0o755)
    (folder / name).write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="this folder holds other things"), StateFolder(folder).hold():
        raise AssertionError("it is held")
    assert [path.name for path in folder.iterdir()] == [name]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_the_command_line_refuses_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yaml").write_text("jobs: {one: {command: ['true']}}", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    for words in (["run", str(tmp_path / "one.yaml")], ["run", str(tmp_path / "one.yaml"), "--detach"]):
        assert run(["--state", str(tmp_path), *words]) == 2
        assert "holds other things" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_new_one_and_an_empty_one_are_taken_and_known_again(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new" / "deep", tmp_path / "empty"):
        with StateFolder(path).hold():
            assert StateFolder(path).holder() == os.getpid()
        (path / "logs").mkdir()
        with StateFolder(path).hold():
            pass
    assert stat.S_IMODE((tmp_path / "new" / "deep").stat().st_mode) == 0o700


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="--state"):
            StateFolder(path).create()
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("link", "said"),
    [(None, "is not a folder"), ("/nowhere/at/all", "is a link to /nowhere/at/all, which is not there")],
)
def test_what_stands_in_its_place_is_named(
    tmp_path: Path, link: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state"
    if link is None:
        path.touch()
    else:
        path.symlink_to(link)
    assert run(["--state", str(path), "runs"]) == 2
    assert capsys.readouterr().err.endswith(f"{path}: {said}; name a state folder with --state\n")
    assert run(["--state", str(path), "doctor"]) == 1
    assert capsys.readouterr().out.count(f"{path}: {said}; name a state folder with --state") == 1


def test_a_disk_without_room_for_a_line_is_told_and_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with (
        pytest.raises(InputError, match="state: nothing can be written here: No space left on device"),
        StateFolder(tmp_path / "state").hold(),
    ):
        pass


def test_a_folder_that_is_there_is_not_said_to_be_one_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", read_only)
    with pytest.raises(InputError, match="nothing can be written here: Read-only file system"):
        StateFolder(tmp_path).create()
