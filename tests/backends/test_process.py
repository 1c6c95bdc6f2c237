from __future__ import annotations

import asyncio
import gc
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from flowbatch.backends import process_link
from flowbatch.backends.process import ProcessBackend
from flowbatch.backends.process_link import Link
from flowbatch.backends.supervisor import wire
from flowbatch.backends.supervisor.memory import find_cgroup
from flowbatch.backends.supervisor.proctable import ProcTable
from flowbatch.clock import SystemClock
from flowbatch.errors import BackendUnavailable
from flowbatch.model.ending import Halt
from flowbatch.model.ids import AttemptKey
from flowbatch.model.resources import Resources
from flowbatch.model.stimuli import Exited, LaunchFailed
from flowbatch.ports import LaunchOrder
from tests.backends.conformance import (
    CASES,
    JOB,
    LONG_MS,
    Facts,
    World,
    a_timeout_kills_after_the_grace,
    running,
)

SUPERVISOR = Path(wire.__file__).parent
BASE_ENV = {"PATH": os.environ["PATH"], "FROM_BASE": "base", "REPLACED": "base"}


class ProcessWorld:
    """Real processes below a folder of their own; its supervisor is ended, by its pid, with the test."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.backend = ProcessBackend(folder / "supervisor", BASE_ENV)
        self.facts = Facts(SystemClock())
        self.stack = stack

    def script(self, text: str, idx: int = 0, **changes: Any) -> LaunchOrder:
        order = LaunchOrder(
            key=AttemptKey(JOB, idx, 1),
            command=("/bin/sh", "-c", text),
            env={},
            workdir=str(self.folder),
            resources=Resources(),
            log=str(self.folder / "logs" / f"{idx}.log"),
            log_cap_bytes=1 << 20,
            timeout_ms=None,
            stop_grace_ms=LONG_MS,
        )
        return replace(order, **changes)

    def order(
        self,
        idx: int = 0,
        *,
        attempt: int = 1,
        exit_code: int = 0,
        output: str = "",
        endless: bool = False,
        ignores_term: bool = False,
        no_such_command: bool = False,
        timeout_ms: int | None = None,
        stop_grace_ms: int = LONG_MS,
    ) -> LaunchOrder:
        lines = []
        if ignores_term:
            lines.append("trap '' TERM")
        if output:
            lines.append(f"printf '%s\\n' {shlex.quote(output)}")
        if endless:
            os.mkfifo(self.folder / f"settled-{idx}")
            lines += [f"echo >settled-{idx}", "exec sleep 600"]
        lines.append(f"exit {exit_code}")
        return self.script(
            "\n".join(lines),
            idx,
            key=AttemptKey(JOB, idx, attempt),
            command=("no-such-command",) if no_such_command else ("/bin/sh", "-c", "\n".join(lines)),
            timeout_ms=timeout_ms,
            stop_grace_ms=stop_grace_ms,
        )

    async def settled(self, key: AttemptKey) -> None:
        await self.hears(f"settled-{key.idx}")

    async def hears(self, fifo: str) -> str:
        """What a task writes into a FIFO: both sides wait for each other."""
        return await anyio.to_thread.run_sync((self.folder / fifo).read_text, abandon_on_cancel=True)

    def log(self, order: LaunchOrder) -> list[tuple[str, str]]:
        """(stream, text) of each line."""
        lines = Path(order.log).read_text(errors="surrogateescape").split("\n")[:-1]
        return [(line.split(" ", 2)[1], line.split(" ", 2)[2]) for line in lines]

    async def next_life(self) -> None:
        await self.stack.aclose()
        self.backend = ProcessBackend(self.folder / "supervisor", BASE_ENV)
        self.facts = Facts(SystemClock())
        await self.stack.enter_async_context(running(self.backend, self.facts))


@asynccontextmanager
async def process_world(folder: Path) -> AsyncIterator[ProcessWorld]:
    async with AsyncExitStack() as stack:
        world = ProcessWorld(folder, stack)
        await stack.enter_async_context(running(world.backend, world.facts))
        try:
            yield world
        finally:
            pid = world.backend.supervisor_pid
            await stack.aclose()
            if pid is not None:
                end(pid)


def end(pid: int) -> None:
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)


def start_supervisor(folder: Path, *arguments: str, before: str = "") -> None:
    """As the backend does, but in circumstances of the test's own."""
    command = shlex.join([sys.executable, "-I", "-S", str(SUPERVISOR), str(folder / "supervisor"), *arguments])
    subprocess.run(["/bin/sh", "-c", f"{before}\nexec {command}"], check=True, env={}, start_new_session=True)


