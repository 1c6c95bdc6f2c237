"""A socket of this machine that leads to a Docker Engine's on another, by OpenSSH's own program: keys, agents, jump hosts and known hosts are
what ~/.ssh says.

The remote command only reads its input, which is ours: however we end, it ends, and the tunnel with it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from flowbatch.backends.docker.errors import EngineError, Kind

SOCKET: Final = "/var/run/docker.sock"
CONNECT_S: Final = 10
AGAIN_S: Final = 5.0  # after a try that failed
LOOK_S: Final = 0.05
OPTIONS: Final = (
    "BatchMode=yes",  # nobody is there to type a password
    "ControlMaster=no",
    "ControlPath=none",
    f"ConnectTimeout={CONNECT_S}",
    "ExitOnForwardFailure=yes",
    "ServerAliveCountMax=3",
    "ServerAliveInterval=15",
    "StreamLocalBindUnlink=yes",
)


class Tunnel:
    """To `ssh://[user@]host[:port][/path/of/the.sock]`. Nothing is begun before the first `up`."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._folder = Path(tempfile.mkdtemp(prefix="flowbatch-ssh-"))
        self.socket = self._folder / "docker.sock"
        self._said = self._folder / "said"
        self._process: subprocess.Popen[bytes] | None = None
        self._next_try = 0.0
        self._lock = anyio.Lock()

    async def up(self) -> None:
        """Returns at once where it stands. Raises EngineError where it does not come up, in ssh's own words."""
        if self._process is not None and self._process.poll() is None and self.socket.exists():
            return
        async with self._lock:
            if self._process is None or self._process.poll() is not None:
                if anyio.current_time() < self._next_try:
                    raise self._failed()
                self._next_try = anyio.current_time() + AGAIN_S
                await anyio.to_thread.run_sync(self._begin)
            with anyio.move_on_after(CONNECT_S):
                while self._process is not None and self._process.poll() is None:
                    if self.socket.exists():
                        self._next_try = 0.0  # one that stood and breaks is made again at once
                        return
                    await anyio.sleep(LOOK_S)
        raise self._failed()

    def command(self) -> list[str]:
        url = self._url
        words = ["ssh", "-T"]
        for option in OPTIONS:
            words += ["-o", option]
        words += ["-L", f"{self.socket}:{url.path if len(url.path) > 1 else SOCKET}"]
        if url.port is not None:
            words += ["-p", str(url.port)]
        host = url.hostname or ""
        return [*words, "--", host if url.username is None else f"{url.username}@{host}", "cat > /dev/null"]

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(self) -> None:
        self.socket.unlink(missing_ok=True)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        with self._said.open("wb") as said:
            self._process = self._spawn(said)

    def _spawn(self, said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        try:
            return subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
            )
        except OSError as error:
            said.write(f"ssh: {error.strerror}; install OpenSSH's client".encode())
            return None

    def _failed(self) -> EngineError:
        try:
            lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return EngineError(Kind.UNKNOWN, lines[-1] if lines else f"ssh to {self._url.hostname} takes too long")
