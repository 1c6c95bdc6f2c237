"""The watched folder: whole files, once per content, and nothing that leads elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbatch.errors import InputError
from flowbatch.library.folder import FILE_BYTES, Changing, Found, Gone, Refused, WatchedFolder

A = b"jobs: {a: {script: 'true'}}\n"
B = b"jobs: {b: {script: 'true'}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[WatchedFolder]:
    tmp_path.chmod(0o755)
    watched = WatchedFolder(tmp_path, frozenset({os.getuid()}))
    watched.open()
    yield watched
    watched.close()


def put(folder: WatchedFolder, name: str, content: bytes, mtime: int = 1) -> None:
    path = folder.path / name
    path.write_bytes(content)
    os.utime(path, ns=(mtime, mtime))


def contents(folder: WatchedFolder) -> list[tuple[str, bytes]]:
    return [(each.name, each.content) for each in folder.poll() if isinstance(each, Found)]


def test_a_file_is_taken_once_two_polls_have_seen_it_alike(folder: WatchedFolder) -> None:
    put(folder, "a.yaml", A)
    assert folder.poll() == []
    assert contents(folder) == [("a.yaml", A)]
    assert folder.poll() == []


def test_a_file_that_grows_is_taken_when_it_is_whole(folder: WatchedFolder) -> None:
    for upto in range(1, 5):
        put(folder, "a.yaml", A[:upto], mtime=upto)
        assert folder.poll() == []
    put(folder, "a.yaml", A, mtime=9)
    assert folder.poll() == []
    assert contents(folder) == [("a.yaml", A)]


def test_a_file_that_changes_while_it_is_read_is_taken_later(
    folder: WatchedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.yaml", A)
    folder.poll()
    real, calls = os.fstat, 0

    def fstat(descriptor: int) -> os.stat_result:
        nonlocal calls
        calls += 1
        if calls == 2:  # after it was read
            put(folder, "a.yaml", A + B, mtime=2)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    assert folder.poll() == []
    monkeypatch.undo()
    assert folder.poll() == []
    assert contents(folder) == [("a.yaml", A + B)]


def test_each_change_of_content_is_told_and_a_touch_is_not(folder: WatchedFolder) -> None:
    told: list[bytes] = []
    for mtime, content in enumerate((A, B, A, A, B), start=1):
        put(folder, "a.yaml", content, mtime=mtime)
        folder.poll()
        told += [content for _, content in contents(folder)]
    assert told == [A, B, A, B]


def test_a_file_renamed_over_another_is_a_change(folder: WatchedFolder) -> None:
    put(folder, "a.yaml", A)
    folder.poll()
    folder.poll()
    put(folder, ".a.yaml.tmp", B)
    os.rename(folder.path / ".a.yaml.tmp", folder.path / "a.yaml")
    folder.poll()
    assert contents(folder) == [("a.yaml", B)]


def test_what_goes_is_told_and_may_come_back(folder: WatchedFolder) -> None:
    put(folder, "a.yaml", A)
    folder.poll()
    folder.poll()
    (folder.path / "a.yaml").unlink()
    assert folder.poll() == [Gone("a.yaml")]
    assert folder.poll() == []
    put(folder, "a.yaml", A)
    folder.poll()
    assert contents(folder) == [("a.yaml", A)]


def test_only_workflows_are_looked_at(folder: WatchedFolder) -> None:
    for name in (
        ".a.yaml",
        "a.yaml.swp",
        "a.txt",
        "-a.yaml",
        "a b.yaml",
        "A.YAML",
        "a\n.yaml",
        "flowbatch.yaml",
        "a.yaml.errors.txt",
        "á.yaml",
    ):
        put(folder, name, A)
    put(folder, "a-1_b.2.yml", B)
    folder.poll()
    told = folder.poll()
    assert [(each.name, each.content) for each in told if isinstance(each, Found)] == [("a-1_b.2.yml", B)]
    refused = [each for each in told if isinstance(each, Refused)]
    assert [each.name for each in refused] == ["-a.yaml", "A.YAML", "a b.yaml", "á.yaml"]
    assert all("a workflow's name has letters" in each.why for each in refused)


def test_what_leads_elsewhere_or_is_no_file_is_refused_once(folder: WatchedFolder, tmp_path: Path) -> None:
    put(folder, "real.txt", A)
    (folder.path / "link.yaml").symlink_to(folder.path / "real.txt")
    os.link(folder.path / "real.txt", folder.path / "hard.yaml")
    os.mkfifo(folder.path / "pipe.yaml")
    (folder.path / "dir.yaml").mkdir()
    put(folder, "large.yaml", bytes(FILE_BYTES + 1))
    folder.poll()
    refused = {each.name: each.why for each in folder.poll() if isinstance(each, Refused)}
    assert {name: why.split("; ")[0] for name, why in refused.items()} == {
        "link.yaml": "is a link",
        "hard.yaml": "has more than one name (a hard link)",
        "pipe.yaml": "is no ordinary file",
        "dir.yaml": "is no ordinary file",
        "large.yaml": "is larger than 1 MiB",
    }
    assert folder.poll() == []


def test_a_second_name_that_goes_while_it_is_read_is_noticed(
    folder: WatchedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is open has one name by then, and it is not the one in the folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(B)
    os.link(secret, folder.path / "a.yaml")
    folder.poll()
    really_open = os.open

    def open_and_swap(name: str, *more: int, **where: int) -> int:
        descriptor = really_open(name, *more, **where)
        put(folder, "own", A)
        os.replace(folder.path / "own", folder.path / "a.yaml")
        return descriptor

    monkeypatch.setattr(os, "open", open_and_swap)
    assert folder.poll() == []
    monkeypatch.undo()
    assert contents(folder) == []
    assert contents(folder) == [("a.yaml", A)]


def test_files_of_strangers_are_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    watched = WatchedFolder(tmp_path, frozenset({os.getuid() + 1}))
    watched.open()
    put(watched, "a.yaml", A)
    watched.poll()
    (told,) = watched.poll()
    assert isinstance(told, Refused)
    assert "whose files are not taken here" in told.why
    watched.close()


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(InputError, match="others may write here"):
        WatchedFolder(tmp_path, frozenset()).open()
    insecure = WatchedFolder(tmp_path, frozenset(), insecure=True)
    insecure.open()
    insecure.close()


def test_a_folder_below_one_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    """They could put another in its place; where the sticky bit is set, as on /tmp, they could not."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    watched = WatchedFolder(tmp_path / "a" / "b", frozenset({os.getuid()}))
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(InputError, match="another folder could be put in its place"):
        watched.open()
    (tmp_path / "a").chmod(0o1777)
    watched.open()
    watched.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_of_a_stranger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir(mode=0o755)
    os.chown(path, 4711, -1)
    with pytest.raises(InputError, match="belongs to user 4711, who may put anything here"):
        WatchedFolder(path, frozenset({0, 4711})).open()


