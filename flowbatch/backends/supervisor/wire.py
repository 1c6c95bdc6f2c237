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

PROTOCOL = 1
MARKER = "FLOWBATCH_ATTEMPT_ID"  # in the environment of each task: what finds it, and what it left, in /proc

OOM = 1
TIMED_OUT = 2
LOST = 4
TRUNCATED = 8

_SOCKET_PATH_MAX = 107  # sun_path, less its NUL


def socket_path(folder: str) -> str:
    """`<folder>/sock`, or a name made from the folder in the runtime directory where that is too long for a socket."""
    path = os.path.join(os.path.realpath(folder), "sock")
    if len(os.fsencode(path)) <= _SOCKET_PATH_MAX:
        return path
    # Not hash(): it differs from process to process. Imported here because few folders are that deep.
    import hashlib

    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:24]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not os.access(runtime, os.W_OK):
        runtime = "/tmp"
    return os.path.join(runtime, f"flowbatch-{os.getuid()}-{name}", "sock")
