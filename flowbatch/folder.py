"""The state folder: what lies where, who may read it, and who holds it (semantics.md 11, 12)."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from flowbatch.errors import BackendUnavailable, FolderHeld, InputError

DEFAULT: Final = ".flowbatch"
LOCK_TRIES: Final = 10
LOCK_PAUSE_SECONDS: Final = 0.02


class StateFolder:
    """One engine at a time holds it, by a lock that the kernel drops when the engine dies."""

    def __init__(self, path: Path) -> None:
        try:
            self.path = path.absolute()
        except FileNotFoundError:
            raise InputError(f"{path}: the working directory is gone; name the state folder with --state") from None
        self.database = self.path / "flowbatch.db"
        self.lock_file = self.path / "engine.lock"
        self.socket = self.path / "engine.sock"
        self.logs = self.path / "logs"
        self.runs = self.path / "runs"
        self.supervisor = self.path / "supervisor"
        self.docker = self.path / "docker"
        self.engine_log = self.path / "engine.log"
        self.http_socket = self.path / "http.sock"
        self.master_key = self.path / "master.key"
        self.admin_key = self.path / "admin.key"

    def exists(self) -> bool:
        """Whether a store is here. Raises InputError where one may not even look, and where the path is something else."""
        try:
            return self.database.stat().st_size >= 0
        except (FileNotFoundError, NotADirectoryError):
            if (other := self._other()) is not None:
                raise InputError(f"{self.path}: {other}; name a state folder with --state") from None
            return False
        except OSError as error:
            raise self._refused(error) from error

    def _other(self) -> str | None:
        """What stands where the folder should, if something else does."""
        if self.path.is_dir():
            return None
        if self.path.exists():
            return "is not a folder"
        return f"is a link to {os.readlink(self.path)}, which is not there" if self.path.is_symlink() else None

    def create(self) -> None:
        """Makes the folder, for its owner alone. Raises InputError where that cannot be, or where it is somebody's own."""
        if sys.platform != "linux":
            raise BackendUnavailable("flowbatch runs on Linux only: it follows processes by pidfd and /proc")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.path.mkdir(mode=0o700)
            except FileExistsError:
                known = self.lock_file.exists() or self.database.exists()
                if not known and any(self.path.iterdir()):
                    raise InputError(
                        f"{self.path}: this folder holds other things; a state folder is new, empty, or flowbatch's own"
                    ) from None
            self.lock_file.touch(mode=0o600)  # marks it as ours
        except OSError as error:
            what = "nothing can be written here" if self.path.is_dir() else "the state folder cannot be made here"
            raise InputError(f"{self.path}: {what}: {error.strerror}; choose another with --state") from error

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Raises FolderHeld, with the holder's pid."""
        self.create()
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._lock(descriptor)
            if not os.access(self.path, os.W_OK | os.X_OK, effective_ids=True):
                raise InputError(
                    f"{self.path}: nothing can be written here: make it writable, or choose another with --state"
                )
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            except OSError as error:
                raise InputError(f"{self.path}: nothing can be written here: {error.strerror}") from error
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        """A verb that only looks whether somebody holds the folder shares the lock for a moment: that is waited out."""
        for left in range(LOCK_TRIES, -1, -1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if left == 0:
                    raise FolderHeld(str(self.path), self._pid_in(descriptor)) from None
                time.sleep(LOCK_PAUSE_SECONDS)
            else:
                return

    def holder(self) -> int | None:
        """The pid of the engine that holds the folder now, 0 where it is held by nobody knows whom, None where free."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._refused(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._pid_in(descriptor) or 0
        else:
            return None
        finally:
            os.close(descriptor)

    def _refused(self, error: OSError) -> InputError:
        whose = "; whose is it?" if isinstance(error, PermissionError) else ""
        return InputError(f"{self.path}: the state folder cannot be opened: {error.strerror}{whose}")

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
