"""Who runs, from /proc: finds a task's processes wherever they went, and signals none that merely got a reused pid.

Scanned only on a kill or a loss: it costs about 30 µs per process of the machine.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from flowbatch.backends.supervisor.wire import MARKER

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_MARKER = b"\0" + MARKER.encode() + b"="


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    ppid: int
    pgrp: int
    session: int
    start: int  # clock ticks since boot: with the pid, the name of one process for ever
    state: str
    rss_pages: int


def parse_stat(text: str) -> Process:
    """The line of /proc/PID/stat; the command's name in it may hold blanks and parentheses."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        pgrp=int(fields[2]),
        session=int(fields[3]),
        start=int(fields[19]),
        state=fields[0],
        rss_pages=int(fields[21]),
    )


class ProcTable:
    """One reading of /proc. `root` is another folder in tests."""

    def __init__(self, root: str = "/proc") -> None:
        self.root = root

    def read(self, pid: int) -> Process | None:
        try:
            with open(f"{self.root}/{pid}/stat", "rb") as file:
                return parse_stat(file.read().decode("utf-8", "replace"))
        except (OSError, ValueError):
            return None  # gone between two looks

    def scan(self) -> dict[int, Process]:
        """Zombies are left out: nothing of them runs."""
        found = {}
        for name in os.listdir(self.root):
            if name.isdigit():
                process = self.read(int(name))
                if process is not None and process.state not in "ZX":
                    found[process.pid] = process
        return found

    def marker(self, pid: int) -> str | None:
        """The attempt that a process says it belongs to."""
        try:
            with open(f"{self.root}/{pid}/environ", "rb") as file:
                environ = b"\0" + file.read()
        except OSError:
            return None  # gone, or another user's: none of ours
        at = environ.find(_MARKER)
        if at < 0:
            return None
        at += len(_MARKER)
        return environ[at : environ.find(b"\0", at)].decode("utf-8", "replace")

    def children(self, parent: int) -> list[int]:
        """Zombies included."""
        try:
            with open(f"{self.root}/{parent}/task/{parent}/children", "rb") as file:
                return [int(pid) for pid in file.read().split()]
        except FileNotFoundError:
            # A kernel without CONFIG_PROC_CHILDREN.
            everyone = [self.read(int(name)) for name in os.listdir(self.root) if name.isdigit()]
            return [process.pid for process in everyone if process is not None and process.ppid == parent]

    def members(self, roots: dict[str, int | None]) -> dict[str, list[Process]]:
        """The living processes of each attempt: its main process's session and group, all that carry its marker, and
        what descends from any of these. `roots` gives the main pid, or None where it is not certain to be ours."""
        table = self.scan()
        table.pop(os.getpid(), None)
        owner: dict[int, str] = {}
        by_root = {pid: attempt for attempt, pid in roots.items() if pid is not None}
        below: dict[int, list[int]] = {}
        for process in table.values():
            below.setdefault(process.ppid, []).append(process.pid)
            attempt = by_root.get(process.session) or by_root.get(process.pgrp)
            if attempt is None:
                attempt = self.marker(process.pid)
            if attempt in roots:
                owner[process.pid] = attempt
        # A main process that is a zombie by now still says whose its children are.
        queue = [*owner.items(), *by_root.items()]
        while queue:
            parent, attempt = queue.pop()
            for pid in below.get(parent, ()):
                if pid not in owner:
                    owner[pid] = attempt
                    queue.append((pid, attempt))
        found: dict[str, list[Process]] = {attempt: [] for attempt in roots}
        for pid, attempt in owner.items():
            found[attempt].append(table[pid])
        return found

    def signal(self, process: Process, number: int) -> bool:
        """Signals that very process; False when it is gone."""
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            return False  # gone
        try:
            # The descriptor holds whoever has the pid now: if its start time is right it is the one that was meant.
            now = self.read(process.pid)
            if now is None or now.start != process.start:
                return False
            signal.pidfd_send_signal(fd, number)
            return True
        except OSError:
            return False  # gone, or it changed its user
        finally:
            os.close(fd)

    def main_of(self, pid: int, start_from: int, start_to: int) -> Process | None:
        """The process that was started with this pid between these ticks, unless the pid has a new owner."""
        process = self.read(pid)
        if process is None or not start_from <= process.start <= start_to or process.session != pid:
            return None
        return process


def ticks_now() -> int:
    """Clock ticks since boot, as /proc/PID/stat counts the start of a process."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // _TICK_NS
