"""An attempt that runs, as the supervisor holds it."""

from __future__ import annotations

import os
import signal

from flowbatch.backends.supervisor.journal import Entry
from flowbatch.backends.supervisor.logfile import LogFile, Stream
from flowbatch.backends.supervisor.spawn import Order, Spawned


class Task:
    __slots__ = (
        "ended",
        "entry",
        "err",
        "grace_ms",
        "grouped",
        "kill_at",
        "log",
        "memory_bytes",
        "oom",
        "oom_event",
        "out",
        "over",
        "pid",
        "pidfd",
        "sampled",
        "stopping",
        "timed_out",
    )

    def __init__(self, order: Order, entry: Entry, spawned: Spawned, ended: list[Task]) -> None:
        self.entry = entry
        self.pid = spawned.pid
        self.pidfd = spawned.pidfd
        self.log = LogFile(order.log, order.log_cap_bytes)
        self.out = Stream(spawned.out, b"o", self.log)
        self.err = Stream(spawned.err, b"e", self.log)
        self.grace_ms = order.grace_ms
        self.memory_bytes = order.memory_mib << 20
        self.grouped = False  # its limit is a cgroup's
        self.sampled = False  # its memory is looked at in intervals
        self.oom_event = -1
        self.stopping = False
        self.kill_at: float | None = None
        self.timed_out = False
        self.oom = False
        self.over = False
        self.ended = ended

    def on_exit(self) -> bool:
        """The pidfd is readable; the end itself is taken care of with all others of the turn. Looked at first: what follows kills."""
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return True
        self.ended.append(self)
        return False

    def signal_group(self, number: int) -> None:
        """Safe until the main process is reaped, for till then nobody else can get its number."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass  # only for a moment after the start, before its session exists: posix_spawn returns later than that
        except PermissionError:
            pass  # all of them became another user's (setuid programs); the scan of /proc cannot reach these either

    def reap(self) -> int:
        """Ends what is left of its group, as a container's end would, and only then lets go of the number."""
        self.signal_group(signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code
