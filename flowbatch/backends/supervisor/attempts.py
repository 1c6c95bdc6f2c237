"""All attempts that a supervisor holds: those that wait for their start, those that run, and what the journal says of the rest."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Callable

from flowbatch.backends.supervisor import wire
from flowbatch.backends.supervisor.journal import Entry, Journal
from flowbatch.backends.supervisor.memory import SAMPLE_S, CgroupMemory
from flowbatch.backends.supervisor.proctable import Process, ProcTable
from flowbatch.backends.supervisor.recovery import kill_members
from flowbatch.backends.supervisor.spawn import Order, Shortage, Spawned, StartError, spawn
from flowbatch.backends.supervisor.task import Task
from flowbatch.backends.supervisor.timers import Timers

# Each blocks until its exec, some ms on a busy machine: ends are told and output is read in between.
_STARTS_PER_TURN = 4
_SHORTAGE_S = 0.1
_SWEEP_S = 1.0
_OOM_LOOK_S = 0.1  # the kernel tells that a group is out of memory just before it kills
_KILLED = 128 + signal.SIGKILL
_FDS_PER_TASK = 5  # two pipes, a pidfd, a log, the news of its memory
_FDS_SPARE = 40  # for what is open for a moment only: the ends of pipes given away, /proc, the journal's successor
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")

Watch = Callable[[int, Callable[[], bool]], None]


def started_text(entry: Entry) -> str:
    return f'["s","{entry.id}",{entry.pid},{entry.started_at}]'


def ended_text(entry: Entry) -> str:
    """Plain ends by hand: the encoder would cost as much as all the rest of telling them."""
    if entry.error is not None:
        return json.dumps(["f", entry.id, entry.ended_at, entry.error or None, entry.exit_code])
    started = "null" if entry.started_at is None else entry.started_at
    code = "null" if entry.exit_code is None else entry.exit_code
    detail = "null" if entry.detail is None else json.dumps(entry.detail)
    return f'["x","{entry.id}",{entry.pid},{started},{entry.ended_at},{code},{entry.flags},{detail}]'


class Attempts:
    """`watch(fd, handler)` has the loop call the handler when there is something to read; `unwatch(fd)` closes it."""

    def __init__(
        self,
        journal: Journal,
        table: ProcTable,
        cgroups: CgroupMemory | None,
        watch: Watch,
        unwatch: Callable[[int], None],
    ) -> None:
        self.news: list[str] = []  # facts, to be told once the journal holds them
        self.urgent = False  # among the news is more than starts
        self.ended: list[Task] = []  # seen to have ended, not yet taken care of
        self._journal = journal
        self._table = table
        self._cgroups = cgroups
        self._watch = watch
        self._unwatch = unwatch
        self._waiting: dict[str, Order] = {}
        self._live: dict[str, Task] = {}
        self._timers = Timers()
        self._held_until: float | None = None  # starts wait: no descriptor, process or disk space is left
        self._sweep_at: float | None = None
        self._sample_at: float | None = None
        self._disowned: set[str] = set()  # named by the engine, and nothing is known of them
        self._left_groups: set[str] = set()  # cgroups whose last member was still dying
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._live_max = max((soft - _FDS_SPARE) // _FDS_PER_TASK, 1)

    def __len__(self) -> int:
        """How many wait or run."""
        return len(self._waiting) + len(self._live)

    def tell(self, text: str) -> None:
        self.news.append(text)
        self.urgent = True

    # --- orders

    def launch(self, order: Order) -> None:
        """An attempt that is known already is not begun again: its state is told again."""
        if not _ID_CHARACTERS.issuperset(order.id):
            raise ValueError(order.id)
        entry = self._journal.entries.get(order.id)
        if order.id in self._waiting:
            return
        if entry is None:
            self._waiting[order.id] = order
        else:
            self.tell(ended_text(entry) if entry.ended else started_text(entry))

    def stop(self, attempt: str, grace_ms: int) -> None:
        order = self._waiting.pop(attempt, None)
        if order is not None:
            now = time.time_ns() // 1_000_000
            entry = self._journal.entries.get(attempt) or self._journal.claim(attempt, now)
            self._never_began(entry, "", None)
            return
        task = self._live.get(attempt)
        if task is not None:
            self._begin_stop(task, grace_ms)
        elif attempt not in self._journal.entries:
            self._disowned.add(attempt)

    def forget(self, attempt: str) -> None:
        if attempt in self._journal.entries:
            self._journal.forget(attempt)
        elif attempt not in self._waiting:
            self._disowned.add(attempt)

    def census(self) -> str:
        texts = [f'["w","{attempt}"]' for attempt in self._waiting]
        for entry in self._journal.entries.values():
            if entry.ended:
                texts.append(ended_text(entry))
            elif entry.id in self._live:
                texts.append(started_text(entry))
        return ",".join(texts)

    def hold(self, seconds: float) -> None:
        self._held_until = time.monotonic() + seconds

    # --- time

    def timeout(self) -> float:
        """Seconds until something is due; -1: nothing is."""
        if self.ended or self._disowned:
            return 0
        if self._waiting and self._held_until is None and len(self._live) < self._live_max:
            return 0
        due = [at for at in (self._held_until, self._sweep_at, self._sample_at, self._timers.next_at()) if at]
        return max(min(due) - time.monotonic(), 0) if due else -1

    def turn(self) -> None:
        if self.ended:
            self._finish()
        if self._disowned:
            self._kill_disowned()
        now = time.monotonic()
        self._timers.fire(now)
        if self._sweep_at is not None and now >= self._sweep_at:
            self._sweep(now)
        if self._sample_at is not None and now >= self._sample_at:
            self._sample(now)
        if self._held_until is not None and now >= self._held_until:
            self._held_until = None
        if self._waiting and self._held_until is None and len(self._live) < self._live_max:
            self._start()

    # --- starts

    def _start(self) -> None:
        room = min(self._live_max - len(self._live), _STARTS_PER_TURN)
        orders = [order for order, _ in zip(self._waiting.values(), range(room), strict=False)]
        now = time.time_ns() // 1_000_000
        claims = [self._journal.entries.get(order.id) or self._journal.claim(order.id, now) for order in orders]
        try:
            self._journal.write()
        except OSError:
            self.hold(1.0)  # the disk is full, and nothing may begin without its claim
            return
        for order, entry in zip(orders, claims, strict=True):
            try:
                spawned = self._spawn(order)
            except Shortage:
                self.hold(_SHORTAGE_S)
                return
            except StartError as error:
                del self._waiting[order.id]
                self._never_began(entry, str(error), error.exit_code)
                continue
            del self._waiting[order.id]
            self._begin(order, entry, spawned)

    def _spawn(self, order: Order) -> Spawned:
        procs_file = None
        if order.memory_mib and self._cgroups is not None:
            try:
                procs_file = self._cgroups.create(order.id, order.memory_mib << 20)
            except OSError as error:
                raise StartError(f"memory limit: {error.strerror} ({error.filename})", None) from None
        try:
            return spawn(order, self._null, procs_file)
        except StartError:
            if procs_file is not None and self._cgroups is not None:
                self._cgroups.remove(order.id)
            raise

    def _begin(self, order: Order, entry: Entry, spawned: Spawned) -> None:
        task = self._live[order.id] = Task(order, entry, spawned, self.ended)
        entry.pid, entry.started_at = spawned.pid, spawned.at_ms
        entry.start_from, entry.start_to = spawned.start_from, spawned.start_to
        self._journal.started(entry)
        self.news.append(started_text(entry))
        self._watch(spawned.out, task.out.pump)
        self._watch(spawned.err, task.err.pump)
        self._watch(spawned.pidfd, task.on_exit)
        if order.timeout_ms is not None:
            self._timers.add(time.monotonic() + order.timeout_ms / 1000, self._time_out, task)
        if order.memory_mib:
            self._limit_memory(task)

    def _never_began(self, entry: Entry, error: str, code: int | None) -> None:
        entry.ended_at = time.time_ns() // 1_000_000
        entry.error, entry.exit_code = error, code
        self._journal.ended(entry)
        self.tell(ended_text(entry))

    # --- stops

    def _time_out(self, task: Task) -> None:
        task.timed_out = True
        self._begin_stop(task, task.grace_ms)

    def _begin_stop(self, task: Task, grace_ms: int) -> None:
        """Repeatable: a later stop may shorten the grace, never lengthen it."""
        kill_at = time.monotonic() + grace_ms / 1000
        if task.kill_at is not None and task.kill_at <= kill_at:
            return
        if task.kill_at is None and grace_ms > 0:
            task.signal_group(signal.SIGTERM)
            for process in self._escapees(task):
                self._table.signal(process, signal.SIGTERM)
        task.kill_at = kill_at
        if grace_ms > 0:
            self._timers.add(kill_at, self._kill, task)
        else:
            self._kill(task)

    def _kill(self, task: Task) -> None:
        task.signal_group(signal.SIGKILL)
        self._kill_escapees([task])

    def _escapees(self, task: Task) -> list[Process]:
        members = self._table.members({task.entry.id: task.pid})[task.entry.id]
        return [process for process in members if process.pgrp != task.pid]

    def _kill_escapees(self, tasks: list[Task]) -> None:
        kill_members({task.entry.id: task.pid for task in tasks}, self._table)
        if self._cgroups is not None:
            for task in tasks:
                for pid in self._cgroups.pids(task.entry.id) if task.grouped else ():
                    process = self._table.read(pid)
                    if process is not None:
                        self._table.signal(process, signal.SIGKILL)

    def _kill_disowned(self) -> None:
        """The engine is done with them, and our journal has no claim: it was damaged. What still carries the name of one
        can only be what that claim was about."""
        kill_members(dict.fromkeys(self._disowned), self._table)
        if self._cgroups is not None:
            self._left_groups |= {group for group in self._disowned if not self._cgroups.remove(group)}
        self._disowned.clear()
        if self._left_groups and self._sweep_at is None:
            self._sweep_at = time.monotonic() + _SWEEP_S

    # --- ends

    def _finish(self) -> None:
        tasks = self.ended.copy()
        self.ended.clear()  # the tasks hold this very list
        for task in tasks:
            task.signal_group(signal.SIGKILL)
        # While the main processes are unreaped their numbers still name what they left behind.
        thorough = [task for task in tasks if task.kill_at is not None or task.grouped or task.oom]
        if thorough:
            self._kill_escapees(thorough)
        for task in tasks:
            self._end(task)
        if self._sweep_at is None:
            self._sweep_at = time.monotonic() + _SWEEP_S

    def _end(self, task: Task) -> None:
        entry = task.entry
        entry.exit_code = task.reap()
        task.over = True
        for stream in (task.out, task.err):
            if stream.fd >= 0:
                stream.drain()
                if stream.fd >= 0:
                    self._unwatch(stream.fd)
            stream.flush()
        task.log.close()
        del self._live[entry.id]
        if task.grouped and self._cgroups is not None:
            if task.oom_event >= 0:
                self._unwatch(task.oom_event)
            task.oom = task.oom or self._cgroups.kills(entry.id) > 0
            if not self._cgroups.remove(entry.id):
                self._left_groups.add(entry.id)
        if task.oom and entry.exit_code == 0:
            entry.exit_code = _KILLED  # it was over before our kill came: how fast it was may not make it a success
        entry.flags = (
            (wire.OOM if task.oom else 0)
            | (wire.TIMED_OUT if task.timed_out else 0)
            | (wire.TRUNCATED if task.log.truncated else 0)
        )
        entry.ended_at = time.time_ns() // 1_000_000
        self._journal.ended(entry)
        self.tell(ended_text(entry))

    def _sweep(self, now: float) -> None:
        """A while after ends: reaps orphans, kills those whose attempt is over, removes cgroups that were still busy.

        We are the subreaper, so whatever escaped from a task becomes our child once its parents are gone.
        """
        self._sweep_at = None
        mains = {task.pid for task in self._live.values()}
        doomed: dict[str, int | None] = {}
        for pid in self._table.children(os.getpid()):
            if pid in mains or os.waitpid(pid, os.WNOHANG)[0]:
                continue
            self._sweep_at = now + _SWEEP_S  # until it is gone
            attempt = self._table.marker(pid)
            process = self._table.read(pid)
            if attempt is not None and attempt not in self._live:
                doomed[attempt] = None
            elif not self._live and process is not None:
                # It wiped its environment; with nothing alive it can only be of an attempt that is over.
                self._table.signal(process, signal.SIGKILL)
        if doomed:
            kill_members(doomed, self._table)
        if self._cgroups is not None:
            self._left_groups = {group for group in self._left_groups if not self._cgroups.remove(group)}
            if self._left_groups:
                self._sweep_at = now + _SWEEP_S

    # --- memory

    def _limit_memory(self, task: Task) -> None:
        """Over its limit all of an attempt ends: by the kernel, or by us when the kernel has killed a part of it."""
        if self._cgroups is not None:
            task.grouped = True
            if self._cgroups.kills_whole(task.entry.id):
                return
            event = self._cgroups.oom_event(task.entry.id)
            if event is not None:
                task.oom_event = event
                self._watch(event, lambda: self._on_oom_event(task))
                self._look_for_oom(task)  # it has run for a moment already
                return
        task.sampled = True
        if self._sample_at is None:
            self._sample_at = time.monotonic()

    def _on_oom_event(self, task: Task) -> bool:
        os.eventfd_read(task.oom_event)
        self._look_for_oom(task)
        if not task.oom:
            self._timers.add(time.monotonic() + _OOM_LOOK_S, self._look_for_oom, task)
        return True

    def _look_for_oom(self, task: Task) -> None:
        if not task.oom and self._cgroups is not None and self._cgroups.kills(task.entry.id):
            task.oom = True
            self._kill(task)

    def _sample(self, now: float) -> None:
        """Where the kernel tells nothing: the resident memory of each limited task's processes against its limit."""
        sampled = [task for task in self._live.values() if task.sampled]
        self._sample_at = now + SAMPLE_S if sampled else None
        for task in sampled:
            if task.grouped:
                self._look_for_oom(task)
        limited = {task.entry.id: task for task in sampled if not task.grouped}
        if not limited:
            return
        members = self._table.members({attempt: task.pid for attempt, task in limited.items()})
        for attempt, task in limited.items():
            if sum(process.rss_pages for process in members[attempt]) * _PAGE_BYTES > task.memory_bytes:
                task.oom = True
                self._kill(task)