def test_others_that_the_settings_name_may_write_where_each_keeps_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.mkdir()
    path.chmod(0o777)
    named = WatchedFolder(path, frozenset({os.getuid(), 4711}))
    with pytest.raises(InputError, match="others may write here"):
        named.open()
    path.chmod(0o1777)
    named.open()
    named.close()
    with pytest.raises(InputError, match="others may write here"):
        WatchedFolder(path, frozenset({os.getuid()})).open()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be watched: No such file"):
        WatchedFolder(tmp_path / "none", frozenset()).open()


def test_errors_stand_beside_the_file_until_they_are_mended(folder: WatchedFolder) -> None:
    folder.write_errors("a.yaml", "line 1: no\n")
    folder.write_errors("a.yaml", "line 2: no\n")
    assert (folder.path / "a.yaml.errors.txt").read_text() == "line 2: no\n"
    folder.clear_errors("a.yaml")
    folder.clear_errors("a.yaml")
    assert os.listdir(folder.path) == []


def test_a_moved_file_replaces_none(folder: WatchedFolder) -> None:
    for expected, content in (("a.yaml", A), ("a.2.yaml", B), ("a.3.yaml", A)):
        put(folder, "a.yaml", content)
        assert folder.move("a.yaml", "done") == expected
        assert (folder.path / "done" / expected).read_bytes() == content
    assert os.listdir(folder.path) == ["done"]


def test_a_move_follows_no_link_in_the_place_of_its_folder(folder: WatchedFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder.path / "done").symlink_to(elsewhere)
    put(folder, "a.yaml", A)
    with pytest.raises(OSError, match="done"):
        folder.move("a.yaml", "done")
    assert os.listdir(elsewhere) == []


def test_what_was_refused_for_its_names_or_rights_is_taken_once_they_are_mended(
    folder: WatchedFolder, tmp_path: Path
) -> None:
    """Neither its content nor its time changes by that."""
    put(folder, "a.yaml", A)
    folder.poll()
    assert contents(folder) == [("a.yaml", A)]
    os.link(folder.path / "a.yaml", folder.path / "other.name")
    folder.poll()
    [refused] = folder.poll()
    assert isinstance(refused, Refused)
    (folder.path / "other.name").unlink()
    folder.poll()
    assert contents(folder) == [("a.yaml", A)]


def test_a_folder_that_is_put_in_its_place_must_be_as_safe(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "flows"
    path.mkdir(mode=0o755)
    watched = WatchedFolder(path, frozenset({os.getuid()}))
    watched.open()
    put(watched, "a.yaml", A)
    watched.poll()
    path.rename(tmp_path / "old")
    with pytest.raises(OSError, match="the folder is no longer there"):
        watched.poll()
    path.mkdir()
    path.chmod(0o777)
    with pytest.raises(OSError, match=r"another folder has its place, and is not watched: .*others may write here"):
        watched.poll()
    path.chmod(0o755)
    put(watched, "b.yaml", B)
    assert watched.poll() == []
    assert watched.poll() == [Found("b.yaml", B, hashlib.sha256(B).hexdigest())]
    watched.close()


def test_a_move_leaves_what_is_no_longer_the_same(folder: WatchedFolder) -> None:
    put(folder, "a.yaml", B)
    with pytest.raises(Changing):
        folder.move("a.yaml", "done", digest=hashlib.sha256(A).hexdigest())
    assert folder.keep("done", "a.yaml", A.decode()) == "a.yaml"
    assert folder.keep("done", "a.yaml", "x") == "a.2.yaml"
    assert (folder.path / "a.yaml").read_bytes() == B
    assert sorted(os.listdir(folder.path / "done")) == ["a.2.yaml", "a.yaml"]


def test_errors_of_what_went_while_nobody_looked_go_too(folder: WatchedFolder) -> None:
    for name in ("gone.yaml.errors.txt", "there.yaml.errors.txt", "thesis.errors.txt"):
        (folder.path / name).write_text("wrong")
    put(folder, "there.yaml", A)
    folder.poll()
    assert sorted(os.listdir(folder.path)) == ["there.yaml", "there.yaml.errors.txt", "thesis.errors.txt"]
