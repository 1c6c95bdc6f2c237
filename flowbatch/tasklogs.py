"""Reading the logs of attempts: lines `<epoch ms> o|e <text>` in two segments, `<log>.1` before `<log>` (semantics.md 28)."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from flowbatch.model.ids import Millis

POLL_SECONDS: Final = 0.1
TAIL_BLOCK: Final = 64 * 1024
CHUNK: Final = 256 * 1024


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


def read(path: Path) -> Iterator[LogLine]:
    """All lines, the oldest first. A log that is not there has none."""
    for part in segments(path):
        with part.open("rb") as file:
            for line in file:
                yield parse(line.rstrip(b"\n"))


def tail(path: Path, count: int) -> list[LogLine]:
    """The last lines, read from the end: a long log costs no more than a short one."""
    found: deque[bytes] = deque()
    for part in reversed(segments(path)):
        with part.open("rb") as file:
            lines = last_of(file, count - len(found))
        found.extendleft(reversed(lines))
        if len(found) >= count:
            break
    return [parse(line) for line in found]


def last_of(file: BinaryIO, count: int) -> list[bytes]:
    if count <= 0:
        return []
    at = file.seek(0, os.SEEK_END)
    data = b""
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


def follow(path: Path, over: Callable[[], bool], *, skip: int = 0) -> Iterator[LogLine]:
    """Lines as they are written, until `over` says that the attempt has ended and all is read.

    `skip` bytes of the newest segment have been shown already. A rotation is followed: what was written to the old segment
    before it is read to its end first.
    """
    file: BinaryIO | None = None
    rest = b""
    try:
        while True:
            ended = over()
            if file is None and path.exists():
                file = path.open("rb")
                file.seek(skip)
            if file is not None:
                while data := file.read(CHUNK):
                    *lines, rest = (rest + data).split(b"\n")
                    yield from map(parse, lines)
                if rotated(path, file):
                    file.close()
                    file, skip = None, 0
                    continue
            if ended:
                break
            time.sleep(POLL_SECONDS)
        if rest:
            yield parse(rest)
    finally:
        if file is not None:
            file.close()


def rotated(path: Path, file: BinaryIO) -> bool:
    """Whether the open file is no longer the newest segment."""
    try:
        return path.stat().st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:
        return False  # between the rename and the new file: the next look sees it
