"""The dispatcher: a lane per sink, each by itself.

A lane that hangs, fails or lags touches no other, and none of them the engine: a progress is a stimulus like any other, at most one of
a sink on its way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from flowbatch.hooks.forms import Forms
from flowbatch.hooks.lane import Lane, Owed
from flowbatch.hooks.targets import Target
from flowbatch.logs import Logger
from flowbatch.model.notify import Notify, SinkProgress, SinkStatus
from flowbatch.model.rows import Writes
from flowbatch.ports import Clock, EventLog

log = Logger(__name__)

STOP_S: Final = 5.0  # for the last progress of a life

Record = Callable[[SinkProgress, int | None], Awaitable[bool]]  # durable on return; whether the sink is closed
Make = Callable[[Notify], Awaitable[tuple[Target, Forms]]]  # raises Unready


class Dispatcher:
    def __init__(
        self, events: EventLog, record: Record, make: Make, clock: Clock, instance: str, draw: Callable[[], float]
    ) -> None:
        self.events = events
        self.record = record
        self.make = make
        self.clock = clock
        self.instance = instance
        self.draw = draw
        self.lanes: dict[str, Lane] = {}
        self.broken: dict[str, str] = {}  # by a bug of ours: what was raised
        self.changed = anyio.Event()  # something was delivered, or a lane has ended
        self._wanted: list[str | int] = []  # keys of sinks, or numbers of runs whose sinks are open again
        self._wake = anyio.Event()
        self._scope: anyio.CancelScope | None = None
        self._done = anyio.Event()

    # --- what others may do

    def told(self, writes: Writes) -> None:
        """After each durable turn: quick."""
        sinks = writes.sinks
        if sinks:
            self._wanted += [row.key for row in sinks.opened]
            self._wanted += [row.key for row in sinks.copied]
            self._wanted += [*sinks.reopened, *sinks.enabled, *sinks.revived]
            if self._wanted:
                self._wake.set()
        if writes.events:
            for lane in self.lanes.values():
                lane.woken()

    def start(self, keys: list[str]) -> None:
        self._wanted += keys
        self._wake.set()

    def owed(self) -> list[Owed]:
        return [lane.owed() for lane in self.lanes.values() if not lane.idle()]

    def starting(self) -> bool:
        return bool(self._wanted)

    def flush(self) -> None:
        """Nobody will wait for the end of a digest's time."""
        for lane in self.lanes.values():
            lane.flush()

    def try_refused(self, tried: set[str]) -> None:
        """Each sink whose name is not among those: what it has refused is sent now, once."""
        tried.update(key for key, lane in self.lanes.items() if key not in tried and lane.try_refused())

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Never returns."""
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                task_status.started()
                while True:
                    await self._wake.wait()
                    self._wake = anyio.Event()
                    while self._wanted:
                        await self._open(self._wanted[0], tasks)
                        del self._wanted[0]
                    self.stirred()
        finally:
            self._done.set()

    async def _open(self, what: str | int, tasks: TaskGroup) -> None:
        keys = [what] if isinstance(what, str) else await self.events.open_sinks(what)
        for key in keys:
            running = self.lanes.get(key)
            if running is not None:
                running.reload()
                continue
            stored = await self.events.sink(key)
            if stored is not None and stored.status is SinkStatus.OPEN:
                lane = self.lanes[key] = Lane(self, stored)
                tasks.start_soon(self._drive, lane, name=f"sink {key}")

    async def _drive(self, lane: Lane) -> None:
        """A lane that breaks is the end of that lane in this life; the next one begins at its cursor."""
        again = False
        try:
            again = await lane.run()
        except Exception as error:
            log.error("sink_broken", sink=lane.key, error=repr(error))
            self.broken[lane.key] = repr(error)
        finally:
            del self.lanes[lane.key]
            self.stirred()
        if again:
            self.start([lane.key])

    async def stop(self) -> None:
        """What is in flight may be sent again by the next engine; what was answered is written."""
        with anyio.move_on_after(STOP_S):
            for lane in list(self.lanes.values()):
                await lane.stop()

    async def leave(self, names: set[str]) -> None:
        """Of the settings' sinks those that are no longer there, with the copies that `redeliver` made of them."""
        for lane in list(self.lanes.values()):
            if "/" not in lane.key and lane.key.partition("~")[0] in names:
                await lane.stop()

    def reload(self) -> None:
        """All receivers are made anew: what they may reach has changed."""
        for lane in self.lanes.values():
            lane.reload()

    async def close(self) -> None:
        """Ends all lanes; once this returns nothing of them reads the log."""
        if self._scope is not None:
            self._scope.cancel()
            await self._done.wait()

    def stirred(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()
