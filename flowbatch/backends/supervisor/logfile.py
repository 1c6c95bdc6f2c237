"""The log of an attempt: lines `<epoch ms> o|e <text>`, capped by keeping the newest in two segments.

`<log>` grows to half of the cap, then becomes `<log>.1` (whose predecessor goes) and a new `<log>` begins.
"""

from __future__ import annotations

import os
import time

READ_BYTES = 16 << 10  # a turn's read per stream: what keeps a flood from starving the others
LINE_BYTES = 16 << 10  # an unfinished line longer than this is written as it is, and goes on as another
_DRAIN_READS = 80  # after the end: a pipe holds 1 MiB at the most


class LogFile:
    """Opened by the first output, so that silent tasks hold no descriptor. A full disk drops output, never a task."""

    __slots__ = ("fd", "half", "path", "size", "truncated")

    def __init__(self, path: str, cap_bytes: int) -> None:
        self.path = path
        self.half = cap_bytes // 2
        self.fd = -1
        self.size = 0
        self.truncated = False

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            self.fd = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            self.fd = os.open(self.path, flags, 0o600)
        self.size = 0

    def write(self, lines: bytes) -> None:
        """`lines` ends with a newline."""
        try:
            if self.fd < 0:
                self.open()
            if self.size + len(lines) <= self.half:
                self.size += os.write(self.fd, lines)
            else:
                self._write_across(lines)
        except OSError:
            self.truncated = True  # no room, no descriptor, or the folder is gone: the task itself goes on

    def _write_across(self, lines: bytes) -> None:
        while lines:
            room = self.half - self.size
            if len(lines) <= room:
                cut = len(lines)
            else:
                cut = lines.rfind(b"\n", 0, max(room, 0)) + 1
                if cut == 0 and self.size == 0:
                    cut = lines.find(b"\n") + 1  # a line longer than a segment has it alone
            if cut:
                self.size += os.write(self.fd, lines[:cut])
                lines = lines[cut:]
            if lines:
                self._rotate()

    def _rotate(self) -> None:
        os.close(self.fd)
        self.fd = -1
        older = self.path + ".1"
        # From the second rotation on something is really lost.
        self.truncated = self.truncated or os.path.exists(older)
        os.rename(self.path, older)
        self.open()

    def close(self) -> None:
        """Leaves an empty file after an attempt that printed nothing."""
        try:
            if self.fd < 0:
                self.open()
            os.close(self.fd)
        except OSError:
            self.truncated = True  # see write
        self.fd = -1


class Stream:
    """The reading end of a task's stdout or stderr."""

    __slots__ = ("carry", "fd", "log", "tag")

    def __init__(self, fd: int, tag: bytes, log: LogFile) -> None:
        self.fd = fd
        self.tag = tag
        self.log = log
        self.carry = b""  # an unfinished line

    def pump(self) -> bool:
        """Reads once, bounded; called when there is something. False at the end: the caller closes the descriptor."""
        try:
            chunk = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            self.fd = -1
            return False
        self.feed(chunk, time.time_ns() // 1_000_000)
        return True

    def feed(self, chunk: bytes, now_ms: int) -> None:
        if self.carry:
            chunk = self.carry + chunk
        end = chunk.rfind(b"\n")
        if end >= 0:
            body = chunk[:end]
            self.carry = chunk[end + 1 :]
        elif len(chunk) >= LINE_BYTES:
            body = chunk
            self.carry = b""
        else:
            self.carry = chunk
            return
        prefix = b"%d %b " % (now_ms, self.tag)
        self.log.write(prefix + body.replace(b"\n", b"\n" + prefix) + b"\n")

    def drain(self) -> None:
        """What the pipe still holds after the task's end, bounded."""
        for _ in range(_DRAIN_READS):
            try:
                chunk = os.read(self.fd, READ_BYTES)
            except BlockingIOError:
                break  # an escapee still holds the other end
            if not chunk:
                break
            self.feed(chunk, time.time_ns() // 1_000_000)

    def flush(self) -> None:
        """The unfinished line."""
        if self.carry:
            prefix = b"%d %b " % (time.time_ns() // 1_000_000, self.tag)
            self.log.write(prefix + self.carry + b"\n")
            self.carry = b""
