"""From a command line to a supervisor in the background: one per folder, under a lock that lasts as long as it lives."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import os
import signal
import socket
import sys
import traceback

from flowbatch.backends.supervisor import recovery, wire
from flowbatch.backends.supervisor.journal import Journal
from flowbatch.backends.supervisor.loop import Supervisor
from flowbatch.backends.supervisor.memory import find_cgroup
from flowbatch.backends.supervisor.proctable import ProcTable

_IDLE_S = 3.0
_BACKLOG = 16
_ERRORS_BYTES = 1 << 20  # of its last words, cut at a start
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    folder = os.path.realpath(arguments[0])
    idle_s = float(arguments[1]) if len(arguments) > 1 else _IDLE_S
    sampled = arguments[2:] == ["sampled"]
    # Whatever may fail on a full or broken disk is done before the fork, while somebody reads our standard error.
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # its holder listens, or is about to
        errors = _open_errors(folder)
        journal = Journal(os.path.join(folder, "journal"), recovery.boot_id())
        journal.open()
        listener = _listen(folder)
    except OSError as error:
        sys.stderr.write(_said(error) + "\n")
        return 1
    if os.fork():
        os._exit(0)  # the lock and the listening socket live on in the child
    _detach(errors)
    listener.listen(_BACKLOG)  # again: the kernel tells clients the pid of whoever called this last
    try:
        _supervise(journal, listener, idle_s, sampled)
    except Exception:
        traceback.print_exc()
        return 1
    # Unlinked before the lock is let go: a successor's socket is never taken away.
    os.unlink(os.path.join(folder, wire.SOCKET))
    return 0


def _said(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full (its journal needs some MiB)"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def _open_errors(folder: str) -> int:
    """Our standard error to be: what went wrong in earlier lives stays in it, up to a measure."""
    path = os.path.join(folder, "errors.log")
    errors = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.fchmod(errors, 0o600)
    if os.fstat(errors).st_size > _ERRORS_BYTES:
        os.ftruncate(errors, 0)
    return errors


def _listen(folder: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with wire.socket_path(folder) as path:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # the last one tidied up
        mask = os.umask(0o177)
        listener.bind(path)
        os.umask(mask)
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _detach(errors: int) -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(errors, 2)
    os.close(null)
    os.close(errors)
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.stderr.write("flowbatch: not a subreaper: what escapes from a task is found by its environment alone\n")


def _supervise(journal: Journal, listener: socket.socket, idle_s: float, sampled: bool) -> None:
    table, cgroups = ProcTable(), None if sampled else find_cgroup()
    recovery.lose_unended(journal, table, cgroups)
    supervisor = Supervisor(listener, journal, table, cgroups, idle_s)
    # Nothing that lives so long holds a cycle: full collections would only cost.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1000)
    supervisor.run()
    try:
        journal.close()
    except OSError:
        pass  # the disk is full: the file as it is says the same at greater length
