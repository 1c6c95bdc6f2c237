"""Logs of attempts, read while the supervisor's own writer rotates them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowbatch import tasklogs
from flowbatch.backends.supervisor.logfile import LogFile

LINE_BYTES = 8  # "1 o aaa\n": each of these in a log of this cap fills a segment
CAP_BYTES = 2 * LINE_BYTES


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogFile]:
    """Two lines fill it; each further one rotates it, and from the third on one is lost."""
    log = LogFile(str(tmp_path / "x.log"), CAP_BYTES)
    yield log
    log.close()


def write(log: LogFile, *texts: str) -> None:
    for text in texts:
        log.write(f"1 o {text}\n".encode())


def followed(log: LogFile, *acts: Callable[[], object], last: int | None = None) -> Iterator[str]:
    """The lines, while one more of these things happens before each look; with the last of them the attempt is over."""
    left = list(acts)

    def over() -> bool:
        if left:
            left.pop(0)()
        return not left

    return (line.text.decode() for line in tasklogs.follow(Path(log.path), over, last=last))


@pytest.mark.parametrize("new", [["bbb"], ["bbb", "ccc"]], ids=["one-rotation", "two-rotations"])
def test_rotations_between_two_looks_lose_nothing(log: LogFile, new: list[str]) -> None:
    write(log, "aaa")
    assert list(followed(log, lambda: None, lambda: write(log, *new))) == ["aaa", *new]


def test_more_rotations_than_there_are_segments_lose_what_is_gone_alone(log: LogFile) -> None:
    write(log, "aaa")
    assert list(followed(log, lambda: None, lambda: write(log, "bbb", "ccc", "ddd"))) == ["aaa", "ccc", "ddd"]


def test_what_was_written_just_before_a_rotation_is_read(tmp_path: Path) -> None:
    log = LogFile(str(tmp_path / "x.log"), 2 * CAP_BYTES)  # two lines a segment
    write(log, "aaa")
    lines = followed(log, lambda: None, lambda: None)
    assert next(lines) == "aaa"  # between its read and its next look:
    write(log, "bbb", "ccc", "ddd", "eee")
    assert list(lines) == ["bbb", "ccc", "ddd", "eee"]
    log.close()


def test_a_follower_begins_with_the_oldest(log: LogFile) -> None:
    write(log, "aaa", "bbb")
    assert list(followed(log, lambda: None)) == ["aaa", "bbb"]


def test_a_follower_waits_for_a_log(log: LogFile) -> None:
    assert list(followed(log, lambda: None, lambda: write(log, "aaa"))) == ["aaa"]


@pytest.mark.parametrize(("last", "shown"), [(0, []), (1, ["bbb"]), (2, ["aaa", "bbb"]), (9, ["aaa", "bbb"])])
def test_the_last_lines_then_what_comes(log: LogFile, last: int, shown: list[str]) -> None:
    write(log, "aaa", "bbb")
    assert list(followed(log, lambda: None, lambda: write(log, "ccc", "ddd"), last=last)) == [*shown, "ccc", "ddd"]


def test_rotations_while_the_last_lines_are_shown_lose_nothing(log: LogFile) -> None:
    write(log, "aaa", "bbb")
    lines = followed(log, lambda: None, last=2)
    assert next(lines) == "aaa"
    write(log, "ccc", "ddd")
    assert list(lines) == ["bbb", "ccc", "ddd"]


def test_between_the_rename_and_the_new_file_nothing_is_lost(log: LogFile) -> None:
    write(log, "aaa")
    path = Path(log.path)

    def rename() -> None:
        os.rename(path, log.path + ".1")

    assert list(followed(log, lambda: None, rename, lambda: path.write_bytes(b"1 o bbb\n"))) == ["aaa", "bbb"]


def test_a_follower_that_stops_early_leaves_nothing_open(log: LogFile) -> None:
    write(log, "aaa", "bbb")
    before = os.listdir("/proc/self/fd")
    lines = tasklogs.follow(Path(log.path), lambda: True)
    assert next(lines).text == b"aaa"
    lines.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_torn_line_is_not_joined_with_the_next_segment(log: LogFile) -> None:
    Path(log.path + ".1").write_bytes(b"1 o to")  # the disk was full
    write(log, "aaa")
    assert list(followed(log, lambda: None)) == ["to", "aaa"]


def test_reading_takes_both_segments(log: LogFile) -> None:
    write(log, "aaa", "bbb")
    path = Path(log.path)
    assert [line.text for line in tasklogs.read(path)] == [b"aaa", b"bbb"]
    assert [line.text for line in tasklogs.tail(path, 1)] == [b"bbb"]
    assert tasklogs.last_lines(path, 5) == ["aaa", "bbb"]
    assert list(tasklogs.read(path.with_name("none"))) == []
