"""What `doctor` sees of this machine and of the state folder's files; of the store it asks elsewhere."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowbatch.model.resources import memory_text
from flowbatch.ports import Finding

if TYPE_CHECKING:
    from flowbatch.folder import StateFolder
    from flowbatch.settings import Settings
    from flowbatch.spec.policy import Policy

PYTHON_MIN: Final = (3, 11)
SQLITE_MIN: Final = (3, 38)  # STRICT tables and ->>
OPEN_FILES_MIN: Final = 1024
DISK_LOW_BYTES: Final = 1 << 30
DISK_EMPTY_BYTES: Final = 64 << 20
REMOTE: Final = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ncpfs",
    "afs",
    "ceph",
    "glusterfs",
    "lustre",
    "gpfs",
    "beegfs",
}
DOUBTFUL: Final = {"9p", "virtiofs", "vboxsf", "fuse", "fuseblk"}  # and fuse.*: locks may be the host's, or nobody's


def look_at_machine() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info >= PYTHON_MIN:
        yield Finding("ok", "python", f"{version} ({platform.python_implementation()})")
    else:
        yield Finding("error", "python", f"{version}: flowbatch needs {'.'.join(map(str, PYTHON_MIN))} or newer")
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):
        yield Finding("ok", "platform", f"Linux {platform.release()}, {platform.machine()}")
    else:
        yield Finding("error", "platform", f"{sys.platform}: flowbatch runs on Linux 5.3 or newer (pidfd and /proc)")
    if sqlite3.sqlite_version_info >= SQLITE_MIN:
        yield Finding("ok", "sqlite", sqlite3.sqlite_version)
    else:
        needed = ".".join(map(str, SQLITE_MIN))
        yield Finding(
            "error", "sqlite", f"{sqlite3.sqlite_version}: flowbatch needs {needed} or newer; use another Python"
        )
    yield look_at_open_files()


def look_at_open_files() -> Finding:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES_MIN:
        text = (
            f"{soft} open files are allowed (ulimit -n): a running task takes up to three; `ulimit -n {hard}` raises it"
        )
        return Finding("warning", "limits", text)
    return Finding("ok", "limits", f"{soft} open files (ulimit -n)")


def look_at_folder(folder: StateFolder) -> Iterator[Finding]:
    """Raises InputError where something else stands in its place."""
    path = folder.path
    if not path.is_dir() and not folder.exists():
        yield Finding("note", "folder", f"{path}: there is no state folder yet; `flowbatch run` makes it")
        return
    yield look_at_rights(path)
    yield look_at_file_system(path)
    yield look_at_disk(path)
    holder = folder.holder()
    if holder is None:
        yield Finding("ok", "engine", "no engine holds the folder")
    else:
        yield Finding("ok", "engine", f"process {holder} holds the folder" if holder else "an engine holds the folder")


def look_at_rights(path: Path) -> Finding:
    seen = path.stat()
    if seen.st_uid != os.getuid():
        text = f"{path}: belongs to user {seen.st_uid}, you are {os.getuid()}: choose another with --state"
        return Finding("error", "folder", text)
    if not os.access(path, os.W_OK, effective_ids=True):
        return Finding("error", "folder", f"{path}: nothing can be written here: no engine can run on it")
    if stat.S_IMODE(seen.st_mode) & 0o077:
        mode = stat.S_IMODE(seen.st_mode)
        text = f"{path}: others may enter it (mode {mode:04o}) and read logs and commands: `chmod 700 {path}`"
        return Finding("warning", "folder", text)
    return Finding("ok", "folder", f"{path}, mode 0700")


def look_at_file_system(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> Finding:
    kind = file_system_of(path.resolve(), mountinfo.read_text(encoding="utf-8", errors="surrogateescape"))
    if kind in REMOTE:
        text = (
            f"{path} lies on a network file system ({kind}): SQLite's log and locks do not hold there; use a local disk"
        )
        return Finding("error", "disk", text)
    if kind in DOUBTFUL or kind.startswith("fuse."):
        text = f"{path} lies on {kind}, where locks and fsync may not hold what they promise; a local disk is safe"
        return Finding("warning", "disk", text)
    return Finding("ok", "disk", f"a local file system ({kind})")


def file_system_of(path: Path, mountinfo: str) -> str:
    """The kind of the innermost mount that holds the path; of several on one point the last one counts."""
    best, found = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5 or not kinds[0]:
            continue
        point = Path(
            fields[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
        )
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), kinds[0]
    return found


def look_at_disk(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    text = f"{memory_text(free >> 20)} free"
    if free < DISK_EMPTY_BYTES:
        return Finding("error", "disk", f"{text}: the store cannot grow and nothing new would start; free some")
    if free < DISK_LOW_BYTES:
        return Finding("warning", "disk", f"{text}: logs and the store may fill it; `flowbatch gc` deletes old runs")
    return Finding("ok", "disk", text)


def look_at_settings(settings: Settings) -> Iterator[Finding]:
    """What runs where, and every default that has been weakened."""
    from flowbatch.settings import LOG_CAP_BYTES, machine

    here = machine()
    yield Finding("ok", "settings", settings.file or "none: built-in defaults")
    for place in settings.environments:
        text = f"environment {place.name} ({place.backend}): {place.capacity}"
        if place.capacity.vcpus_milli > here.vcpus_milli or place.capacity.memory_mib > here.memory_mib:
            yield Finding("warning", "settings", f"{text}: more than this machine has to give ({here})")
        else:
            yield Finding("ok", "settings", text + ("" if place.enabled else ", disabled"))
    if settings.log_cap_bytes > LOG_CAP_BYTES:
        text = (
            f"a log may take {settings.log_cap_bytes >> 20} MiB (default {LOG_CAP_BYTES >> 20}): many tasks fill a disk"
        )
        yield Finding("warning", "settings", text)
    yield from look_at_policy(settings.policy)
    if settings.file is not None and os.stat(settings.file).st_mode & 0o022:
        yield Finding("warning", "settings", f"{settings.file}: others may write it: `chmod go-w {settings.file}`")
    if not settings.child_events:
        yield Finding("note", "settings", "children of arrays are not in the event log (events: {children: ends})")
    if os.getuid() == 0:
        yield Finding("warning", "settings", "you are root, and so is every task: a user of its own is safer")


def look_at_policy(policy: Policy) -> Iterator[Finding]:
    """What containers may do to this machine beyond the default."""
    for root in policy.mounts:
        text = f"containers may {'read' if root.readonly else 'read and write'} {root.source} (policy: mounts)"
        yield Finding("warning", "settings", text)
    if policy.privileged:
        yield Finding("warning", "settings", "containers may be privileged: they are root here (policy: privileged)")
    for network in policy.networks:
        yield Finding("warning", "settings", f"containers may use the {network} network (policy: network)")
    for device in policy.devices:
        yield Finding("warning", "settings", f"containers may use {device} (policy: devices)")
    for driver in policy.logs:
        yield Finding("warning", "settings", f"containers may send their logs away by {driver} (policy: logs)")
