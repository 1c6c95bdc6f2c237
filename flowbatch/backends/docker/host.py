"""The machine that the Engine runs on, where it is this one: when it booted, since when its daemon runs, whether a container's process lives."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final

from flowbatch.backends.docker.ends import Boot
from flowbatch.backends.docker.names import NO_BOOT
from flowbatch.model.ids import Millis

ELSEWHERE: Final = Boot(NO_BOOT, Millis(0))
PID_FILE: Final = Path("/run/docker.pid")  # where the socket was made by another process than the daemon


def boot_of(socket_path: str | None) -> Boot:
    if socket_path is None:
        return ELSEWHERE
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return Boot(text, Millis(boot_seconds() * 1000))
    except (OSError, ValueError):
        return ELSEWHERE


def boot_seconds() -> int:
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    raise ValueError("/proc/stat says no btime")


def daemon_started_at(socket_path: str | None) -> Millis | None:
    """None where nobody here can know."""
    if socket_path is None:
        return None
    try:
        pid = listener(socket_path)
        if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() != "dockerd":
            pid = int(PID_FILE.read_text(encoding="ascii"))
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return Millis(boot_seconds() * 1000 + int(fields[19]) * 1000 // os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return None


def lives(container: str, pid: int) -> bool:
    """Whether a container's first process, by its number there, is among this machine's: the container runs as long as that does. False
    also where nobody here can know: the Engine runs on another machine, be it a virtual one, or we run in a container ourselves."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
            return container in file.read()
    except OSError:
        return False


def listener(socket_path: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(1.0)
        sock.connect(socket_path)
        pid: int = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        return pid
