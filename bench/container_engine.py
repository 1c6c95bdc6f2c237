"""The Docker Engine that containers are measured on: one of the bench's own, with everything in memory, so that the disk has no say.

Root alone can start one; others measure on the Engine that runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.docker.daemon import Daemon, memory
from tests.docker.engine import Raw, ensure_engine

CGROUPS = Path("/sys/fs/cgroup")
GONE_S = 30.0
BRIDGE = ("--bridge=", "--ip-forward=false", "--ip-masq=false")  # containers get a network as they usually have


@contextmanager
def an_engine() -> Iterator[Raw]:
    """What is opened meanwhile finds it by DOCKER_HOST. Its containers are gone afterwards."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None or memory() is None:
        yield ensure_engine()
        return
    with TemporaryDirectory(prefix="fbd-", dir=memory()) as folder:
        daemon = Daemon(Path(folder), *BRIDGE)
        before = os.environ.get("DOCKER_HOST")
        try:
            daemon.begin()
            os.environ["DOCKER_HOST"] = f"unix://{daemon.raw.path}"
            yield daemon.raw
        finally:
            if before is None:
                os.environ.pop("DOCKER_HOST", None)
            else:
                os.environ["DOCKER_HOST"] = before
            end(daemon)


def end(daemon: Daemon) -> None:
    """A thousand containers at once. The Engine would take minutes to remove them, one by one; here nobody needs it any more."""
    left = [daemon.raw.inspect(item["Id"])["State"]["Pid"] for item in daemon.raw.ok("GET", "/containers/json")]
    groups = {group for pid in left for group in cgroups_of(pid)}
    daemon.stop(signal.SIGKILL)
    os.kill(int((daemon.folder / "exec/containerd/containerd.pid").read_text()), signal.SIGKILL)
    for pid in left:
        os.kill(pid, signal.SIGKILL)  # its shim, which still lives, sees it off
    deadline = time.monotonic() + GONE_S
    while any(Path(f"/proc/{pid}").exists() for pid in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    daemon.clean()
    for group in groups:
        group.rmdir()


def cgroups_of(pid: int) -> list[Path]:
    """Where each hierarchy keeps it, cgroup v1 or v2."""
    roots = [CGROUPS, *(each for each in CGROUPS.iterdir() if each.is_dir())]
    names = {line.split(":", 2)[2].lstrip("/") for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()}
    return [root / name for root in roots for name in names if name and (root / name).is_dir()]
