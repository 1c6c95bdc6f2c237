"""Attempts that only exist in the script of their job: for tests, simulation, and `run --dry-run` in virtual time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
from anyio.abc import TaskStatus
from msgspec import Struct

from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.jobspec import FakeScript
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started
from flowbatch.ports import Capabilities, Clock, Fact, Finding, LaunchOrder, Report

_PLAIN = FakeScript()
_ORDERS_PER_TURN = 2_000  # an engine that has launched very many hears of the first ones before the last have begun
_TERM = 128 + 15
_KILL = 128 + 9


class _Running(Struct):
    """An attempt between its launch and its being forgotten; `end` is what happens next, unless something else comes first."""

    started_at: Millis
    end_at: Millis
    end: Evidence
    ignores_term: bool
    exited: Exited | LaunchFailed | None = None


def script_of(order: LaunchOrder) -> FakeScript:
    """What the script says for this very attempt: its index first, then the attempt."""
    script = order.fake
    if script is None:
        return _PLAIN
    script = script.by_index.get(order.key.idx, script) if script.by_index else script
    return script.by_attempt.get(order.key.attempt, script) if script.by_attempt else script


class FakeBackend:
    """Keeps everything in memory: like a supervisor it may outlive an engine (`run` again), not its own process."""

    def __init__(self, clock: Clock, name: str = "fake", write_logs: bool = False) -> None:
        self._clock = clock
        self._name = name
        self._write_logs = write_logs
        self._orders: list[LaunchOrder] = []
        self._attempts: dict[AttemptKey, _Running | None] = {}  # None: waits for its start
        self._ends: list[tuple[int, int, AttemptKey]] = []
        self._count = 0
        self._answers: list[Fact] = []  # of stops, told with the next facts
        self._news = anyio.Event()
        self._sleep: anyio.CancelScope | None = None
        self._sleeps_until = 0

    @property
    def name(self) -> str:
        return self._name

    @property
    def caps(self) -> Capabilities:
        return Capabilities(durable_exit=False, reports_oom=True, enforces_timeout=True, logs_after_exit=True)

    async def check(self) -> list[Finding]:
        return [Finding("note", self._name, "jobs only pretend to run, as their x-fake scripts say")]

    # --- calls

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        attempts = self._attempts
        for order in orders:
            if order.key not in attempts:
                attempts[order.key] = None
                self._orders.append(order)
        self._wake(0)

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        if key not in self._attempts:
            return
        running = self._attempts[key]
        now = self._clock.now()
        if running is None:
            self._attempts[key] = ended = _Running(now, now, Evidence(), False)
            ended.exited = LaunchFailed(key, now, Evidence(detail="stopped before it began"))
            self._orders = [order for order in self._orders if order.key != key]
            self._answers.append(ended.exited)
            self._wake(0)
        elif running.exited is None:
            self._halt(key, running, now, grace_ms, timed_out=False)

    def forget(self, keys: Sequence[AttemptKey]) -> None:
        for key in keys:
            running = self._attempts.get(key)
            if running is not None and running.exited is not None:
                del self._attempts[key]

    def watch_log(self, key: AttemptKey) -> None:
        pass  # it is written as the task prints

    def waits_for(self, key: AttemptKey) -> str | None:
        return None

    async def census(self) -> list[Observation]:
        found = []
        for key, running in self._attempts.items():
            if running is None:
                found.append(Observation(key, None))
            elif running.exited is None:
                found.append(Observation(key, running.started_at, handle=key.id))
            else:
                fact = running.exited
                began = running.started_at if isinstance(fact, Exited) else None
                found.append(Observation(key, began, fact.at, fact.evidence, key.id))
        return found

    # --- the world

    async def run(self, report: Report, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            facts, self._answers = self._answers, []
            self._begin(facts)
            self._finish(facts, self._clock.now())
            if facts:
                report(facts)
            if self._orders or self._answers:
                await anyio.lowlevel.checkpoint()
            elif self._ends:
                self._sleeps_until = self._ends[0][0]
                with anyio.CancelScope() as self._sleep:
                    await self._clock.sleep_until(Millis(self._sleeps_until))
                self._sleep = None
            else:
                self._news = anyio.Event()
                await self._news.wait()

    def _wake(self, at: int) -> None:
        """Something is due earlier than what `run` sleeps for."""
        if self._sleep is not None:
            if at < self._sleeps_until:
                self._sleep.cancel()
        else:
            self._news.set()

    def _begin(self, facts: list[Fact]) -> None:
        if not self._orders:
            return
        now = self._clock.now()
        orders = self._orders[:_ORDERS_PER_TURN]
        del self._orders[:_ORDERS_PER_TURN]
        for order in orders:
            key, script = order.key, script_of(order)
            if self._write_logs and order.log:
                _write_log(order.log, script.output, now)
            if script.launch_error is not None:
                self._attempts[key] = failed = _Running(now, now, Evidence(), False)
                failed.exited = LaunchFailed(key, now, Evidence(start_error=script.launch_error))
                facts.append(failed.exited)
                continue
            facts.append(Started(key, now))
            running = _Running(now, Millis(now + script.duration_ms), _end_of(script), script.ignores_term)
            self._attempts[key] = running
            timeout = order.timeout_ms
            if timeout is not None and timeout < script.duration_ms:
                at = timeout + order.stop_grace_ms if script.ignores_term else timeout
                if at <= script.duration_ms or not script.ignores_term:
                    running.end_at = Millis(now + at)
                    running.end = Evidence(_KILL if script.ignores_term else _TERM, timed_out=True)
                else:
                    running.end = Evidence(script.exit_code, timed_out=True)  # it ended by itself within the grace
            if running.end_at <= now:
                facts.append(self._exit(key, running))  # the cheap way, for the millions that take no time
            else:
                self._schedule(key, running.end_at)

    def _halt(self, key: AttemptKey, running: _Running, now: Millis, grace_ms: int, timed_out: bool) -> None:
        at = now + grace_ms if running.ignores_term else now
        if at < running.end_at:
            timed_out = timed_out or running.end.timed_out
            running.end_at = Millis(at)
            running.end = Evidence(_KILL if running.ignores_term or grace_ms <= 0 else _TERM, timed_out=timed_out)
            self._schedule(key, running.end_at)
            self._wake(at)

    def _schedule(self, key: AttemptKey, at: Millis) -> None:
        self._count += 1
        heapq.heappush(self._ends, (at, self._count, key))

    def _finish(self, facts: list[Fact], now: Millis) -> None:
        while self._ends and self._ends[0][0] <= now:
            at, _, key = heapq.heappop(self._ends)
            running = self._attempts.get(key)
            # An entry whose end was moved by a stop is passed over: the new one stands elsewhere in the heap.
            if running is not None and running.exited is None and running.end_at == at:
                facts.append(self._exit(key, running))

    def _exit(self, key: AttemptKey, running: _Running) -> Exited:
        running.exited = exited = Exited(key, running.end_at, running.end, running.started_at)
        return exited


def _end_of(script: FakeScript) -> Evidence:
    if script.lost:
        return Evidence(lost=True, detail=script.reason or "the script says so")
    if script.exit_code == 0 and script.reason is None:
        return _SUCCESS
    return Evidence(script.exit_code, oom=(script.reason or "").startswith("OutOfMemoryError"), detail=script.reason)


_SUCCESS = Evidence(0)


def _write_log(path: str, output: str, now: Millis) -> None:
    Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = output.split("\n")
    if lines[-1] == "":
        lines.pop()
    Path(path).write_text("".join(f"{now} o {line}\n" for line in lines), encoding="utf-8")
