"""The folders of this machine that a container mounts, looked at right before it is made. Blocks: for a thread.

A source was resolved and judged at submission; where it leads elsewhere by now, somebody has swapped it since (D31). One that is missing
is made where it shall be written to, as AWS Batch has it (aws-batch.md §6.5), but by us and as us: the Engine's Binds would do
it as root (D30). One that is only to be read stays missing: there would be nothing in it.

Between that look and the Engine's mount there is a moment in which somebody who may write above a source can still put another folder in its
place. So what was judged is held open, and where we are root the mounts of what runs are held against it (security.md §6): a container with
another one is killed. One that has ended by then cannot be looked into any more.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from flowbatch.backends.docker.host import lives
from flowbatch.model.container import Container
from flowbatch.spec.policy import moved


def has_binds(container: Container) -> bool:
    return any(not mount.volume for mount in container.mounts)


class Pin(NamedTuple):
    """The very folder (or file) that was judged; as long as `fd` is open nothing else has its number."""

    source: str
    target: str
    fd: int
    device: int
    inode: int


class Refused(Exception):
    """Why it must not start, in one sentence."""


class Pins:
    """To be closed once the container runs."""

    def __init__(self, found: Sequence[Pin] = ()) -> None:
        self.found = found

    def __enter__(self) -> Pins:
        return self

    def __exit__(self, *_: object) -> None:
        for pin in self.found:
            os.close(pin.fd)


def pin(container: Container) -> Pins:
    """Prepares, and holds what it found where we are root; a privileged container may mount what it likes anyway. Raises Refused."""
    wrong = prepare(container)
    if wrong is not None:
        raise Refused(wrong)
    if os.geteuid() != 0 or container.privileged:
        return Pins()
    found = []
    with ExitStack() as undo:
        for mount in container.mounts:
            if mount.volume:
                continue
            try:
                fd = os.open(mount.source, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError as error:
                raise Refused(f"{mount.source}, to be mounted at {mount.target}: {error.strerror}") from None
            undo.callback(os.close, fd)
            real = os.readlink(f"/proc/self/fd/{fd}")
            if real != mount.source:
                raise Refused(f"{mount.source} leads to {real} by now; submit the job again if that is meant")
            stat = os.fstat(fd)
            found.append(Pin(mount.source, mount.target, fd, stat.st_dev, stat.st_ino))
        undo.pop_all()
    return Pins(found)


def swapped(pins: Pins, pid: int, container: str) -> str | None:
    """Which mount of the process is none of those that were pinned, in one sentence. None where all are, and where nobody here can see:
    it has ended, or is of another machine's numbers, as behind a virtual one's socket."""
    if not pins.found or not lives(container, pid):
        return None
    try:
        mounted = Counter(mounts_of(pid))
    except OSError:
        return None
    for each in pins.found:
        mounted[each.device, each.inode] -= 1
        if mounted[each.device, each.inode] < 0:
            return f"{each.source}, to be mounted at {each.target}, was swapped for something else while the container began; it was killed"
    return None


def mounts_of(pid: int) -> list[tuple[int, int]]:
    """Device and inode of everything that is mounted for a process, by where it is mounted: a target may be reached through links of
    the image. Raises OSError."""
    found = []
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [unescaped(line.split(" ")[4]) for line in file]
    for point in points:
        try:
            stat = os.lstat(f"/proc/{pid}/root{point}")
        except (FileNotFoundError, NotADirectoryError):
            continue  # below another mount
        found.append((stat.st_dev, stat.st_ino))
    if not os.path.exists(f"/proc/{pid}/root"):
        raise ProcessLookupError(pid)  # it ended meanwhile: what was not found says nothing
    return found


def unescaped(text: str) -> str:
    """The kernel writes blanks, tabs, newlines and backslashes as octal numbers."""
    for code, char in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        text = text.replace(f"\\{code}", char)
    return text


def prepare(container: Container) -> str | None:
    """Why it must not start, in one sentence."""
    try:
        wrong = moved(container, os.path.realpath)
    except OSError as error:
        return f"{error.filename} cannot be followed to where it leads: {error.strerror}"
    if wrong:
        return f"{wrong[0]}; submit the job again if that is meant"
    for mount in container.mounts:
        if mount.volume or os.path.lexists(mount.source):
            continue
        if mount.readonly:
            return f"{mount.source}, to be mounted at {mount.target} for reading, does not exist: create it"
        try:
            os.makedirs(mount.source, exist_ok=True)
        except OSError as error:
            return f"{mount.source}, to be mounted at {mount.target}, cannot be created: {error.strerror}"
    return None
