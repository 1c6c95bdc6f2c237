"""A watched folder: which files are there, whole and safe to take, and what they hold (security.md §5).

Polled, for that works on network mounts too. A file is taken once two polls in a row have seen it alike (time, size, inode), so that a
half-written one is not; what is read is the very file that was looked at, by its descriptor, whatever its name leads to meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from msgspec import Struct, field

from flowbatch.errors import InputError

LIKELY: Final = re.compile(r"[^.].{0,199}\.ya?ml", re.IGNORECASE)  # hidden ones are editors' and half-written
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.ya?ml")
UNNAMEABLE: Final = "a workflow's name has letters, digits, `.`, `_` and `-` of ASCII alone, begins with a letter or digit, and ends in .yaml or .yml"
SETTINGS: Final = "flowbatch.yaml"
FILE_BYTES: Final = 1024 * 1024
FILES_MAX: Final = 10_000  # in one folder; a poll looks at all of them
ERRORS_SUFFIX: Final = ".errors.txt"


class Look(NamedTuple):
    """What a file's name led to: the same twice means that nobody writes there now."""

    mtime_ns: int
    ctime_ns: int  # of its owner, rights and names too: what was refused for them may be mended
    size: int
    inode: int


class Found(Struct, frozen=True):
    """A file that is new, or has another content than when it was last told of."""

    name: str
    content: bytes
    digest: str  # SHA-256 of the content, in hexadecimal


class Refused(Struct, frozen=True):
    """A file that is not taken as it is; told once, until it changes."""

    name: str
    why: str


class Gone(Struct, frozen=True):
    name: str


News = Found | Refused | Gone


class Seen(Struct):
    look: Look
    told: bool = False  # Found or Refused was said of this look
    digest: str | None = None  # of what was last found


