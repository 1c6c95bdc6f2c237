"""Everything that lives while an Engine is asked: built once, at the first need, and kept through the daemon's absences."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from flowbatch.backends.docker import ends, names
from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.digests import Digests
from flowbatch.backends.docker.disk import Disk
from flowbatch.backends.docker.errors import EngineError, Kind
from flowbatch.backends.docker.following import Follower
from flowbatch.backends.docker.health import Health
from flowbatch.backends.docker.launching import Launcher
from flowbatch.backends.docker.logs import Readings
from flowbatch.backends.docker.networks import Networks
from flowbatch.backends.docker.pulls import Puller, Tell
from flowbatch.backends.docker.watching import Events, Rounds, listed_key
from flowbatch.model.ids import AttemptKey, RunId
from flowbatch.model.stimuli import Exited
from flowbatch.ports import Clock, Fact

VOLUMES_AGAIN_S: Final = 5.0
STOCK_AGAIN_S: Final = 0.5


@asynccontextmanager
async def opened(api: Api) -> AsyncIterator[Api]:
    try:
        yield api
    finally:
        await api.close()


class Session:
    def __init__(
        self,
        api: Api,
        instance: str,
        clock: Clock,
        attempts: dict[AttemptKey, Attempt],
        tasks: TaskGroup,
        report: Callable[[Fact], None],
        attend: Callable[[Attempt], None],
        found: Callable[[AttemptKey], Attempt],
        tell_pull: Tell,
        removed: Callable[[], None],
        disk_free_mib: int | None,
    ) -> None:
        self.api = api
        self.instance = instance
        self.health = Health(api, clock, self._returned)
        self.events = Events(api, self.health, clock, instance, attempts, attend)
        self.readings = Readings()
        self.rounds = Rounds(api, self.health, instance, attempts, attend)
        self._clock = clock
        self._attend = attend
        self._attempts = attempts
        self._tasks = tasks
        self._found = found
        self._removed = removed
        self._boot = api.boot()
        self._stock = anyio.Lock()
        self._volume_news = anyio.Event()
        self._met = False
        self.disk = Disk(api, self.health, disk_free_mib)
        self.networks = Networks(api, instance)
        puller = Puller(api, self.health, self.disk, tasks, tell_pull)
        launcher = Launcher(api, self.health, self.disk, puller, self.networks, instance, self._boot)
        self.follower = Follower(
            api, self.health, launcher, Digests(api), clock, self._boot, report, self.readings.put, self._gone
        )

    def start(self) -> None:
        self._tasks.start_soon(self.health.run, name="docker: health")
        self._tasks.start_soon(self.events.run, name="docker: events")
        self._tasks.start_soon(self.rounds.run, name="docker: rounds")
        self._tasks.start_soon(self.readings.run, self.api, self.health, name="docker: logs")

    def _returned(self) -> None:
        if self._met:
            self.events.reconnect()
            self.rounds.now()
            self.disk.may_have_moved()
        self._met = True

    def _gone(self, attempt: Attempt) -> None:
        """Removed: the volumes that it had may go as well now."""
        self._volume_news.set()
        self._attempts.pop(attempt.key, None)
        self._removed()

    # --- the census

    async def take_stock(self) -> bool:
        """Finds what an engine before us left. False where the Engine went away meanwhile."""
        await self.health.settled()
        failures: list[EngineError] = []
        try:
            listed = await self.api.containers(f"{names.INSTANCE}={self.instance}")
        except EngineError as error:
            failures.append(error)
        else:
            async with self._stock, anyio.create_task_group() as lookers:
                for item in listed:
                    key = listed_key(self.instance, item)
                    if key is not None and key not in self._attempts:
                        lookers.start_soon(self._try_taking, key, item["Id"], failures, name=f"look at {key.id}")
        if not failures:
            return True
        self.health.doubt()
        await anyio.sleep(STOCK_AGAIN_S)
        return False

    async def _try_taking(self, key: AttemptKey, container: str, failures: list[EngineError]) -> None:
        try:
            await self._take(key, container)
        except EngineError as error:
            failures.append(error)

    async def _take(self, key: AttemptKey, container: str) -> None:
        try:
            look = ends.parse(await self.api.inspect(container), self.api.ahead_ms)
            if look.startable:
                await self._sweep(look.id)
                look = ends.parse(await self.api.inspect(container), self.api.ahead_ms)
        except EngineError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            if await self.api.began(container) and key not in self._attempts:
                self._lost(key)
            return
        image = await self.follower.image_of(look)
        if look.startable or look.leaving or key in self._attempts:
            return
        attempt = self._found(key)
        attempt.take(look, anyio.current_time())
        attempt.image = image
        attempt.told = True
        if not look.over:
            self.readings.put(attempt)
            if attempt.grace_ms is not None:
                self._attend(attempt)
            return
        attempt.busy = True  # until its end is known, nobody else acts upon it
        try:
            attempt.told = False
            attempt.fact = await self.follower.conclude(attempt, look)
        finally:
            attempt.busy = False

    def _lost(self, key: AttemptKey) -> None:
        """Its start was on its way still when its engine died."""
        attempt = self._found(key)
        attempt.log_done = True
        attempt.fact = Exited(key, self._clock.now(), ends.UNSEEN)

    async def _sweep(self, container: str) -> None:
        """Created by an engine before us and never started: it goes, and whoever still wants the attempt launches it again.
        Were its start still on its way, then either it arrives first, and the removal is refused, or it finds nothing."""
        try:
            await self.api.remove(container)
        except EngineError as error:
            if error.kind is not Kind.CONFLICT:
                raise

    # --- volumes

    def volumes_due(self) -> None:
        self._volume_news.set()

    async def drop_volumes(self, due: set[RunId]) -> None:
        """For ever: a volume goes once the last container that had it is gone."""
        while True:
            for run in list(due):
                await self.health.settled()
                try:
                    if await self._drop(run):
                        due.discard(run)
                        self._removed()
                except EngineError as error:
                    if error.kind is Kind.UNKNOWN:
                        self.health.doubt()
            with anyio.move_on_after(VOLUMES_AGAIN_S if due else math.inf):
                await self._volume_news.wait()
            self._volume_news = anyio.Event()

    async def _drop(self, run: RunId) -> bool:
        done = True
        for volume in await self.api.volumes([f"{names.INSTANCE}={self.instance}", f"{names.RUN}={run}"]):
            if names.KEEP in (volume.get("Labels") or {}):
                continue
            try:
                await self.api.remove_volume(volume["Name"])
            except EngineError as error:
                if error.kind is Kind.UNKNOWN:
                    raise
                done = done and error.kind is Kind.NOT_FOUND
        return done
