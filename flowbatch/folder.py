"""The state folder: what lies where, who may read it, and who holds it (semantics.md 11, 12)."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flowbatch.errors import BackendUnavailable, FolderHeld, InputError

DEFAULT: Final = ".flowbatch"


class StateFolder:
    """One engine at a time holds it, by a lock that the kernel drops when the engine dies."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.database = self.path / "flowbatch.db"
        self.lock_file = self.path / "engine.lock"
        self.socket = self.path / "engine.sock"
        self.logs = self.path / "logs"
        self.runs = self.path / "runs"
        self.supervisor = self.path / "supervisor"
        self.docker = self.path / "docker"
        self.engine_log = self.path / "engine.log"

    def exists(self) -> bool:
        return self.database.exists()

    def create(self) -> None:
        """Makes the folder, for its owner alone. Raises InputError where that cannot be."""
        if sys.platform != "linux":
            raise BackendUnavailable("flowbatch runs on Linux only: it follows processes by pidfd and /proc")
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid == os.getuid():
                self.path.chmod(0o700)
        except OSError as error:
            raise InputError(
                f"{self.path}: the state folder cannot be made here: {error.strerror}; choose another with --state"
            ) from error

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Raises FolderHeld, with the holder's pid."""
        self.create()
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderHeld(str(self.path), self._pid_in(descriptor)) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """The pid of the engine that holds the folder now, 0 where it is held by nobody knows whom, None where free."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._pid_in(descriptor) or 0
        else:
            return None
        finally:
            os.close(descriptor)

    @staticmethod
    def _pid_in(descriptor: int) -> int | None:
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None


@contextmanager
def short_socket_path(path: Path) -> Iterator[str]:
    """A name for a socket of any depth: AF_UNIX takes 107 bytes, so that a long one goes by a descriptor of its folder."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
