from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowbatch.cli.loglines import shown
from flowbatch.cli.logs import Over, followed
from flowbatch.cli.logsource import LogFiles
from flowbatch.cli.main import run
from flowbatch.folder import StateFolder
from flowbatch.model.ending import Evidence
from flowbatch.store.reader import Reader
from tests.cli.filled import History, id_of
from tests.core.builders import environment, job


@pytest.fixture
def history() -> History:
    """a ended, b:0 ended, b:1 failed twice, b:2 runs; c waits."""
    history = History(environment(16))
    history.begin("run", job("a"), job("b", size=3, needs=["a"], attempts=2), job("c", needs=["b"]))
    history.done("a", "b:0")
    history.done("b:1", "b:1#2", code=3)
    history.start(history.name("b:2"))
    return history


@pytest.fixture
def folder(history: History, tmp_path: Path) -> StateFolder:
    folder = history.store(tmp_path / "state")
    history.log(folder, "a", "o one", "e two", "o three")
    history.log(folder, "b:0", *(f"o line {number}" for number in range(30)))
    history.log(folder, "b:1", "o first try")
    history.log(folder, "b:1#2", "o second try", "e no luck")
    return folder


def told(folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> bytes:
    code = run(["--state", str(folder.path), "logs", *arguments])
    printed, errors = capfdbinary.readouterr()
    assert code == 0, errors
    return printed


def test_the_last_attempt_as_plain_text(folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert told(folder, capfdbinary, "last/a") == b"one\ntwo\nthree\n"
    assert told(folder, capfdbinary, "flow/b:1") == b"second try\nno luck\n"
    assert told(folder, capfdbinary, "flow/b:1#1") == b"first try\n"
    assert told(folder, capfdbinary, f"{id_of('run/b')}:1") == b"second try\nno luck\n"


def test_only_some_of_it(folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert told(folder, capfdbinary, "last/a", "--tail", "1") == b"three\n"
    assert told(folder, capfdbinary, "last/a", "--tail", "0") == b""
    assert told(folder, capfdbinary, "last/a", "--stderr") == b"two\n"
    assert told(folder, capfdbinary, "last/a", "--stdout") == b"one\nthree\n"


def test_with_times(
    folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(folder, capfdbinary, "last/a", "--timestamps").splitlines()[1]
    stamp, stream, text = first.split(b" ")
    assert (stream, text) == (b"e", b"two")
    assert stamp.startswith((b"1970-01-01T", b"1969-12-31T"))


def test_for_programs(folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    lines = [json.loads(line) for line in told(folder, capfdbinary, "flow/b:1", "--json").splitlines()]
    assert lines[1] == {"job": "b", "index": 1, "attempt": 2, "at": 2000, "stream": "stderr", "text": "no luck"}


def test_the_tasks_of_an_array_stand_behind_their_names(
    folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = told(folder, capfdbinary, "flow/b").splitlines()
    assert lines == [*(b"b:0| line %d" % number for number in range(20, 30)), b"b:1| second try", b"b:1| no luck"]
    assert told(folder, capfdbinary, "flow/b:failed") == b"b:1| second try\nb:1| no luck\n"
    assert told(folder, capfdbinary, "flow/b:0-1", "--tail", "1") == b"b:0| line 29\nb:1| no luck\n"
    assert told(folder, capfdbinary, "flow", "--tail", "1") == b"a| three\nb:0| line 29\nb:1| no luck\n"


def test_both_segments_are_read(
    history: History, folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    path = history.log(folder, "a", "o new")
    path.with_name(path.name + ".1").write_bytes(b"1 o old\n")
    assert told(folder, capfdbinary, "last/a") == b"old\nnew\n"
    assert told(folder, capfdbinary, "last/a", "-f") == b"old\nnew\n"
    assert told(folder, capfdbinary, "last/a", "--tail", "2") == b"old\nnew\n"


def test_a_capped_log_says_that_its_beginning_is_gone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a", attempts=2), job("b"))
    history.end(history.name("a"), evidence=Evidence(3, truncated=True))
    history.end(history.name("a#2"))
    history.end(history.name("b"), evidence=Evidence(0, truncated=True))
    folder = history.store(tmp_path / "state")
    for name in ("a", "a#2", "b"):
        history.log(folder, name, "o the end")
    for address, capped in (("flow/a#1", True), ("flow/a", False), ("flow/b", True)):
        for flags in ([], ["-f"]):
            assert run(["--state", str(folder.path), "logs", address, *flags]) == 0
            said = "the log was capped: its beginning is gone\n" if capped else ""
            assert capfd.readouterr() == ("the end\n", said)
    assert run(["--state", str(folder.path), "logs", "flow/b", "--tail", "1"]) == 0
    assert capfd.readouterr() == ("the end\n", "")


BYTES = b"o \xff\xfe\x1b]0;evil\x07\x1b[31mred\x1b[2J\rdone\x9b"


def test_a_pipe_gets_the_bytes(
    history: History, folder: StateFolder, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    history.log(folder, "a", BYTES)
    assert told(folder, capfdbinary, "last/a") == BYTES[2:] + b"\n"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b"plain \xc3\xa9", "plain é"),
        (b"a\tb", "a\tb"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b[2J\x1b[Htext\x1b[?25l", "text"),
        (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
        (b"\x1b[1;38:5:3mx", "\x1b[1;38:5:3mx\x1b[0m"),
        (b"10 %\r50 %\r100 %", "100 %"),
        (b"text\r", "text"),
        (b"\xc2\x9b31mx \xe2\x80\xaeabc", "31mx abc"),
        (b"\xff", "\ufffd"),
        (b"\x1b]0;\x1b[31mevil\x07", "\x1b[31mevil\x1b[0m"),
        (b"\x1b\x1b[31mx", "\x1b[31mx\x1b[0m"),
        (b"\x1bPq\x1b\\x", "qx"),
    ],
)
def test_a_terminal_gets_nothing_but_text_and_colours(line: bytes, seen: str) -> None:
    assert shown(line).decode() == seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flow/c"], "no attempt has begun, it is PENDING; `flowbatch --state {state} why flow/c` says more"),
        (["flow/b:1#3"], "there was no attempt 3; it has had 2"),
        (["flow/b", "-f"], "one task is followed at a time, like "),
        (["flow", "-f"], "one task is followed at a time, like "),
        (["flow/a", "--tail", "-1"], "-1 is not in the range"),
        (["flow/z"], "has no job 'z'"),
    ],
)
def test_wrong_input(
    arguments: list[str], message: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--state", str(folder.path), "logs", *arguments]) == 2
    assert message.format(state=folder.path) in capsys.readouterr().err


def test_an_attempt_that_could_not_start_has_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History()
    history.begin("run", job("a"))
    history.refuse(history.name("a"), "CannotStartContainerError: no such\x1b[2J file")
    folder = history.store(tmp_path / "state")
    assert run(["--state", str(folder.path), "logs", "flow/a"]) == 0
    assert capsys.readouterr().err == "a has no log of attempt 1: CannotStartContainerError: no such file\n"


def test_who_waits_for_a_start_is_told_that_no_engine_runs(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", leave)
    run(["--state", str(folder.path), "logs", "-f", "flow/c"])
    said = capsys.readouterr().err
    assert "flow/c is PENDING: waiting for it to start; Ctrl-C leaves." in said
    assert f"No engine runs, so that nothing starts before `flowbatch --state {folder.path} resume`." in said


def following(folder: StateFolder, history: History, tail: int | None) -> tuple[Path, Iterator[bytes], Reader]:
    path = history.log(folder, "b:2", "o one", "o two")
    reader = Reader(folder.database)
    found = reader.resolve("flow/b:2")
    assert found.job is not None
    over = Over(reader, found.job, history.key("b:2"), LogFiles(folder.logs))
    return path, (line.text for line in followed(tail, over)), reader


@pytest.mark.slow
@pytest.mark.parametrize(("tail", "before"), [(None, [b"one", b"two"]), (1, [b"two"])])
def test_following_ends_when_the_attempt_has(
    tail: int | None, before: list[bytes], history: History, folder: StateFolder
) -> None:
    path, lines, reader = following(folder, history, tail)
    with reader:
        assert [next(lines) for _ in before] == before
        with path.open("ab") as file:
            file.write(b"3 e three\n")
        assert next(lines) == b"three"
        history.end(history.name("b:2"))
        history.store(folder.path)
        with path.open("ab") as file:
            file.write(b"4 o last words, after the end was stored\n")
        assert list(lines)[-1] == b"last words, after the end was stored"


@pytest.mark.slow
def test_following_goes_over_a_rotation(history: History, folder: StateFolder) -> None:
    path, lines, reader = following(folder, history, None)
    with reader:
        assert [next(lines), next(lines)] == [b"one", b"two"]
        with path.open("ab") as file:
            file.write(b"3 o end of the old\n")
        os.rename(path, path.with_name(path.name + ".1"))
        path.write_bytes(b"4 o begin of the new\n")
        assert [next(lines), next(lines)] == [b"end of the old", b"begin of the new"]
