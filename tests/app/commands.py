"""The command line in a folder of its own: real processes, real files, and an end that leaves nothing behind."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from flowbatch.backends.supervisor import wire
from flowbatch.folder import StateFolder
from flowbatch.store.reader import Reader

PATIENCE_S: Final = 60.0  # for what usually takes one second, on a machine on its knees


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Commands:
    """`flowbatch …` with one state folder. `env` is on top of ours, less what would change how flowbatch behaves; `prefix` comes
    before every command."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.prefix = prefix
        self.state = folder / "state"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWBATCH_", "AWS_"))}
        self.env |= {"LC_ALL": "C.UTF-8", "PYTHONFAULTHANDLER": "1", **(env or {})}
        self.started: list[subprocess.Popen[str]] = []
        self._pipes: list[Pipe] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def pipe(self, name: str) -> Pipe:
        made = Pipe(self.folder / name)
        self._pipes.append(made)
        return made

    def start(self, *words: str | Path, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "flowbatch", "--state", str(self.state), *map(str, words)],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def call(self, *words: str | Path) -> Done:
        return self.end(self.start(*words))

    def end(self, process: subprocess.Popen[str]) -> Done:
        """Waits for it to end by itself."""
        out, err = process.communicate(timeout=PATIENCE_S)
        return Done(process.returncode, out, err)

    def ok(self, *words: str | Path) -> Done:
        done = self.call(*words)
        assert done.code == 0, f"{words}: {done}"
        return done

    def reader(self) -> Reader:
        return Reader(self.state / "flowbatch.db")

    # --- what is left

    def supervisor(self) -> int | None:
        """The pid of the folder's supervisor, None where there is none now."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.settimeout(PATIENCE_S)
            try:
                with wire.socket_path(str(self.state / "supervisor")) as path:
                    stream.connect(path)
                stream.sendall(b'{"flowbatch": %d, "env": {}}\n' % wire.PROTOCOL)
                with stream.makefile("rb") as lines:
                    line = lines.readline()
            except OSError:
                return None
        return int(json.loads(line)["pid"]) if line else None

    def tasks(self) -> dict[int, str]:
        """Processes of this folder's attempts that live now, and of which attempt."""
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                variables = environment_of(int(entry))
                if variables.get("FLOWBATCH_RUN_DIR", "").startswith(f"{self.state}/"):
                    found[int(entry)] = variables.get("FLOWBATCH_ATTEMPT_ID", "")
        return found

    def tidy(self) -> None:
        """Ends whatever of this folder still runs."""
        for pipe in self._pipes:
            pipe.close()
        for process in self.started:
            if process.returncode is None:
                process.kill()
                out, err = process.communicate()
                print(process.args, process.returncode, out, err, sep="\n")  # shown where the test fails
        holder = StateFolder(self.state).holder()
        if holder:
            kill(holder)  # one that was detached
        pid = self.supervisor()
        if pid is not None:
            kill(pid)
        for pid in self.tasks():
            kill(pid)


class Pipe:
    """A named pipe that tasks write to or read from: what they wait for, or tell, without anybody polling."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDWR)  # never blocks, and keeps what was written
        self._read = b""

    def line(self) -> str:
        """The next line that somebody writes."""
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._fd], [], [], PATIENCE_S)
            assert ready, f"nobody wrote to {self.path.name}"
            self._read += os.read(self._fd, 4096)
        line, self._read = self._read.split(b"\n", 1)
        return line.decode()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def let(self, count: int) -> None:
        """So many readers of a line go on, those that come later too."""
        os.write(self._fd, b"go\n" * count)

    def close(self) -> None:
        os.close(self._fd)


def line_with(stream: IO[str] | None, text: str) -> str:
    """Reads on until a line has the text."""
    assert stream is not None
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"no line has {text!r}")


def wait_for_end(pid: int) -> None:
    """Of a process that need not be our child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], PATIENCE_S)
        assert ready, f"process {pid} does not end"
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Not as a zombie: nobody may have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@contextmanager
def commands(folder: Path, env: dict[str, str] | None = None, prefix: Sequence[str] = ()) -> Iterator[Commands]:
    made = Commands(folder, env, prefix)
    try:
        yield made
    finally:
        made.tidy()


def environment_of(pid: int) -> dict[str, str]:
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}  # gone, or another user's
    pairs = (entry.partition(b"=") for entry in data.split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it was quicker
