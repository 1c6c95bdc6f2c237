"""Memory limits: a cgroup per limited attempt where one may be made, else its processes' resident memory is sampled.

A v1 memory hierarchy is used below the supervisor's own group. On v2 the nearest ancestor that hands the memory controller to
its children and lets us write there is used (under a systemd user manager that is `app.slice`). Over its limit a v2 group dies whole; of a v1 group the kernel
kills one process, and the supervisor, which hears of it, the others.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_PREFIX = "flowbatch-"
SAMPLE_S = 0.25
ENTER = 'echo 0 >"$0" && exec "$@" || exit 125'  # `0` is the writer itself; the limit holds from the first instruction


@dataclass(frozen=True, slots=True)
class CgroupMemory:
    base: str  # the folder in which an attempt's group is made
    version: int

    @property
    def title(self) -> str:
        return f"cgroup v{self.version} ({self.base})"

    def path(self, attempt: str) -> str:
        return os.path.join(self.base, _PREFIX + attempt)

    def create(self, attempt: str, limit_bytes: int) -> str:
        """Returns the file by which a process enters the group."""
        path = self.path(attempt)
        try:
            os.mkdir(path)
        except FileExistsError:
            pass  # of a supervisor that died between this and the claim's spawn
        if self.version == 1:
            _put(path, "memory.limit_in_bytes", limit_bytes)
            _put_if_there(path, "memory.memsw.limit_in_bytes", limit_bytes)
        else:
            _put(path, "memory.max", limit_bytes)
            _put_if_there(path, "memory.swap.max", 0)
            _put_if_there(path, "memory.oom.group", 1)
        return os.path.join(path, "cgroup.procs")

    def kills_whole(self, attempt: str) -> bool:
        """Whether the kernel ends all of a group that is over its limit, not only its largest process."""
        return self.version == 2 and os.path.exists(os.path.join(self.path(attempt), "memory.oom.group"))

    def oom_event(self, attempt: str) -> int | None:
        """A descriptor that is readable once the group was out of memory (v1); None where it cannot be had."""
        if self.version != 1:
            return None
        event = -1
        try:
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            control = os.open(os.path.join(self.path(attempt), "memory.oom_control"), os.O_RDONLY | os.O_CLOEXEC)
            try:
                with open(os.path.join(self.path(attempt), "cgroup.event_control"), "w") as file:
                    file.write(f"{event} {control}")
            finally:
                os.close(control)
        except OSError:
            if event >= 0:
                os.close(event)
            return None  # no descriptor is left, or a kernel that has done away with it
        return event

    def kills(self, attempt: str) -> int:
        """How often the kernel killed in this group for lack of memory."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        try:
            with open(os.path.join(self.path(attempt), name)) as file:
                for line in file:
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        except OSError:
            pass  # no such group: it never began
        return 0

    def pids(self, attempt: str) -> list[int]:
        try:
            with open(os.path.join(self.path(attempt), "cgroup.procs")) as file:
                return [int(line) for line in file]
        except OSError:
            return []  # no such group

    def remove(self, attempt: str) -> bool:
        """False while something of it still dies."""
        try:
            os.rmdir(self.path(attempt))
        except FileNotFoundError:
            pass  # removed before
        except OSError:
            return False
        return True


def _put(folder: str, name: str, value: int) -> None:
    with open(os.path.join(folder, name), "w") as file:
        file.write(str(value))


def _put_if_there(folder: str, name: str, value: int) -> None:
    try:
        _put(folder, name, value)
    except OSError:
        pass  # a kernel without swap accounting: the limit without swap holds all the same


def find_cgroup(proc: str = "/proc/self") -> CgroupMemory | None:
    """The place for our groups, tried by making one; None where there is none."""
    try:
        with open(f"{proc}/cgroup") as file:
            own = {line.split(":", 2)[1]: line.rstrip("\n").split(":", 2)[2] for line in file}
        with open(f"{proc}/mountinfo") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return None  # no cgroups at all
    for fields in mounts:
        dash = fields.index("-")
        kind, options = fields[dash + 1], fields[dash + 3].split(",")
        root, point = fields[3], fields[4]
        if kind == "cgroup" and "memory" in options:
            path = next((path for names, path in own.items() if "memory" in names.split(",")), None)
            base = _below(point, root, path)
            if base is not None and _usable(CgroupMemory(base, 1)):
                return CgroupMemory(base, 1)
        elif kind == "cgroup2":
            base = _below(point, root, own.get(""))
            while base is not None and len(base) >= len(point):
                if _hands_down(base) and _usable(CgroupMemory(base, 2)):
                    return CgroupMemory(base, 2)
                base = os.path.dirname(base)
    return None


def _below(point: str, root: str, path: str | None) -> str | None:
    """Where a group of /proc/self/cgroup is seen under its mount point."""
    if path is None:
        return None
    relative = os.path.relpath(path, root)
    return os.path.normpath(os.path.join(point, relative)) if not relative.startswith("..") else None


def _hands_down(base: str) -> bool:
    try:
        with open(os.path.join(base, "cgroup.subtree_control")) as file:
            return "memory" in file.read().split()
    except OSError:
        return False  # not a group that we may look into


def _usable(place: CgroupMemory) -> bool:
    probe = f"probe-{os.getpid()}-{time.monotonic_ns()}"
    try:
        place.create(probe, 64 << 20)
        return True
    except OSError:
        return False  # read-only, or not ours
    finally:
        place.remove(probe)
