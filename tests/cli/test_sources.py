"""Where the children of an array come from: files that are read before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from flowbatch.cli import load
from flowbatch.cli.load import read_source
from flowbatch.errors import Problem
from flowbatch.library.sources import beneath
from flowbatch.spec.arrays import SourceRequest
from flowbatch.spec.yaml import SCALAR_MAX


def lines(path: Path, read: Callable[[SourceRequest], list[str]] = read_source) -> list[str]:
    return read(SourceRequest("a", "lines", str(path), Problem("f.yaml", 1, 1, "", "")))


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(b"\xef\xbb\xbffirst\r\nsecond\n")
    for read in (read_source, beneath((str(tmp_path),))):  # by hand, and by a server
        assert lines(file, read) == ["first", "second", ""]


def test_a_line_that_no_program_can_be_passed_is_refused_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("a\n" + "x" * SCALAR_MAX + "\n")
    assert len(lines(file)) == 3
    file.write_text("a\n" + "x" * (SCALAR_MAX + 1) + "\n")
    for read in (read_source, beneath((str(tmp_path),))):
        with pytest.raises(OSError, match="has 65,537 characters in line 2"):
            lines(file, read)


def test_a_pipe_is_read_where_somebody_writes_and_not_waited_for_where_nobody_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "PIPE_SECONDS", 0.01)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="is a pipe into which nobody has written"):
        lines(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(pipe, os.O_WRONLY)
    os.write(writing, b"a\nb\n")
    os.close(writing)  # what is in the pipe stays, as long as somebody has it open
    assert lines(pipe) == ["a", "b", ""]
    os.close(reading)
