"""A real Docker Engine for the tests, and an image for it.

The Engine that runs is used; else, as root on Debian, docker.io is installed and its daemon started; else one sentence says
what to do. Nothing here goes through flowbatch: what it is tested against is asked over plain HTTP.
"""

from __future__ import annotations

import fcntl
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

SOCKET = "/var/run/docker.sock"
IMAGE = "flowbatch-test/busybox:1"
READY_S = 60.0
PID_FILES = (Path("/var/run/docker.pid"), Path("/var/run/docker/containerd/containerd.pid"))
LOCK = Path("/tmp/flowbatch-test-engine.lock")  # parallel test processes
LOG = Path("/tmp/flowbatch-test-dockerd.log")
HOW = (
    "these tests need a Docker Engine: start its daemon, or run them as root on Debian, where they install docker.io by "
    "themselves, or leave them out with `make test DOCKER=no`"
)


class NoEngine(Exception):
    pass


class Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Raw:
    """The Engine's API, plain: what the tests themselves make, look at and remove."""

    def __init__(self, path: str = SOCKET) -> None:
        self.path = path

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> tuple[int, Any]:
        connection = Connection(self.path)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
            query = f"?{urlencode(params)}" if params else ""
            connection.request(method, path + query, data, {"Content-Type": kind})
            response = connection.getresponse()
            text = response.read()
            try:
                return response.status, json.loads(text)
            except ValueError:
                return response.status, text
        finally:
            connection.close()

    def ok(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        status, answer = self.call(method, path, body, **params)
        assert status < 300, (method, path, status, answer)
        return answer

    def ready(self) -> bool:
        try:
            return self.call("GET", "/_ping")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def labelled(self, label: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ok("GET", "/containers/json", all=1, filters=json.dumps({"label": [label]}))
        return found

    def inspect(self, container: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.ok("GET", f"/containers/{container}/json")
        return answer

    def create(self, command: list[str], *, name: str | None = None, **host: Any) -> str:
        params = {} if name is None else {"name": name}
        body = {"Image": IMAGE, "Cmd": command, "HostConfig": host}
        return str(self.ok("POST", "/containers/create", body, **params)["Id"])

    def remove(self, container: str) -> None:
        self.call("DELETE", f"/containers/{container}", force=1, v=1)

    def sweep(self, instance: str) -> None:
        """All that an instance has made: a network that stays takes addresses from all tests to come (D32)."""
        label = json.dumps({"label": [f"flowbatch.instance={instance}"]})
        for item in self.ok("GET", "/containers/json", all=1, filters=label):
            self.remove(item["Id"])
        for network in self.ok("GET", "/networks", filters=label):
            self.call("DELETE", f"/networks/{network['Id']}")
        for volume in self.ok("GET", "/volumes", filters=label)["Volumes"] or ():
            self.call("DELETE", f"/volumes/{volume['Name']}")

    def sweep_state(self, state: Path) -> None:
        """All that a state folder has made here."""
        file = state / "docker" / "instance"
        if file.exists():
            self.sweep(json.loads(file.read_text(encoding="utf-8"))["instance"])

    def has_image(self, name: str) -> bool:
        return self.call("GET", f"/images/{quote(name)}/json")[0] == 200

    def import_image(self, name: str, tree: bytes) -> None:
        repo, _, tag = name.rpartition(":")
        self.ok("POST", "/images/create", tree, fromSrc="-", repo=repo, tag=tag)


def ensure_engine() -> Raw:
    """Raises NoEngine with a sentence. Leaves running what it started: the next tests want it too."""
    with locked():
        raw = Raw()
        if not raw.ready():
            start_engine(raw)
        if not raw.has_image(IMAGE):
            raw.import_image(IMAGE, busybox_tree())
        return raw


@contextmanager
def locked() -> Iterator[None]:
    with LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start_engine(raw: Raw) -> None:
    if os.geteuid() != 0:
        raise NoEngine(HOW)
    if shutil.which("dockerd") is None:
        install("docker.io")
    for stale in PID_FILES:
        drop_stale(stale)
    # By a shell that goes at once: the daemon outlives these tests, and no object here must answer for it.
    subprocess.run(["/bin/sh", "-c", f"setsid dockerd </dev/null >>{LOG} 2>&1 &"], check=True)
    deadline = time.monotonic() + READY_S
    while not raw.ready():
        if time.monotonic() > deadline:
            tail = LOG.read_text(errors="replace").splitlines()[-3:]
            raise NoEngine(f"dockerd does not come up: {' / '.join(tail)}; {HOW}")
        time.sleep(0.1)


def drop_stale(pid_file: Path) -> None:
    """Of a daemon that was killed: its number may be another process's by now, and the next daemon would not start for it."""
    try:
        name = Path(f"/proc/{int(pid_file.read_text())}/comm").read_text().strip()
    except (OSError, ValueError):
        name = ""
    if name not in ("dockerd", "containerd"):
        pid_file.unlink(missing_ok=True)


def install(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NoEngine(HOW)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=env, check=False, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
        env=env, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise NoEngine(f"{package} cannot be installed: {done.stderr.strip().splitlines()[-1:]}; {HOW}")


def ensure_program(name: str, package: str | None = None) -> None:
    """Of the package, which has the same name unless one is given. Raises NoEngine with a sentence."""
    with locked():
        if shutil.which(name) is None:
            install(package or name)


def busybox() -> Path:
    """A static one: it has no libraries to bring along."""
    path = Path("/bin/busybox")
    if not path.exists() or b"ld-linux" in path.read_bytes()[:4096]:
        install("busybox-static")
    return path


def busybox_tree() -> bytes:
    """A root file system as `busybox --install` makes it, with root and nobody for users."""
    program = busybox()
    applets = subprocess.run([program, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for folder in ("bin", "sbin", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "tmp", "root", "run"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        tar.add(program, "bin/busybox")
        for applet in applets:
            if applet != "bin/busybox":
                entry = tarfile.TarInfo(applet)
                entry.type, entry.linkname = tarfile.SYMTYPE, "/bin/busybox"
                tar.addfile(entry)
        add_text(tar, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        add_text(tar, "etc/group", "root:x:0:\nnogroup:x:65534:\n")
        add_text(tar, "bin/no-format", "\x7fELF is not what follows\n", mode=0o755)
        add_text(tar, "etc/not-executable", "#!/bin/sh\n")
    return out.getvalue()


def add_text(tar: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    data = text.encode("latin-1")
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def main() -> None:
    """Before the tests, with no test's time limit: installing an Engine may take minutes."""
    try:
        ensure_engine()
        ensure_program("docker-registry")
        ensure_program("sshd", "openssh-server")
    except NoEngine as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
