"""The Engine's log of a container into ours: frames apart, partial lines together, and what is known already left out.

The Engine keeps one entry a line, or one per 16 KiB of a longer line (D28), all of these with the time of the first, in
nanoseconds; and its `local` driver forgets the newline after the last of them (seen on 20.10.24). So an entry that is full and
has no newline goes on in the next where that has the same time, and ends there otherwise. What is unfinished and shorter is
logged at the end of its stream alone. Ours keeps milliseconds. To go on where a file ends, entries are asked for again from a moment a little before its last line; as the
Engine repeats them in the same order, the first so many of them are those that the file has: no position is stored anywhere.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flowbatch.backends.supervisor.logfile import LogFile
from flowbatch.model.ids import LOG_CUT

HEADER: Final = 8
STAMP: Final = 31  # RFC 3339 with nine digits, Z and a space
WINDOW_MS: Final = 50  # stdout and stderr are stamped before they are queued: their order may differ by so much
ENTRY: Final = 16 << 10  # a line is cut at so many bytes
LINE_MAX: Final = 256 << 10  # an unfinished line longer than this is written as it is
RESUME_BYTES: Final = 1 << 20
TAGS: Final = {1: b"o", 2: b"e"}


class KeptLog(LogFile):
    """Opened at its end: an engine goes on where another one left off, and holds no descriptor in between.

    Its beginning may be dropped after its end is on record, or in an earlier engine's life: a file beside it says so to whoever shows it.
    """

    __slots__ = ()

    def open(self) -> None:
        self.truncated = self.truncated or os.path.exists(self.path + LOG_CUT)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self.fd = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self.fd = os.open(self.path, flags, 0o600)
        self.size = os.fstat(self.fd).st_size

    def _rotate(self) -> None:
        before = self.truncated
        super()._rotate()
        if self.truncated and not before:
            os.close(os.open(self.path + LOG_CUT, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


class Frames:
    """Cuts chunks of the Engine's stream into entries: (stream, time as it stands, time in ms, text)."""

    __slots__ = ("_base", "_rest", "_second", "count")

    def __init__(self) -> None:
        self._rest = b""
        self._second = b""
        self._base = 0
        self.count = 0

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes, int, bytes]]:
        data = self._rest + chunk if self._rest else chunk
        at, end = 0, len(data)
        entries = []
        while end - at >= HEADER:
            stop = at + HEADER + int.from_bytes(data[at + 4 : at + HEADER], "big")
            if stop > end:
                break
            start = at + HEADER
            if data[start : start + 19] != self._second:
                self._second = data[start : start + 19]
                self._base = _epoch_ms(self._second)
            tag = TAGS.get(data[at], b"o")
            stamp = data[start : start + STAMP]
            entries.append((tag, stamp, self._base + int(stamp[20:23]), data[start + STAMP : stop]))
            at = stop
        self._rest = data[at:]
        self.count += len(entries)
        return entries


def _epoch_ms(second: bytes) -> int:
    return int(datetime.fromisoformat(second.decode("ascii")).replace(tzinfo=UTC).timestamp()) * 1000


class Position:
    """How far our file goes: the time of its newest line, and how many lines there are around it."""

    __slots__ = ("_counts", "_newest")

    def __init__(self) -> None:
        self._newest = 0
        self._counts: dict[int, int] = {}

    @property
    def since_ms(self) -> int:
        """Where to ask again from; 0 from the beginning."""
        return max(self._newest - WINDOW_MS, 0)

    def known(self) -> int:
        """How many of the entries from there on are in our file."""
        since = self.since_ms
        return sum(count for ms, count in self._counts.items() if ms >= since)

    def add(self, ms: int) -> None:
        counts = self._counts
        counts[ms] = counts.get(ms, 0) + 1
        if ms > self._newest:
            self._newest = ms
            if len(counts) > 4 * WINDOW_MS:
                since = self.since_ms
                self._counts = {each: count for each, count in counts.items() if each >= since}


class Intake:
    """One reading of the Engine's log, from `position.since_ms` on, appended to ours."""

    __slots__ = ("_carry", "_frames", "_log", "_position", "_skip", "lines")

    def __init__(self, log: LogFile, position: Position) -> None:
        self._log = log
        self._position = position
        self._skip = position.known()
        self._frames = Frames()
        self._carry: dict[bytes, tuple[bytes, int, bytes]] = {}  # by stream: what may go on in its next entry
        self.lines = 0  # that were new

    @property
    def entries(self) -> int:
        return self._frames.count

    def feed(self, chunk: bytes) -> None:
        out: list[bytes] = []
        carry = self._carry
        for tag, stamp, ms, text in self._frames.feed(chunk):
            goes_on = len(text) >= ENTRY and not text.endswith(b"\n")
            held = carry.pop(tag, None)
            if held is not None:
                if held[0] == stamp:
                    text = held[2] + text
                else:
                    self._take(tag, held[1], held[2], out)
            if goes_on and len(text) < LINE_MAX:
                carry[tag] = (stamp, ms, text)
            else:
                self._take(tag, ms, text, out)
        if out:
            self._log.write(b"".join(out))

    def finish(self) -> None:
        """There will be no more: an unfinished line is one. Not called where the container goes on: it is read again then."""
        out: list[bytes] = []
        for tag, (_, ms, text) in self._carry.items():
            self._take(tag, ms, text, out)
        self._carry.clear()
        if out:
            self._log.write(b"".join(out))

    def _take(self, tag: bytes, ms: int, text: bytes, out: list[bytes]) -> None:
        if self._skip:
            self._skip -= 1
            return
        self._position.add(ms)
        self.lines += 1
        out.append(b"%d %b %b" % (ms, tag, text) if text.endswith(b"\n") else b"%d %b %b\n" % (ms, tag, text))


def resume(path: Path) -> Position:
    """The position of a file that an engine before us wrote; its last line, where torn, is taken off."""
    position = Position()
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(size - RESUME_BYTES, 0)
            file.seek(start)
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                file.truncate(start + whole)
    except OSError:
        return position
    lines = data[:whole].split(b"\n")[:-1]
    if start:
        del lines[0]  # it may be cut
    stamps = [int(stamp) for line in lines if (stamp := line.partition(b" ")[0]).isdigit()]
    for ms in stamps:
        position.add(ms)
    return position
