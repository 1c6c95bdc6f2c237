"""The supervisor's parts, each for itself: no process is started here."""

from __future__ import annotations

import errno
import itertools
import json
import os
import select
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowbatch.backends.supervisor import daemon, recovery, wire
from flowbatch.backends.supervisor.journal import Entry, Journal
from flowbatch.backends.supervisor.logfile import LINE_BYTES, LogFile, Stream
from flowbatch.backends.supervisor.loop import Supervisor
from flowbatch.backends.supervisor.proctable import ProcTable, parse_stat
from flowbatch.backends.supervisor.spawn import Order, spawn
from flowbatch.backends.supervisor.task import Task

BOOT = "b007"


def journal(folder: Path, boot: str = BOOT) -> Journal:
    opened = Journal(str(folder / "journal"), boot)
    opened.open()
    return opened


def stat_line(pid: int, *, ppid: int = 1, group: int = 0, start: int = 5, comm: str = "sh", state: str = "S") -> str:
    rest = [state, ppid, group or pid, group or pid, *[0] * 15, start, 0, 7, *[0] * 20]
    return f"{pid} ({comm}) {' '.join(map(str, rest))}\n"


def add_process(root: Path, line: str, marker: str | None = None) -> int:
    pid = int(line.split(" ")[0])
    (root / str(pid)).mkdir()
    (root / str(pid) / "stat").write_text(line)
    (root / str(pid) / "environ").write_text("A=b\0" + (f"{wire.MARKER}={marker}\0" if marker else ""))
    return pid


