"""The words between a backend and its supervisor: lines of JSON, a batch of orders or of facts each.

The first line of either side is an object, the hello, and its keys below are understood by every version:

    client      {"flowbatch": PROTOCOL, "env": {…}}             the base environment of all it launches
    supervisor  {"flowbatch": PROTOCOL, "pid", "boot", "memory", "alive"}

With versions that differ, both sides stop there. All later lines are arrays of arrays.

    orders  ["L", id, argv, env, workdir, log, log_cap_bytes, timeout_ms, grace_ms, memory_mib, user]
            ["S", id, grace_ms]      ["F", id, …]      ["C", token]
    facts   ["s", id, pid, at]                                          started
            ["f", id, at, error, exit_code]                             never ran; both null when stopped before its start
            ["x", id, pid, started_at, at, exit_code, flags, detail]    ended
            ["c", token, now, [fact, …]]                                the census: "s" is alive, ["w", id] waits for its start
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

PROTOCOL = 1
MARKER = "FLOWBATCH_ATTEMPT_ID"  # in the environment of each task: what finds it, and what it left, in /proc

OOM = 1
TIMED_OUT = 2
LOST = 4
TRUNCATED = 8

SOCKET = "sock"


@contextmanager
def socket_path(folder: str) -> Iterator[str]:
    """A name for the socket in the folder, however deep that lies: AF_UNIX takes 107 bytes, so it goes by a descriptor.

    Never elsewhere: a name that others can guess, where others may write, would be theirs to take.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET}"
    finally:
        os.close(descriptor)
