"""What the supervisor must never forget: an append-only file of claims, pids, ends and forgets.

    B <boot id> <format>                the first line
    C <n> <attempt id> <ms>             claimed: from here on it may have begun
    P <n> <pid> <from> <to> <ms>        it runs; its start time (clock ticks since boot) lies in from..to
    E <n> <ms> <code|-> <flags> <detail>    ended
    X <n> <ms> <code|-> <error>         never began
    F <n>                               forgotten

The file is written into room that was filled with zeros and synced before: an fdatasync then need not touch the file's
metadata, which makes it five times cheaper (85 µs against 465 µs on ext4). A reader takes every whole line and passes over
the others: the last one may be torn, and one that was damaged says nothing against those after it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FORMAT = 1
_ROOM_BYTES = 1 << 20
_COMPACT_BYTES = 4 << 20


@dataclass(slots=True)
class Entry:
    """All that the journal says of one attempt."""

    n: int
    id: str
    claimed_at: int
    pid: int = 0
    start_from: int = 0
    start_to: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    exit_code: int | None = None
    flags: int = 0
    detail: str | None = None
    error: str | None = None  # why it never began; "" when it was stopped before its start
    ended: bool = False

    def lines(self) -> bytes:
        """The entry as a compacted journal holds it."""
        out = b"C %d %s %d\n" % (self.n, self.id.encode(), self.claimed_at)
        if self.pid:
            out += b"P %d %d %d %d %d\n" % (self.n, self.pid, self.start_from, self.start_to, self.started_at or 0)
        if self.ended:
            out += end_line(self)
        return out


def end_line(entry: Entry) -> bytes:
    code = b"-" if entry.exit_code is None else b"%d" % entry.exit_code
    if entry.error is not None:
        return b"X %d %d %s %s\n" % (entry.n, entry.ended_at or 0, code, _text(entry.error))
    return b"E %d %d %s %d %s\n" % (entry.n, entry.ended_at or 0, code, entry.flags, _text(entry.detail or ""))


def _text(text: str) -> bytes:
    """On one line, and without the NUL that would end the journal."""
    return text.encode("utf-8", "replace").replace(b"\n", b" ").replace(b"\0", b"?")


class Journal:
    """Raises OSError where the disk is full: what was to be written stays pending, and the next flush tries again."""

    def __init__(self, path: str, boot: str) -> None:
        self.path = path
        self.boot = boot
        self.entries: dict[str, Entry] = {}
        self.previous_boot: str | None = None
        self.past: set[str] = set()  # forgotten, as the file that a predecessor left has it
        self._pending: list[bytes] = []
        self._unsynced_end = False
        self._next = 1
        self._fd = -1
        self._size = 0  # written so far
        self._room = 0
        self._compact_at = _COMPACT_BYTES

    def open(self) -> None:
        """Reads what a predecessor left, and begins a fresh file with it."""
        try:
            with open(self.path, "rb") as file:
                self._read(file.read())
        except FileNotFoundError:
            self.previous_boot = None  # the first supervisor of this folder
        self._next = 1 + max((entry.n for entry in self.entries.values()), default=0)
        self._rewrite()

    def _read(self, data: bytes) -> None:
        numbers: dict[int, Entry] = {}
        for line in data.rstrip(b"\0").split(b"\n")[:-1]:
            try:
                if b"\0" not in line:
                    self._apply(line.decode(), numbers)
            except (ValueError, KeyError, IndexError):
                continue  # damaged, or about an attempt whose claim was: the engine misses it, and counts it as lost

    def _apply(self, line: str, numbers: dict[int, Entry]) -> None:
        kind, rest = line[0], line[2:]
        if kind == "B":
            self.previous_boot = rest.split(" ")[0]
        elif kind == "C":
            number, attempt, at = rest.split(" ")
            _, *numerals = attempt.split(".")
            if len(numerals) not in (2, 3) or not all(numeral.isdecimal() for numeral in numerals):
                raise ValueError(attempt)
            entry = Entry(int(number), attempt, int(at))
            numbers[entry.n] = self.entries[attempt] = entry
        elif kind == "P":
            number, *values = rest.split(" ")
            entry = numbers[int(number)]
            entry.pid, entry.start_from, entry.start_to, entry.started_at = map(int, values)
        elif kind == "E":
            number, at, code, flags, detail = rest.split(" ", 4)
            entry = numbers[int(number)]
            ended_at, exit_code = int(at), None if code == "-" else int(code)
            entry.flags, entry.detail = int(flags), detail or None
            entry.ended_at, entry.exit_code, entry.ended = ended_at, exit_code, True
        elif kind == "X":
            number, at, code, error = rest.split(" ", 3)
            entry = numbers[int(number)]
            ended_at, exit_code = int(at), None if code == "-" else int(code)
            entry.ended_at, entry.exit_code, entry.error, entry.ended = ended_at, exit_code, error, True
        elif kind == "F":
            entry = numbers.pop(int(rest))
            del self.entries[entry.id]
            self.past.add(entry.id)
        else:
            raise ValueError(line)

    def claim(self, attempt: str, at: int) -> Entry:
        entry = self.entries[attempt] = Entry(self._next, attempt, at)
        self._next += 1
        self._pending.append(b"C %d %s %d\n" % (entry.n, attempt.encode(), at))
        return entry

    def started(self, entry: Entry) -> None:
        self._pending.append(
            b"P %d %d %d %d %d\n" % (entry.n, entry.pid, entry.start_from, entry.start_to, entry.started_at or 0)
        )

    def ended(self, entry: Entry) -> None:
        entry.ended = True
        self._unsynced_end = True
        self._pending.append(end_line(entry))

    def forget(self, attempt: str) -> None:
        """Unknown and unended attempts stay as they are."""
        entry = self.entries.get(attempt)
        if entry is not None and entry.ended:
            del self.entries[attempt]
            self._pending.append(b"F %d\n" % entry.n)

    def close(self) -> None:
        """At an end in peace: nothing of the past can still run, and a successor need not look for it."""
        self._rewrite()

    def write(self) -> None:
        """Hands what is pending to the kernel: it survives any kill, not the loss of power."""
        if not self._pending:
            return
        data = b"".join(self._pending)
        if self._size + len(data) > self._compact_at:
            self._rewrite()  # everything pending is in `entries` already
            return
        if self._size + len(data) > self._room:
            self._grow(len(data))
        written = os.pwrite(self._fd, data, self._size)
        if written != len(data):
            raise OSError(28, "the journal's disk is full", self.path)
        self._size += written
        self._pending.clear()

    def sync(self) -> None:
        """After it every end that was handed in is durable."""
        self.write()
        if self._unsynced_end:
            os.fdatasync(self._fd)
            self._unsynced_end = False

    def _grow(self, need: int) -> None:
        room = _ROOM_BYTES * (1 + need // _ROOM_BYTES)
        if os.pwrite(self._fd, bytes(room), self._room) != room:
            raise OSError(28, "the journal's disk is full", self.path)
        os.fsync(self._fd)
        self._room += room

    def _rewrite(self) -> None:
        """A new file with what is not forgotten, in the old one's place at once or not at all."""
        data = b"B %s %d\n" % (self.boot.encode(), FORMAT)
        data += b"".join([entry.lines() for entry in self.entries.values()])
        room = _ROOM_BYTES * (1 + len(data) // _ROOM_BYTES)
        temporary = self.path + ".new"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            content = data + bytes(room - len(data))
            if os.pwrite(fd, content, 0) != len(content):
                raise OSError(28, "the journal's disk is full", self.path)
            os.fsync(fd)
            os.rename(temporary, self.path)
        except OSError:
            os.close(fd)
            raise
        folder = os.open(os.path.dirname(self.path), os.O_RDONLY | os.O_CLOEXEC)
        os.fsync(folder)
        os.close(folder)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._room = fd, len(data), room
        self._compact_at = max(_COMPACT_BYTES, 4 * len(data))
        self._pending.clear()
        self._unsynced_end = False