def carriers(key: AttemptKey) -> list[int]:
    """The living processes that bear an attempt's marker."""
    table = ProcTable()
    return [pid for pid in table.scan() if table.marker(pid) == key.id]


SLOW = {a_timeout_kills_after_the_grace}  # it waits for both


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.__name__, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES],
)
async def test_conformance(case: Callable[[World], Awaitable[None]], tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        await case(world)


# --- starts


async def test_gives_base_environment_and_that_of_the_order(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.script("env", env={"REPLACED": "ordered", "WEIRD": "a\udcffb\nc"})
        world.backend.launch([order])
        await world.facts.exited(order.key)
        text = {text for _, text in world.log(order)}
    assert {"FROM_BASE=base", "REPLACED=ordered", "WEIRD=a\udcffb", "c", f"{wire.MARKER}={order.key.id}"} <= text
    assert not any(line.startswith("REPLACED=base") for line in text)


@pytest.mark.parametrize(
    ("change", "code", "text"),
    [
        ({"command": ("no-such-command",)}, 127, "'no-such-command': command not found on PATH"),
        ({"command": ("/no/such/command",)}, 127, "'/no/such/command': no such file"),
        ({"command": ("./plain",)}, 126, "'./plain': permission denied"),
        ({"command": ("/",)}, 126, "'/': permission denied"),
        ({"command": ("./no-interpreter",)}, 126, "'./no-interpreter': exec format error"),
        ({"command": ()}, None, "the command is empty"),
        ({"workdir": "/no/such/folder"}, None, "working directory '/no/such/folder': No such file or directory"),
        ({"command": ("/bin/echo", "x" * 200_000)}, 126, "too long"),
        ({"command": ("/bin/echo", "a\0b")}, None, "null"),
    ],
)
async def test_says_why_it_cannot_start(tmp_path: Path, change: dict[str, Any], code: int | None, text: str) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "no-interpreter").write_text("echo\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    async with process_world(tmp_path) as world:
        order = world.script("", **change)
        world.backend.launch([order])
        failed = await world.facts.ended(order.key)
    assert isinstance(failed, LaunchFailed)
    assert failed.evidence.exit_code == code
    assert text in (failed.evidence.start_error or "")


async def test_death_by_a_signal_reads_like_a_shells(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.script("kill -SEGV $$")
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence.exit_code == 128 + 11


# --- logs


async def test_keeps_the_bytes_of_both_streams(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.script("printf 'a\\000\\377b\\r\\n\\n' >&2; printf 'no newline'")
        world.backend.launch([order])
        await world.facts.exited(order.key)
        lines = [line.split(b" ", 2)[1:] for line in (await anyio.Path(order.log).read_bytes()).split(b"\n")[:-1]]
    assert sorted(lines) == [[b"e", b""], [b"e", b"a\0\xffb\r"], [b"o", b"no newline"]]


async def test_splits_a_line_without_end(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.script("head -c 200000 /dev/zero | tr '\\000' x")
        world.backend.launch([order])
        await world.facts.exited(order.key)
        texts = [text for _, text in world.log(order)]
    assert "".join(texts) == "x" * 200_000
    assert max(map(len, texts)) <= 32 << 10


@pytest.mark.slow
async def test_a_flood_neither_fills_the_disk_nor_starves_others(tmp_path: Path) -> None:
    cap = 1 << 20
    async with process_world(tmp_path) as world:
        flood = world.script("yes | head -c 100000000; echo last", 0, log_cap_bytes=cap)
        wide = world.script("head -c 50000000 /dev/zero", 1, log_cap_bytes=cap)
        other = world.script("true", 2)
        world.backend.launch([flood, wide, other])
        await world.facts.exited(other.key)
        for order in (flood, wide):
            assert (await world.facts.exited(order.key)).evidence.truncated
            segments = [Path(order.log), Path(order.log + ".1")]
            assert cap // 4 < sum(segment.stat().st_size for segment in segments) <= cap + (64 << 10)
        assert world.facts.all.index(await world.facts.exited(other.key)) < 5
        assert world.log(flood)[-1] == ("o", "last")
        pid = world.backend.supervisor_pid
        status = await anyio.Path(f"/proc/{pid}/status").read_text()
    resident_kib = int(status.split("VmRSS:")[1].split()[0])
    assert resident_kib < 40 << 10


# --- what tasks leave behind


async def test_the_rest_of_the_group_ends_with_its_main_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "child")
    async with process_world(tmp_path) as world:
        order = world.script("sleep 600 & exit 0")
        world.backend.launch([order])
        assert (await world.facts.exited(order.key)).evidence.exit_code == 0
        assert carriers(order.key) == []


@pytest.mark.slow
async def test_a_stop_reaches_those_who_fled_into_another_session(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fled")
    async with process_world(tmp_path) as world:
        order = world.script("setsid sh -c \"trap '' TERM; echo >fled; sleep 600\" & sleep 600")
        world.backend.launch([order])
        await world.hears("fled")
        world.backend.stop(order.key, LONG_MS, Halt.TERMINATE)
        await world.facts.exited(order.key)
        assert carriers(order.key) == []


@pytest.mark.slow
async def test_a_stop_reaches_a_child_without_the_marker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fled")
    async with process_world(tmp_path) as world:
        order = world.script("env -i setsid sh -c 'echo $$ >fled; exec sleep 600' & sleep 600")
        world.backend.launch([order])
        pid = int(await world.hears("fled"))
        fd = os.pidfd_open(pid)
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        await world.facts.exited(order.key)
        await anyio.wait_readable(fd)  # it is gone
        os.close(fd)


@pytest.mark.slow
async def test_a_fork_bomb_is_stopped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "burning")
    bomb = "i=0; while [ $i -lt 200 ]; do setsid sh -c 'sleep 600' & i=$((i+1)); done; echo >burning; wait"
    async with process_world(tmp_path) as world:
        order = world.script(bomb)
        world.backend.launch([order])
        await world.hears("burning")
        world.backend.stop(order.key, 0, Halt.TERMINATE)
        await world.facts.exited(order.key)
        assert carriers(order.key) == []


# --- deaths


@pytest.mark.slow
async def test_a_killed_supervisor_loses_and_ends_what_ran(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fled")
    async with process_world(tmp_path) as world:
        done = world.order(1, exit_code=6)
        lost = world.script("setsid sh -c 'echo >fled; sleep 600' & sleep 600", 0)
        world.backend.launch([done, lost])
        await world.facts.exited(done.key)
        await world.hears("fled")
        pid = world.backend.supervisor_pid
        assert pid is not None
        end(pid)
        evidence = (await world.facts.exited(lost.key)).evidence
        assert evidence.lost
        assert evidence.exit_code is None
        assert carriers(lost.key) == []
        assert world.backend.supervisor_pid != pid
        census = {each.key: each.evidence for each in await world.backend.census()}
        kept = census[done.key]
        assert kept is not None
        assert kept.exit_code == 6


@pytest.mark.slow
async def test_what_a_damaged_journal_does_not_know_is_ended_once_the_engine_gives_it_up(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        unclaimed, lost = world.order(0, endless=True), world.order(1, endless=True)
        world.backend.launch([unclaimed, lost])
        await world.settled(unclaimed.key)
        await world.settled(lost.key)
        handle = int((await world.facts.started(unclaimed.key)).handle)
        supervisor = world.backend.supervisor_pid
        assert supervisor is not None
        await world.stack.aclose()
        gone, task = os.pidfd_open(supervisor), os.pidfd_open(handle)
        end(supervisor)
        await anyio.wait_readable(gone)
        journal = anyio.Path(tmp_path / "supervisor" / "journal")
        content = await journal.read_bytes()
        await journal.write_bytes(content.replace(f"{unclaimed.key.id} ".encode(), b"????? "))
        await world.next_life()
        census = {each.key: each.evidence for each in await world.backend.census()}
        assert set(census) == {lost.key}
        evidence = census[lost.key]
        assert evidence is not None
        assert evidence.lost
        assert carriers(lost.key) == []
        world.backend.forget([unclaimed.key])  # as the engine does once it has called it lost
        await anyio.wait_readable(task)
        os.close(gone)
        os.close(task)


@pytest.mark.slow
async def test_launches_during_a_reconnect_are_made_once(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        first = world.script("echo >>starts", 0)
        world.backend.launch([first])
        await world.facts.exited(first.key)
        pid = world.backend.supervisor_pid
        assert pid is not None
        end(pid)
        orders = [world.script("echo >>starts", idx) for idx in range(1, 6)]
        world.backend.launch(orders)  # into a connection that is dying
        for order in orders:
            await world.facts.exited(order.key)
        ran = [fact.key for fact in world.facts.all if isinstance(fact, Exited) and not fact.evidence.lost]
        starts = await anyio.Path(tmp_path / "starts").read_text()
        assert starts.count("\n") == len(set(ran))


@pytest.mark.slow
async def test_tasks_end_while_no_engine_is_there(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    async with process_world(tmp_path) as world:
        order = world.script("read line <go; exit 5")
        late = world.script("sleep 600", 1, timeout_ms=1)
        world.backend.launch([order, late])
        started = await world.facts.started(order.key)
        await world.stack.aclose()
        fd = os.pidfd_open(int(started.handle))
        await anyio.to_thread.run_sync((tmp_path / "go").write_text, "\n")
        await anyio.wait_readable(fd)
        os.close(fd)
        await world.next_life()
        census = {each.key: each for each in await world.backend.census()}
        for key in (order.key, late.key):
            if census[key].evidence is None:  # seen to end only after the census
                await world.facts.exited(key)
        census = {each.key: each for each in await world.backend.census()}
    evidence, timed_out = census[order.key].evidence, census[late.key].evidence
    assert evidence is not None
    assert evidence.exit_code == 5
    assert timed_out is not None
    assert timed_out.timed_out


# --- limits


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cgroup", "sampled"])
async def test_memory_over_the_limit_ends_in_oom(tmp_path: Path, how: str) -> None:
    if how == "cgroup" and find_cgroup() is None:
        pytest.skip("no cgroup may be made on this machine")
    if how == "sampled":
        start_supervisor(tmp_path, "3", "sampled")
    eater = [sys.executable, "-c", "x = bytearray(200 << 20); import time; time.sleep(600)"]
    async with process_world(tmp_path) as world:
        limit = Resources(memory_mib=64)
        greedy = world.script("", 0, command=tuple(eater), resources=limit)
        modest = world.script("echo fine", 1, resources=limit)
        absent = world.script("", 2, command=("no-such-command",), resources=limit)
        world.backend.launch([greedy, modest, absent])
        evidence = (await world.facts.exited(greedy.key)).evidence
        assert evidence.oom
        assert evidence.exit_code == 128 + 9
        assert (await world.facts.exited(modest.key)).evidence.exit_code == 0
        assert isinstance(await world.facts.ended(absent.key), LaunchFailed)
        assert world.log(modest) == [("o", "fine")]


CHILD_EATS = f"""
setsid {shlex.quote(sys.executable)} -c 'x = bytearray(300 << 20); import time; time.sleep(600)' &
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cgroup", "sampled"])
@pytest.mark.parametrize("rest", ["sleep 600; echo survived", "wait; exit 0"], ids=["waits", "shrugs"])
async def test_a_child_over_the_limit_ends_its_whole_attempt(tmp_path: Path, how: str, rest: str) -> None:
    """However it fled, and whatever its parent makes of its death."""
    if how == "cgroup" and find_cgroup() is None:
        pytest.skip("no cgroup may be made on this machine")
    if how == "sampled":
        start_supervisor(tmp_path, "3", "sampled")
    async with process_world(tmp_path) as world:
        order = world.script(CHILD_EATS + rest, resources=Resources(memory_mib=64))
        world.backend.launch([order])
        evidence = (await world.facts.exited(order.key)).evidence
        assert evidence.oom
        assert evidence.exit_code == 128 + 9
        assert carriers(order.key) == []
        assert ("o", "survived") not in world.log(order)


@pytest.mark.slow
async def test_few_descriptors_only_slow_the_starts(tmp_path: Path) -> None:
    start_supervisor(tmp_path, before="ulimit -n 64")
    async with process_world(tmp_path) as world:
        orders = [world.script("echo hello; sleep 0.05", idx) for idx in range(60)]
        world.backend.launch(orders)
        for order in orders:
            assert (await world.facts.exited(order.key)).evidence.exit_code == 0
            assert world.log(order) == [("o", "hello")]


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
async def test_root_may_become_another_user(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.script("id -u; id -g", user="12345:54321", workdir="/")
        nobody = world.script("true", 1, user="no-such-user", workdir="/")
        world.backend.launch([order, nobody])
        assert (await world.facts.exited(nobody.key)).evidence.exit_code == 125
        await world.facts.exited(order.key)
        assert [text for _, text in world.log(order)] == ["12345", "54321"]


# --- the supervisor itself


async def test_the_socket_lies_in_the_folder_however_deep(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100) / ("f" * 100)
    deep.mkdir(parents=True)
    async with process_world(deep) as world:
        order = world.order()
        world.backend.launch([order])
        await world.facts.exited(order.key)
        assert (deep / "supervisor" / wire.SOCKET).is_socket()


async def test_its_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    async with process_world(tmp_path) as world:
        order = world.order(output="secret")
        world.backend.launch([order])
        await world.facts.exited(order.key)
        for path in (*(tmp_path / "supervisor").iterdir(), Path(order.log)):
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.slow
async def test_it_ends_when_idle_and_unattended(tmp_path: Path) -> None:
    start_supervisor(tmp_path, "0.05")
    async with process_world(tmp_path) as world:
        pid = world.backend.supervisor_pid
        assert pid is not None
        fd = os.pidfd_open(pid)
        await world.stack.aclose()
        await anyio.wait_readable(fd)
        os.close(fd)
        assert not (tmp_path / "supervisor" / "sock").exists()


async def test_a_folder_that_cannot_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "supervisor").write_text("a file")
    backend = ProcessBackend(tmp_path / "supervisor", BASE_ENV)
    with pytest.raises(BackendUnavailable, match="the supervisor cannot be started"):
        await backend.run(lambda facts: None)


async def test_its_last_words_do_not_grow_for_ever(tmp_path: Path) -> None:
    errors = tmp_path / "supervisor" / "errors.log"
    errors.parent.mkdir()
    errors.write_bytes(b"x" * ((1 << 20) + 1))
    errors.chmod(0o644)
    async with process_world(tmp_path):
        seen = errors.stat()
    assert (seen.st_size, seen.st_mode & 0o777) == (0, 0o600)


async def test_a_start_that_is_given_up_leaves_no_unheard_exception(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    unheard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    link = Link()
    link.connection_lost(None)
    del link
    gc.collect()
    assert unheard == []


async def test_a_supervisor_that_does_not_greet_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, or hangs on its disk: it accepts, for the kernel does that, and says nothing."""
    async with process_world(tmp_path) as world:
        pid = world.backend.supervisor_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            with monkeypatch.context() as impatient:
                impatient.setattr(process_link, "_GREETING_S", 0.05)
                with pytest.raises(BackendUnavailable, match=rf"takes no connection: process {pid} .* \(state T"):
                    await process_link.connect(tmp_path / "supervisor", BASE_ENV)
        finally:
            os.kill(pid, signal.SIGCONT)
        link = await process_link.connect(tmp_path / "supervisor", BASE_ENV)  # it goes on as if nothing had been
        assert link.hello["pid"] == pid
        link.close()


async def test_check_says_how_memory_is_limited(tmp_path: Path) -> None:
    findings = await ProcessBackend(tmp_path, BASE_ENV).check()
    assert {finding.subject for finding in findings} == {"process: memory", "process: boot"}
