"""Tasks as processes of this machine, through a supervisor that outlives the engine (flowbatch.backends.supervisor).

Calls only append to a buffer, which goes to the supervisor once per round of the event loop; what the supervisor tells comes
back as one report per read. Launches and stops that it has not answered are kept, and sent again over a new connection: it
knows attempts by their ids, so nothing begins twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus

from flowbatch.backends.process_link import Link, connect
from flowbatch.backends.process_start import Starting
from flowbatch.backends.supervisor import wire
from flowbatch.backends.supervisor.memory import find_cgroup
from flowbatch.backends.supervisor.recovery import boot_id
from flowbatch.errors import BackendUnavailable
from flowbatch.model.ending import Evidence, Halt
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.stimuli import Exited, LaunchFailed, Observation, Started
from flowbatch.ports import Capabilities, Fact, Finding, LaunchOrder, Report

Words = tuple[object, ...]  # an order as wire.py has it

_NOBODY = -1  # the token of the census that a reconnect asks for
_SUCCESS = Evidence(0)
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class ProcessBackend:
    """`folder` is the supervisor's, `base_env` what every task starts from, `starting` a supervisor on its way."""

    def __init__(self, folder: Path, base_env: Mapping[str, str], starting: Starting | None = None) -> None:
        self._folder = folder
        self._starting = starting
        self._base_env = dict(base_env)
        self._link: Link | None = None
        self._report: Report | None = None
        self._buffer: list[Words] = []  # orders not yet sent
        self._flush_due = False
        self._keys: dict[str, AttemptKey] = {}  # launched here, no end seen
        self._unanswered: dict[str, Words] = {}  # the launches that the supervisor has not confirmed
        self._stops: dict[str, Words] = {}  # of attempts that have not ended yet
        self._censuses: dict[int, asyncio.Future[list[list[Any]]]] = {}
        self._tokens = 0
        self._connected = anyio.Event()

    @property
    def name(self) -> str:
        return "process"

    @property
    def caps(self) -> Capabilities:
        return Capabilities(durable_exit=True, reports_oom=True, enforces_timeout=True, logs_after_exit=True)

    @property
    def supervisor_pid(self) -> int | None:
        """None while there is no connection."""
        return None if self._link is None else int(self._link.hello["pid"])

    async def check(self) -> list[Finding]:
        if sys.platform != "linux":
            raise BackendUnavailable("processes need Linux (pidfd and /proc); here only containers can run")
        findings = []
        cgroups = find_cgroup()
        if cgroups is not None:
            findings.append(Finding("ok", "process: memory", f"limited by {cgroups.title}"))
        else:
            text = "no cgroup may be made here: resident memory is sampled, and what exceeds its limit is killed"
            findings.append(Finding("note", "process: memory", text))
        if boot_id() == "-":
            text = (
                "the boot id cannot be read: after a restart of the machine, lost tasks may be taken for running ones"
            )
            findings.append(Finding("warning", "process: boot", text))
        else:
            findings.append(Finding("ok", "process: boot", f"boot id {boot_id()}"))
        return findings

    # --- calls

    def launch(self, orders: Sequence[LaunchOrder]) -> None:
        for order in orders:
            key = order.key
            attempt = key.id
            if attempt in self._keys:
                continue
            words: Words = (
                "L",
                attempt,
                order.command,
                order.env,
                order.workdir,
                order.log,
                order.log_cap_bytes,
                order.timeout_ms,
                order.stop_grace_ms,
                order.resources.memory_mib,
                order.user,
            )
            self._keys[attempt] = key
            self._unanswered[attempt] = words
            self._buffer.append(words)
        self._flush_soon()

    def stop(self, key: AttemptKey, grace_ms: int, why: Halt) -> None:
        words: Words = ("S", key.id, grace_ms)
        if key.id in self._keys:
            self._stops[key.id] = words
        self._buffer.append(words)
        self._flush_soon()

    def forget(self, keys: Sequence[AttemptKey]) -> None:
        """Not repeated when a connection breaks: whoever finds it in a census later forgets it again."""
        if keys:
            self._buffer.append(("F", *[key.id for key in keys]))
            self._flush_soon()

    def watch_log(self, key: AttemptKey) -> None:
        pass  # it is written as the task prints

    def waits_for(self, key: AttemptKey) -> str | None:
        return None

    async def census(self) -> list[Observation]:
        while True:
            await self._connected.wait()
            self._tokens += 1
            token = self._tokens
            future = self._censuses[token] = asyncio.get_running_loop().create_future()
            self._buffer.append(("C", token))
            self._flush_soon()
            try:
                return [self._observation(fact) for fact in await future]
            except ConnectionResetError:
                continue  # asked again over the next connection
            finally:
                self._censuses.pop(token, None)

    # --- the connection

    async def run(self, report: Report, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        self._report = report
        again = False
        try:
            while True:
                link = await connect(self._folder, self._base_env, self._starting)
                self._starting = None
                link.on_lines = self._on_lines
                self._link = link
                if again:
                    self._resume()
                self._flush()
                self._connected.set()
                if not again:
                    task_status.started()
                again = True
                await link.lost.wait()
                self._disconnected()
        finally:
            if self._link is not None:
                self._link.close()
            self._disconnected()
            self._report = None

    def _resume(self) -> None:
        """What was under way when the connection broke is said again, in the order launch, stop, census."""
        self._buffer = [*self._unanswered.values(), *self._stops.values(), ("C", _NOBODY), *self._buffer]

    def _disconnected(self) -> None:
        self._link = None
        self._connected = anyio.Event()
        for future in self._censuses.values():
            if not future.done():
                future.set_exception(ConnectionResetError())

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if self._buffer and self._link is not None:
            self._link.write(_encode(self._buffer).encode() + b"\n")
            self._buffer.clear()

    # --- what the supervisor tells

    def _on_lines(self, lines: list[bytes]) -> None:
        facts: list[Fact] = []
        for line in lines:
            for fact in json.loads(line):
                self._take(fact, facts)
        if facts and self._report is not None:
            self._report(facts)

    def _take(self, fact: list[Any], facts: list[Fact]) -> None:
        kind = fact[0]
        if kind == "s":
            attempt = fact[1]
            self._unanswered.pop(attempt, None)
            facts.append(Started(self._key(attempt), fact[3], str(fact[2])))
        elif kind == "x":
            key = self._over(fact[1])
            facts.append(Exited(key, fact[4], _evidence(fact), fact[3]))
        elif kind == "f":
            key = self._over(fact[1])
            facts.append(LaunchFailed(key, fact[2], _start_evidence(fact)))
        elif fact[1] == _NOBODY:
            self._catch_up(fact[3], fact[2], facts)
        else:
            future = self._censuses.get(fact[1])
            if future is not None and not future.done():
                future.set_result(fact[3])

    def _key(self, attempt: str) -> AttemptKey:
        """Also of those that an engine before us launched."""
        return self._keys.get(attempt) or AttemptKey.parse(attempt)

    def _over(self, attempt: str) -> AttemptKey:
        self._unanswered.pop(attempt, None)
        self._stops.pop(attempt, None)
        return self._keys.pop(attempt, None) or AttemptKey.parse(attempt)

    def _catch_up(self, census: list[list[Any]], now: Millis, facts: list[Fact]) -> None:
        """After a reconnect: ends that were told to nobody, and attempts that the supervisor has never heard of."""
        for fact in census:
            if fact[0] in "xf":
                self._take(fact, facts)
        known = {fact[1] for fact in census}
        for attempt in [attempt for attempt in self._keys if attempt not in known]:
            if attempt not in self._unanswered:
                evidence = Evidence(lost=True, detail="its supervisor's journal is gone")
                facts.append(Exited(self._over(attempt), now, evidence))

    def _observation(self, fact: list[Any]) -> Observation:
        kind, key = fact[0], AttemptKey.parse(fact[1])
        if kind == "w":
            return Observation(key, None)
        if kind == "s":
            return Observation(key, fact[3], handle=str(fact[2]))
        if kind == "x":
            return Observation(key, fact[3], fact[4], _evidence(fact), str(fact[2] or ""))
        return Observation(key, None, fact[2], _start_evidence(fact))


def _evidence(fact: list[Any]) -> Evidence:
    code, flags, detail = fact[5], fact[6], fact[7]
    if code == 0 and not flags:
        return _SUCCESS
    return Evidence(
        exit_code=code,
        oom=bool(flags & wire.OOM),
        timed_out=bool(flags & wire.TIMED_OUT),
        lost=bool(flags & wire.LOST),
        detail=detail,
        truncated=bool(flags & wire.TRUNCATED),
    )


def _start_evidence(fact: list[Any]) -> Evidence:
    error, code = fact[3], fact[4]
    if error is None:
        return Evidence(detail="stopped before it began")
    return Evidence(exit_code=code, start_error=error)
