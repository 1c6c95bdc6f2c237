"""A dockerd of a test's own, to be stopped, killed and brought back.

In a network namespace of its own: a second daemon would take the bridge of the first away. Root only.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import anyio.to_thread

from tests.docker.engine import IMAGE, Raw, busybox, busybox_tree

READY_S = 90.0
MEMORY = Path("/dev/shm")
MEMORY_FREE_MIN = 4 << 30  # or its Engine has a disk that flowbatch takes for full
TRIES = 3  # after a kill it may find its containerd gone, and needs another start (D17)


class Daemon:
    def __init__(self, folder: Path, *flags: str, disk_mib: int | None = None) -> None:
        self.folder = folder
        self.disk_mib = disk_mib
        self.raw = Raw(str(folder / "d.sock"))
        self.data = folder / "data"
        self.flags = flags
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """For the first time, with an image. `disk_mib`: its data on a disk of its own, of that size."""
        if self.disk_mib is not None:
            self.data.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.disk_mib}m", "tmpfs", self.data], check=True)
        self.start()
        self.raw.import_image(IMAGE, busybox_tree())

    def start(self) -> None:
        for _ in range(TRIES):
            self._spawn()
            if self._comes_up():
                return
            self.stop()
        raise RuntimeError(f"dockerd does not come up: {(self.folder / 'dockerd.log').read_text()[-2000:]}")

    def _spawn(self) -> None:
        (self.folder / "docker.pid").unlink(missing_ok=True)
        command = [
            "unshare", "--net", "dockerd", f"--host=unix://{self.raw.path}", f"--data-root={self.data}",
            f"--exec-root={self.folder}/exec", f"--pidfile={self.folder}/docker.pid", "--bridge=none", "--iptables=false",
            *self.flags,
        ]  # fmt: skip
        with (self.folder / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _comes_up(self) -> bool:
        assert self.process is not None
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.raw.ready():
                return True
            time.sleep(0.1)
        return False

    def inside(self) -> list[str]:
        """What to put before a command so that it sees the daemon's network, with a loopback."""
        assert self.process is not None
        enter = ["nsenter", f"--target={self.process.pid}", "--net"]
        subprocess.run([*enter, busybox(), "ip", "link", "set", "lo", "up"], check=True)
        return enter

    def said(self, text: str) -> bool:
        return text in (self.folder / "dockerd.log").read_text(errors="replace")

    @contextmanager
    def full_but_for(self, mib: int) -> Iterator[None]:
        """Its disk has so much left inside, and again what it had afterwards."""
        stat = os.statvfs(self.data)
        free = stat.f_bavail * stat.f_frsize
        filler = self.data / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - (mib << 20))
        try:
            yield
        finally:
            filler.unlink()

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def cut_power(self) -> None:
        """As when the machine loses its power and comes back: nothing lives, nothing of /run is left, the disk is as it was."""
        assert self.process is not None
        running = self.raw.ok("GET", "/containers/json")
        tasks = [self.raw.inspect(item["Id"])["State"]["Pid"] for item in running]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self.process = None
        for pid in tasks:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._kill_all()
        self._unmount(self.folder)
        shutil.rmtree(self.folder / "exec")

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def clean(self) -> None:
        """What a killed daemon leaves: its containerd, the shims below it, mounts."""
        self.stop()
        self._kill_all()
        self._unmount(self.folder)

    def _kill_all(self) -> None:
        """Its containerd, and the shims."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and str(self.folder) in read(entry / "cmdline"):
                with suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)

    def _unmount(self, below: Path) -> None:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(str(below))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def memory() -> Path | None:
    """A folder that is no disk, where there is one with room."""
    try:
        stat = os.statvfs(MEMORY)
    except OSError:
        return None
    return MEMORY if stat.f_bavail * stat.f_frsize >= MEMORY_FREE_MIN else None


@asynccontextmanager
async def a_daemon(*flags: str, disk_mib: int | None = None) -> AsyncIterator[Daemon]:
    """Its containerd listens deep below its folder: a path of pytest's may be too long for that. In memory, where there is room: no disk
    has to be waited for."""
    with TemporaryDirectory(prefix="fbd-", dir=memory()) as short:
        daemon = Daemon(Path(short), *flags, disk_mib=disk_mib)
        try:
            await anyio.to_thread.run_sync(daemon.begin)
            yield daemon
        finally:
            with anyio.CancelScope(shield=True):  # whatever happened: nothing of it may stay
                await anyio.to_thread.run_sync(daemon.clean)