class RecordingTable(ProcTable):
    """Finds in a folder, and only notes what it would signal."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root))
        self.signalled: list[int] = []

    def signal(self, process: object, number: int) -> bool:
        assert number == signal.SIGKILL
        self.signalled.append(process.pid)  # type: ignore[attr-defined]
        return True


# --- the journal


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    first = journal(tmp_path)
    alive, ended, failed, gone = (first.claim(f"j.{idx}.1", 100 + idx) for idx in range(4))
    alive.pid, alive.start_from, alive.start_to, alive.started_at = 42, 7, 8, 200
    first.started(alive)
    ended.ended_at, ended.exit_code, ended.flags, ended.detail = 300, 3, wire.TRUNCATED, "two\nlines\0"
    failed.ended_at, failed.exit_code, failed.error = 301, 127, "CannotStartContainerError: no x"
    gone.ended_at, gone.exit_code = 302, 0
    for entry in (ended, failed, gone):
        first.ended(entry)
    first.forget(gone.id)
    first.forget("unknown")
    first.forget(alive.id)  # it has not ended: it stays
    first.sync()

    again = journal(tmp_path)
    assert again.previous_boot == BOOT
    assert list(again.entries) == ["j.0.1", "j.1.1", "j.2.1"]
    assert again.entries["j.0.1"] == alive
    assert (again.entries["j.1.1"].exit_code, again.entries["j.1.1"].detail) == (3, "two lines?")
    assert again.entries["j.2.1"] == failed
    assert again.claim("j.4.1", 0).n > failed.n


def test_a_torn_end_of_the_journal_is_passed_over(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.claim("j.0.1", 1)
    first.write()
    first.claim("j.1.1", 1)
    first.write()
    path = tmp_path / "journal"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"C 2 j.1.1", b"C 2 \0\0\0\0\0"))
    assert list(journal(tmp_path).entries) == ["j.0.1"]


@pytest.mark.parametrize("broken", [b"C 2 j.1.1 \0\0\0", b"C 2 j.1.", b"nonsense", b"\xff\xfe", b"", b"E 1 x 0 0 "])
def test_a_broken_line_of_the_journal_takes_no_other_with_it(tmp_path: Path, broken: bytes) -> None:
    first = journal(tmp_path)
    for idx in range(3):
        entry = first.claim(f"j.{idx}.1", 1)
        entry.pid, entry.start_from, entry.start_to, entry.started_at = 10 + idx, 5, 5, 7
        first.started(entry)
    first.write()
    path = tmp_path / "journal"
    content = path.read_bytes()
    assert content.count(b"C 2 j.1.1 1\n") == 1
    path.write_bytes(content.replace(b"C 2 j.1.1 1\n", broken + b"\n"))
    again = journal(tmp_path)
    assert {name: entry.pid for name, entry in again.entries.items()} == {"j.0.1": 10, "j.2.1": 12}
    assert not any(entry.ended for entry in again.entries.values())
    assert again.claim("j.3.1", 1).n == 4


@pytest.mark.slow
def test_a_journal_grows_and_is_compacted(tmp_path: Path) -> None:
    first = journal(tmp_path)
    stays = first.claim("j.0.1", 1)
    for idx in range(70_000):
        entry = first.claim(f"0c0ffee0-0000-4000-8000-000000000000.{idx}.1", 1)
        entry.ended_at, entry.exit_code = 2, 0
        first.ended(entry)
        first.forget(entry.id)
        if idx % 500 == 0:
            first.sync()
    first.sync()
    assert (tmp_path / "journal").stat().st_size <= 5 << 20
    assert list(journal(tmp_path).entries) == [stays.id]


def test_what_a_full_disk_refused_is_written_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(tmp_path)
    entry = first.claim("j.0.1", 1)
    entry.ended_at, entry.exit_code = 2, 0
    first.ended(entry)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full_disk)
        with pytest.raises(OSError, match="No space"):
            first.sync()
    first.sync()
    assert journal(tmp_path).entries["j.0.1"].ended


# --- the start


def full_disk(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_at_the_start_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "pwrite", full_disk)
    assert daemon.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == "the disk is full (its journal needs some MiB)\n"
    assert not (tmp_path / wire.SOCKET).exists()


def test_what_a_full_disk_keeps_from_being_lost_is_lost_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = journal(tmp_path)
    first.claim("j.0.1", 1)
    first.write()
    (tmp_path / "proc").mkdir()
    held = journal(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full_disk)
        recovery.lose_unended(held, RecordingTable(tmp_path / "proc"), None)
    held.sync()
    assert journal(tmp_path).entries["j.0.1"].flags == wire.LOST


# --- logs


def test_a_log_keeps_the_newest_within_its_cap(tmp_path: Path) -> None:
    path = tmp_path / "ab" / "x.log"
    log = LogFile(str(path), 2_000)
    for idx in range(500):
        log.write(b"1 o line %04d\n" % idx)
    log.close()
    older, newer = Path(str(path) + ".1").read_bytes(), path.read_bytes()
    lines = (older + newer).splitlines()
    assert log.truncated
    assert len(older) + len(newer) <= 2_000
    assert lines == [b"1 o line %04d" % idx for idx in range(500 - len(lines), 500)]


def test_one_rotation_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path), 2_000)
    log.write(b"".join(b"1 o line %04d\n" % idx for idx in range(100)))
    log.close()
    assert not log.truncated
    assert (Path(str(path) + ".1").read_bytes() + path.read_bytes()).count(b"\n") == 100


def test_newlines_alone_stay_within_the_cap(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path), 100_000)
    stream = Stream(-1, b"o", log)
    for _ in range(4):
        stream.feed(b"\n" * (16 << 10), 1_700_000_000_000)
    log.close()
    assert path.stat().st_size + Path(str(path) + ".1").stat().st_size <= 100_000 + (64 << 10)


def test_lines_are_joined_over_reads_and_cut_when_endless(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    log = LogFile(str(path), 1 << 20)
    stream = Stream(-1, b"e", log)
    for chunk in (b"on", b"e\ntwo\nthr", b"ee", b"\n", b"x" * LINE_BYTES, b"rest"):
        stream.feed(chunk, 5)
    stream.flush()
    log.close()
    texts = [line.split(b" ", 2) for line in path.read_bytes().splitlines()]
    assert [text[2] for text in texts] == [b"one", b"two", b"three", b"x" * LINE_BYTES, b"rest"]
    assert {text[1] for text in texts} == {b"e"}


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    log = LogFile(str(tmp_path / "file" / "x.log"), 1 << 20)
    log.write(b"1 o x\n")
    log.close()
    assert log.truncated


# --- processes


def test_a_command_may_have_any_name() -> None:
    process = parse_stat(stat_line(7, ppid=3, group=6, start=99, comm="a) S (b c"))
    assert (process.pid, process.ppid, process.pgrp, process.session, process.start) == (7, 3, 6, 6, 99)
    assert process.rss_pages == 7


def test_members_are_found_by_group_marker_and_descent(tmp_path: Path) -> None:
    add_process(tmp_path, stat_line(1))
    add_process(tmp_path, stat_line(100, group=100))  # the main process
    add_process(tmp_path, stat_line(101, ppid=100, group=100))
    add_process(tmp_path, stat_line(200, ppid=1, group=200), marker="j.0.1")  # fled, still marked
    add_process(tmp_path, stat_line(201, ppid=200, group=201))  # its child, which wiped its environment
    add_process(tmp_path, stat_line(300, ppid=1, group=300), marker="j.9.1")  # another's
    add_process(tmp_path, stat_line(400, ppid=1, group=400))
    members = ProcTable(str(tmp_path)).members({"j.0.1": 100})
    assert {process.pid for process in members["j.0.1"]} == {100, 101, 200, 201}


@pytest.mark.parametrize(
    ("line", "theirs"),
    [
        (stat_line(100, group=100, start=50), True),
        (stat_line(100, group=100, start=51), True),
        (stat_line(100, group=100, start=52), False),  # started later: the number has a new owner
        (stat_line(100, group=100, start=49), False),
        (stat_line(100, group=90, start=50), False),  # no leader of its session: never one of ours
    ],
    ids=["same", "within-the-spawn", "later", "earlier", "no-leader"],
)
def test_a_reused_pid_is_never_signalled(tmp_path: Path, line: str, theirs: bool) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    add_process(proc, line)
    add_process(proc, stat_line(101, ppid=100, group=100))
    table = RecordingTable(proc)
    held = journal(tmp_path)
    entry = held.claim("j.0.1", 1)
    entry.pid, entry.start_from, entry.start_to, entry.started_at = 100, 50, 51, 1
    held.started(entry)
    held.write()
    held = journal(tmp_path)
    recovery.lose_unended(held, table, None)
    entry = held.entries["j.0.1"]
    assert table.signalled == ([100, 101] if theirs else [])
    assert (entry.flags, entry.exit_code, entry.detail) == (wire.LOST, None, "its supervisor died")


def test_without_the_boot_only_a_marker_is_proof(tmp_path: Path) -> None:
    before = journal(tmp_path)
    for idx, pid in enumerate((100, 200)):
        entry = before.claim(f"j.{idx}.1", 1)
        entry.pid, entry.start_from, entry.start_to, entry.started_at = pid, 50, 50, 1
        before.started(entry)
    before.write()
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes().replace(f"B {BOOT}".encode(), b"?"))
    proc = tmp_path / "proc"
    proc.mkdir()
    add_process(proc, stat_line(100, group=100, start=50), marker="j.0.1")
    add_process(proc, stat_line(200, group=200, start=50))
    table = RecordingTable(proc)
    after = journal(tmp_path)
    recovery.lose_unended(after, table, None)
    assert table.signalled == [100]
    assert {entry.flags for entry in after.entries.values()} == {wire.LOST}


def test_after_a_reboot_nothing_is_signalled(tmp_path: Path) -> None:
    before = journal(tmp_path, boot="before")
    entry = before.claim("j.0.1", 1)
    entry.pid, entry.start_from, entry.start_to, entry.started_at = 100, 50, 51, 1
    before.started(entry)
    before.write()
    proc = tmp_path / "proc"
    proc.mkdir()
    add_process(proc, stat_line(100, group=100, start=50), marker="j.0.1")
    table = RecordingTable(proc)
    after = journal(tmp_path, boot="after")
    recovery.lose_unended(after, table, None)
    assert table.signalled == []
    assert after.entries["j.0.1"].detail == "the machine was restarted"
    assert after.entries["j.0.1"].flags == wire.LOST


# --- engines, one after the other


class Engines:
    """Connections to a supervisor that has not read any of them yet; what it hears of each, the test decides."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path = folder / "sock"
        self.stack = stack
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.path))
        listener.listen()
        self.supervisor = Supervisor(listener, journal(folder), ProcTable(str(folder)), None, 1.0)
        stack.callback(self.close)

    def connect(self, *orders: list[object], dies: bool = False) -> int:
        """Says hello and the orders; returns the supervisor's descriptor of it."""
        client = self.stack.enter_context(socket.socket(socket.AF_UNIX))
        client.connect(str(self.path))
        assert self.supervisor._accept()
        client.sendall(f'{{"flowbatch": {wire.PROTOCOL}, "env": {{}}}}\n{json.dumps(orders)}\n'.encode())
        if dies:
            client.close()
        return list(self.supervisor._clients)[-1]

    def hear(self, fd: int) -> bool:
        """As the loop does when the poll names a descriptor."""
        handler = self.supervisor._ready.get(fd)
        if handler is None:
            return False
        kept = handler()
        if not kept:
            self.supervisor._unwatch(fd)
        return kept

    def censuses(self) -> list[list[object]]:
        told = [json.loads(news) for news in self.supervisor._attempts.news]
        return [fact[3] for fact in told if fact[0] == "c"]

    def close(self) -> None:
        for fd, client in list(self.supervisor._clients.items()):
            self.supervisor._drop(client)
            self.supervisor._unwatch(fd)


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    with ExitStack() as stack:
        yield Engines(tmp_path, stack)


