"""One start: what an order asks for, turned into a posix_spawn, and its failures into words."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from dataclasses import dataclass

from flowbatch.backends.supervisor import memory
from flowbatch.backends.supervisor.proctable import ticks_now
from flowbatch.backends.supervisor.wire import MARKER

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher.py")
# What a supervisor may have been started with ignored would stay ignored in tasks. Python itself ignores the first two.
_RESET = (
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_SHORTAGES = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


@dataclass(slots=True)
class Order:
    """An "L" of the wire, after the base environment of its connection."""

    base_env: dict[str, str]
    id: str
    argv: list[str]
    env: dict[str, str]
    workdir: str
    log: str
    log_cap_bytes: int
    timeout_ms: int | None
    grace_ms: int
    memory_mib: int
    user: str | None


@dataclass(slots=True)
class Spawned:
    pid: int
    out: int  # the reading ends of its streams
    err: int
    pidfd: int
    start_from: int
    start_to: int
    at_ms: int


class StartError(Exception):
    """It never ran. The code is what a shell or Docker would show, where there is one."""

    def __init__(self, text: str, exit_code: int | None) -> None:
        self.exit_code = exit_code
        super().__init__(f"CannotStartContainerError: {text}")


class Shortage(Exception):
    """The machine has no descriptor, process or memory left for it now; the start is tried again."""


def spawn(order: Order, null: int, procs_file: str | None) -> Spawned:
    """Raises StartError or Shortage. `procs_file`: the group to enter."""
    path, argv, env = _prepare(order, procs_file)
    fds: list[int] = []
    try:
        out, out_end = os.pipe2(os.O_CLOEXEC)
        fds += (out, out_end)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        fds += (err, err_end)
        os.set_blocking(out, False)  # whatever the kernel says of them: one task must not hold up all
        os.set_blocking(err, False)
        start_from = ticks_now()
        pid = os.posix_spawn(
            path,
            argv,
            env,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, out_end, 1),
                (os.POSIX_SPAWN_DUP2, err_end, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=_RESET,
        )
    except OSError as error:
        for fd in fds:
            os.close(fd)
        raise _explained(error, order.argv[0]) from None
    except ValueError as error:  # a NUL in an argument or a variable
        for fd in fds:
            os.close(fd)
        raise StartError(str(error), None) from None
    os.close(out_end)
    os.close(err_end)
    return Spawned(pid, out, err, _follow(pid), start_from, ticks_now(), time.time_ns() // 1_000_000)


def _follow(pid: int) -> int:
    """Our child, so the pid is its until we reap it. One descriptor is kept back for this (see FdBudget)."""
    return os.pidfd_open(pid)


def _prepare(order: Order, procs_file: str | None) -> tuple[str, list[str], dict[str, str]]:
    argv = order.argv
    if not argv:
        raise StartError("the command is empty", None)
    try:
        os.chdir(order.workdir or "/")
    except OSError as error:
        raise StartError(f"working directory {order.workdir!r}: {error.strerror}", None) from None
    env = {**order.base_env, **order.env, MARKER: order.id}
    path = argv[0] if "/" in argv[0] else _find(argv[0], env)
    if order.user is not None:
        _require_executable(path, argv[0])
        if os.getuid() != 0:
            raise StartError(f"user {order.user!r}: only root may start a process as another user", None)
        argv = [sys.executable, "-I", "-S", _LAUNCHER, order.user, path, *argv]
        path = sys.executable
    if procs_file is not None:
        _require_executable(path, argv[0])
        argv = ["/bin/sh", "-c", memory.ENTER, procs_file, path, *argv[1:]]
        path = "/bin/sh"
    return path, argv, env


def _find(name: str, env: dict[str, str]) -> str:
    """As a shell would with the task's own PATH."""
    denied = False
    for folder in (env.get("PATH") or _DEFAULT_PATH).split(":"):
        path = os.path.join(folder or ".", name)
        if os.access(path, os.X_OK):
            if os.path.isfile(path):
                return path
        elif os.path.isfile(path):
            denied = True
    if denied:
        raise StartError(f"{name!r}: permission denied (found on PATH, but not executable)", 126)
    raise StartError(f"{name!r}: command not found on PATH", 127)


def _require_executable(path: str, name: str) -> None:
    """Said before the start, where the wrapper's own failure could not be told from the command's."""
    if not os.path.exists(path):
        raise StartError(f"{name!r}: no such file", 127)
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise StartError(f"{name!r}: permission denied (is it a file, and executable?)", 126)


def _explained(error: OSError, name: str) -> Exception:
    if error.errno in _SHORTAGES:
        return Shortage(error.strerror)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return StartError(f"{name!r}: no such file, or the interpreter that it names is missing", 127)
    if error.errno == errno.EACCES:
        return StartError(f"{name!r}: permission denied (is it a file, and executable?)", 126)
    if error.errno == errno.ENOEXEC:
        return StartError(f"{name!r}: exec format error (a script needs a first line like #!/bin/sh)", 126)
    if error.errno == errno.E2BIG:
        return StartError(f"{name!r}: the arguments and the environment are too long", 126)
    return StartError(f"{name!r}: {error.strerror}", 126)