class WatchedFolder(Struct):
    """Holds the folder open: a link put in its place later leads nowhere. `poll` blocks on the disk: call it on a thread.

    `owners`: the users whose files are taken. `insecure`: also from a folder that others may write to.
    """

    path: Path
    owners: frozenset[int]
    insecure: bool = False
    _descriptor: int = -1
    _seen: dict[str, Seen] = field(default_factory=dict)
    _swept: bool = False

    def open(self) -> None:
        """Raises InputError where the folder is not there, or where anybody could put files into it."""
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self.path}: the folder cannot be watched: {error.strerror}") from error
        wrong = None if self.insecure else self._objection(os.fstat(self._descriptor))
        if wrong is not None:
            self.close()
            raise InputError(f"{wrong}, or serve with --insecure-folder")

    def _objection(self, status: os.stat_result) -> str | None:
        """How somebody else could put files here, or another folder in its place. Where the settings name `owners`, others may write
        to a folder whose sticky bit keeps each to their own files: whose a file is decides then."""
        if status.st_uid not in self.keepers:
            return f"{self.path}: belongs to user {status.st_uid}, who may put anything here; `chown {os.geteuid()} {self.path}`"
        others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if others and not (self.owners - self.keepers and status.st_mode & stat.S_ISVTX):
            return (
                f"{self.path}: others may write here, and what they put in would run as you; `chmod go-w {self.path}` "
                "(or, with `owners` in the settings, `chmod +t`)"
            )
        for parent in Path(os.path.realpath(self.path)).parents:
            above = os.stat(parent)
            loose = above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX
            if loose or above.st_uid not in self.keepers:
                who = "others may write to it" if loose else f"it belongs to user {above.st_uid}"
                return f"{self.path}: another folder could be put in its place, for {parent} is above it and {who}; `chmod go-w {parent}`"
        return None

    @property
    def keepers(self) -> frozenset[int]:
        """Who may own the folder itself."""
        return frozenset({0, os.geteuid()})

    def expect(self, names: Iterable[str]) -> None:
        """Files that were there when somebody looked last: one that is not any more is told as Gone by the first poll."""
        self._seen.update((name, Seen(Look(-1, -1, -1, -1), told=True)) for name in names)

    def close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1

    def poll(self) -> list[News]:
        """What has changed since the poll before. Raises OSError where the folder can no longer be read, or is no longer there."""
        self._follow()
        there = self._names()
        if not self._swept:
            self._sweep(there)
        news: list[News] = [Gone(name) for name in sorted(set(self._seen) - there) if self._seen.pop(name).told]
        for name in sorted(there):
            told = self._look_at(name)
            if told is not None:
                news.append(told)
        return news

    def _sweep(self, there: set[str]) -> None:
        """Errors of files that were taken away while nobody looked."""
        with os.scandir(self._descriptor) as entries:
            files = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        for file in files:
            name = file.removesuffix(ERRORS_SUFFIX)
            if name != file and LIKELY.fullmatch(name) and name not in there:
                self.clear_errors(name)
        self._swept = True

    def _follow(self) -> None:
        """To the folder that has the path now: a deployment puts a new one in the place of the old. It must be as safe as the first."""
        try:
            now, held = os.stat(self.path), os.fstat(self._descriptor)
        except FileNotFoundError:
            raise OSError(
                errno.ENOENT, "the folder is no longer there; what was accepted stays in force", str(self.path)
            ) from None
        if (now.st_dev, now.st_ino) == (held.st_dev, held.st_ino):
            return
        before = self._descriptor
        try:
            self.open()
        except InputError as error:
            self._descriptor = before
            raise OSError(
                errno.EPERM, f"another folder has its place, and is not watched: {error}", str(self.path)
            ) from None
        os.close(before)

    def _names(self) -> set[str]:
        names: set[str] = set()
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                if LIKELY.fullmatch(entry.name) and entry.name != SETTINGS and entry.name.isprintable():
                    names.add(entry.name)
                    if len(names) > FILES_MAX:
                        raise OSError(errno.EMFILE, f"more than {FILES_MAX} workflows in one folder", str(self.path))
        return names

    def _look_at(self, name: str) -> News | None:
        try:
            look = looked(os.stat(name, dir_fd=self._descriptor, follow_symlinks=False))
        except FileNotFoundError:
            return None  # it went just now; the next poll says so
        known = self._seen.get(name)
        if known is None or known.look != look:
            self._seen[name] = Seen(look, digest=None if known is None else known.digest)
            return None
        if known.told:
            return None
        known.told = True
        if not NAME.fullmatch(name):
            return Refused(name, UNNAMEABLE)
        try:
            content = self._read(name, look)
        except Changing:
            known.told = False
            return None
        except OSError as error:
            known.digest = None  # once it is taken it is told of again, that it was mended
            return Refused(name, error.strerror or str(error))
        digest = hashlib.sha256(content).hexdigest()
        if digest == known.digest:
            return None  # touched, or written again as it was
        known.digest = digest
        return Found(name, content, digest)

    def _read(self, name: str, look: Look) -> bytes:
        """Raises OSError with what is wrong with the file, Changing where it is being written."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=self._descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "is a link; a workflow is a file of its own") from None
            raise
        try:
            status = os.fstat(descriptor)
            self._refuse(status)
            if looked(status) != look:
                raise Changing
            content = b""
            while part := os.read(descriptor, FILE_BYTES):
                content += part
                if len(content) > look.size:
                    raise Changing
            if len(content) != look.size or looked(os.fstat(descriptor)) != look:
                raise Changing
            # A second name of somebody's file may have been taken away between the opening and the first look at it: what is read is
            # the only file of this name, and has no other.
            try:
                named = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
            except FileNotFoundError:
                raise Changing from None
            if (named.st_dev, named.st_ino) != (status.st_dev, status.st_ino):
                raise Changing
            self._refuse(named)
        finally:
            os.close(descriptor)
        return content

    def _refuse(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no ordinary file")
        if status.st_nlink != 1:
            raise OSError(errno.EMLINK, "has more than one name (a hard link); a workflow is a file of its own")
        if status.st_uid not in self.owners:
            raise OSError(errno.EPERM, f"belongs to user {status.st_uid}, whose files are not taken here")
        if status.st_size > FILE_BYTES:
            raise OSError(errno.EFBIG, f"is larger than {FILE_BYTES // 1024 // 1024} MiB")

    # --- what is written beside the files

    def write_errors(self, name: str, text: str) -> None:
        """`<name>.errors.txt`."""
        write(self._descriptor, name + ERRORS_SUFFIX, text)

    def clear_errors(self, name: str) -> None:
        try:
            os.unlink(name + ERRORS_SUFFIX, dir_fd=self._descriptor)
        except FileNotFoundError:
            pass  # there were none

    def move(self, name: str, below: str, *, digest: str | None = None) -> str:
        """Into a subfolder, which is made where it is missing; returns its name there. What lies there already is never replaced.

        Raises Changing, and moves nothing, where the file has another content than that of `digest` (SHA-256).
        """
        with self._below(below) as target:
            for free in numbered(name):
                try:
                    os.link(name, free, src_dir_fd=self._descriptor, dst_dir_fd=target, follow_symlinks=False)
                except FileExistsError:
                    continue
                if digest is not None and digest_of(target, free) != digest:
                    os.unlink(free, dir_fd=target)
                    raise Changing
                os.unlink(name, dir_fd=self._descriptor)
                self._seen.pop(name, None)
                return free
        raise AssertionError("names are without end")

    def keep(self, below: str, name: str, text: str) -> str:
        """A file of its own in a subfolder, under a name that is free; returns it."""
        with self._below(below) as target:
            for free in numbered(name):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                try:
                    descriptor = os.open(free, flags, 0o644, dir_fd=target)
                except FileExistsError:
                    continue
                with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
                return free
        raise AssertionError("names are without end")

    def write_below(self, below: str, name: str, text: str) -> None:
        with self._below(below) as target:
            write(target, name, text)

    @contextmanager
    def _below(self, name: str) -> Iterator[int]:
        try:
            os.mkdir(name, 0o755, dir_fd=self._descriptor)
        except FileExistsError:
            pass  # from an earlier file; a link in its place is refused below
        target = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor)
        try:
            yield target
        finally:
            os.close(target)


class Changing(Exception):
    """The file is being written just now."""


def write(folder: int, name: str, text: str) -> None:
    """In one step: a reader sees the old text or the new one."""
    # Under a name that nobody can have guessed: a pipe or a second name of another file may lie under any other.
    temporary = f".{name[:100]}.{secrets.token_hex(8)}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise


def digest_of(folder: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return hashlib.sha256(file.read(FILE_BYTES + 1)).hexdigest()


def looked(status: os.stat_result) -> Look:
    return Look(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def numbered(name: str) -> Iterator[str]:
    """`a.yaml`, `a.2.yaml`, `a.3.yaml` …"""
    yield name
    stem, dot, suffix = name.rpartition(".")
    number = 2
    while True:
        yield f"{stem}.{number}{dot}{suffix}"
        number += 1