def launch(name: str) -> list[object]:
    return ["L", name, ["true"], {}, "/", "/nowhere/log", 1 << 20, None, 1000, 0, None]


CENSUS: list[object] = ["C", 7]


@pytest.mark.parametrize("heard", list(itertools.permutations(range(3))))
def test_what_dead_engines_ordered_is_in_the_census_of_the_next(engines: Engines, heard: tuple[int, ...]) -> None:
    """Their orders lie unread while the next engine asks: an attempt that is missing there would be started again."""
    fds = [
        engines.connect(launch("a.0.1"), dies=True),
        engines.connect(launch("b.0.1"), dies=True),
        engines.connect(CENSUS),
    ]
    for turn in (*heard, *heard):  # of those that died, the orders and then the end
        engines.hear(fds[turn])
    assert engines.censuses() == [[["w", "a.0.1"], ["w", "b.0.1"]]]
    assert list(engines.supervisor._clients) == [fds[2]]


def test_engines_that_gave_up_waiting_take_no_supervisor_with_them(engines: Engines) -> None:
    """All of them had said hello to one that was held up, and gone again."""
    fds = [engines.connect(dies=True) for _ in range(3)]
    for fd in (*fds, *fds):
        engines.hear(fd)
    assert engines.supervisor._clients == {}


