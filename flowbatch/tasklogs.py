"""Reading the logs of attempts: lines `<epoch ms> o|e <text>` in two segments, `<log>.1` before `<log>` (semantics.md 28)."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from flowbatch.model.ids import LOG_CUT, Millis

POLL_SECONDS: Final = 0.1
TAIL_BLOCK: Final = 64 * 1024
CHUNK: Final = 256 * 1024
LOOKS_MAX: Final = 10  # at a log that is rotated between one look and the next


class LogLine(NamedTuple):
    at: Millis | None  # None: a line that is not of our making
    stream: str  # "o" or "e"
    text: bytes  # without its newline


def parse(line: bytes) -> LogLine:
    """Never raises: a line without our mark is given as it is."""
    stamp, _, rest = line.partition(b" ")
    if stamp.isdigit() and rest[:1] in (b"o", b"e") and rest[1:2] in (b" ", b""):
        return LogLine(Millis(int(stamp)), rest[:1].decode(), rest[2:])
    return LogLine(None, "o", line)


def segments(path: Path) -> list[Path]:
    """The parts of a log that exist, the older first."""
    return [part for part in (path.with_name(path.name + ".1"), path) if part.exists()]


def is_cut(path: Path) -> bool:
    return path.with_name(path.name + LOG_CUT).exists()


def opened(path: Path) -> list[BinaryIO]:
    """The segments that exist, the older first, as they were at one moment: a rotation in between is noticed."""
    for _ in range(LOOKS_MAX):
        files: list[BinaryIO] = []
        try:
            files.extend(part.open("rb") for part in segments(path))
            if [number(file) for file in files] == [part.stat().st_ino for part in segments(path)]:
                return files
        except FileNotFoundError:
            pass  # renamed at this very moment
        for file in files:
            file.close()
    return []


def number(file: BinaryIO) -> int:
    """Tells segments apart: a rotation renames the file, and nobody gets its number while it is open."""
    return os.fstat(file.fileno()).st_ino


def read(path: Path) -> Iterator[LogLine]:
    """All lines, the oldest first. A log that is not there has none."""
    with ExitStack() as stack:
        for file in [stack.enter_context(each) for each in opened(path)]:
            for line in file:
                yield parse(line.rstrip(b"\n"))


def tail(path: Path, count: int) -> list[LogLine]:
    """The last lines, read from the end: a long log costs no more than a short one."""
    with ExitStack() as stack:
        return tail_of([stack.enter_context(file) for file in opened(path)], count)


def tail_of(files: list[BinaryIO], count: int) -> list[LogLine]:
    """The last lines of these segments, which are left standing behind them."""
    found: deque[bytes] = deque()
    for file in reversed(files):
        end = file.seek(0, os.SEEK_END)
        found.extendleft(reversed(last_of(file, count - len(found), end)))
        file.seek(end)
    return [parse(line) for line in found]


def last_of(file: BinaryIO, count: int, end: int) -> list[bytes]:
    """The last lines before that place."""
    if count <= 0:
        return []
    at, data = end, b""
    while at > 0 and data.count(b"\n") <= count:
        step = min(TAIL_BLOCK, at)
        at -= step
        file.seek(at)
        data = file.read(step) + data
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return lines[-count:]


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines that say something, as text, for a summary."""
    lines = (line.text.decode("utf-8", "replace").rstrip() for line in tail(path, count * 2))
    return [line for line in lines if line][-count:]


def follow(path: Path, over: Callable[[], bool], *, last: int | None = None) -> Iterator[LogLine]:
    """Lines as they are written, until `over` says that the attempt has ended and all is read.

    Begins with the oldest line, or with the `last` so many. A segment is read to its end once its rotation was seen, then
    the one that has come and gone since, then the newest.
    """
    file: BinaryIO | None = None
    ahead: deque[BinaryIO] = deque()
    rest = b""
    try:
        if last is not None:
            ahead += opened(path)
            yield from tail_of(list(ahead), last)
        while True:
            ended = over()
            ahead += begun_since(path, ahead[-1] if ahead else file)
            while True:
                while file is not None and (data := file.read(CHUNK)):
                    *lines, rest = (rest + data).split(b"\n")
                    yield from map(parse, lines)
                if not ahead:
                    break
                if rest:
                    yield parse(rest)
                    rest = b""
                if file is not None:
                    file.close()
                file = ahead.popleft()
            if ended:
                break
            time.sleep(POLL_SECONDS)
        if rest:
            yield parse(rest)
    finally:
        for each in (file, *ahead):
            if each is not None:
                each.close()


def begun_since(path: Path, file: BinaryIO | None) -> list[BinaryIO]:
    """The segments after the open one. Of more than two rotations since the last look only the newest two are left."""
    if file is not None and number_at(path) == number(file):
        return []
    files = opened(path)
    numbers = [number(each) for each in files]
    past = numbers.index(number(file)) + 1 if file is not None and number(file) in numbers else 0
    for each in files[:past]:
        each.close()
    return files[past:]


def number_at(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None  # between the rename and the new file
