"""What a supervisor that died left behind: nobody can say how these attempts end, so they are killed and lost."""

from __future__ import annotations

import os
import select
import signal
import time

from flowbatch.backends.supervisor.journal import Journal
from flowbatch.backends.supervisor.memory import CgroupMemory
from flowbatch.backends.supervisor.proctable import Process, ProcTable
from flowbatch.backends.supervisor.wire import LOST

_DEATH_S = 5.0  # after SIGKILL; only a process that hangs in the kernel needs longer
_ROUNDS = 50  # of looking again for what was forked meanwhile


def boot_id() -> str:
    """Tells one boot of the machine from another; "-" where the kernel does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "-"


def lose_unended(journal: Journal, table: ProcTable, cgroups: CgroupMemory | None) -> None:
    """Every claim without an end becomes LOST once nothing of it runs any more."""
    unended = [entry for entry in journal.entries.values() if not entry.ended]
    if journal.previous_boot in (journal.boot, None):
        detail = "its supervisor died"
        kill_orphans(journal, table)
    else:
        detail = "the machine was restarted"
    now = time.time_ns() // 1_000_000
    for entry in unended:
        entry.ended_at, entry.flags, entry.detail = now, LOST, detail
        journal.ended(entry)
        if cgroups is not None:
            cgroups.remove(entry.id)
    try:
        journal.sync()
    except OSError:
        pass  # the disk is full: it stays pending, and nothing is told before it is written


def kill_orphans(journal: Journal, table: ProcTable) -> None:
    """Also what escaped from attempts that had ended: the predecessor may have died before it swept.

    Where the journal no longer says of which boot it is, pids prove nothing, and markers alone count.
    """
    roots: dict[str, int | None] = dict.fromkeys(journal.past)
    for entry in journal.entries.values():
        running = entry.pid and not entry.ended and journal.previous_boot is not None
        main = table.main_of(entry.pid, entry.start_from, entry.start_to) if running else None
        roots[entry.id] = None if main is None else main.pid
    if roots:
        await_deaths(kill_members(roots, table), table)


def kill_members(roots: dict[str, int | None], table: ProcTable) -> list[Process]:
    """Kills all processes of these attempts, looking again until no new one turns up: a fork bomb outlives one look."""
    killed: dict[tuple[int, int], Process] = {}
    for _ in range(_ROUNDS):
        fresh = [
            process
            for members in table.members(roots).values()
            for process in members
            if (process.pid, process.start) not in killed
        ]
        if not fresh:
            break
        for process in fresh:
            table.signal(process, signal.SIGKILL)
            killed[process.pid, process.start] = process
    return list(killed.values())


def await_deaths(processes: list[Process], table: ProcTable) -> None:
    deadline = time.monotonic() + _DEATH_S
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except OSError:
            continue  # gone
        now = table.read(process.pid)
        if now is not None and now.start == process.start:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll(max(deadline - time.monotonic(), 0) * 1000)
        os.close(fd)