# --- numbers of descriptors, which belong to one task after the other


def test_what_a_child_still_holds_does_not_tell_of_itself_under_a_number_that_is_anothers(engines: Engines) -> None:
    """A spawned process has all of our descriptors until its close-on-exec, which comes after its vfork's end: here `held`."""
    supervisor = engines.supervisor
    heard: list[str] = []

    def hear(name: str) -> bool:
        heard.append(name)
        return False

    first, writing = os.pipe()
    held = os.dup(first)
    try:
        supervisor._watch(first, lambda: hear("the first"))
        os.close(writing)  # its end can be read from now on
        supervisor._turn(supervisor._epoll.poll(0))
        assert heard == ["the first"]
        second, writing = os.pipe()
        assert second == first, "a kernel gives the lowest number that is free"
        supervisor._watch(second, lambda: hear("the second"))
        supervisor._turn(supervisor._epoll.poll(0))
        assert heard == ["the first"]
        os.close(writing)
        supervisor._turn(supervisor._epoll.poll(0))
        assert heard == ["the first", "the second"]
    finally:
        os.close(held)


def test_a_task_that_is_said_to_have_ended_and_has_not_goes_on(tmp_path: Path) -> None:
    """Nor is a stream waited for that was said to have something, and has nothing."""
    order = Order({}, "a.0.1", ["sleep", "1000"], {}, "/", str(tmp_path / "log"), 1 << 20, None, 1000, 0, None)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    spawned = spawn(order, null, None)
    ended: list[Task] = []
    task = Task(order, Entry(1, "a.0.1", 0), spawned, ended)
    try:
        assert task.on_exit()
        assert ended == []
        assert task.out.pump()
        assert task.err.pump()
        task.signal_group(signal.SIGKILL)
        select.select([task.pidfd], [], [])
        assert not task.on_exit()
        assert ended == [task]
    finally:
        assert task.reap() == 128 + signal.SIGKILL
        task.log.close()
        for fd in (null, spawned.out, spawned.err, spawned.pidfd):
            os.close(fd)
