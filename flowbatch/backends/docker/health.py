"""Whether the Engine answers. Nothing fails because it does not: what wants something of it waits, and says for what.

    UP → (three pings failed) AWAY: nothing new starts, what runs is taken to run → UP after a ping and its version;
    then everything that lives is looked at again.

Each absence is kept as an Outage: what ended around it, by a kill that we did not ask for, was not the task's own doing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio

from flowbatch.backends.docker.ends import Outage, parse_time
from flowbatch.backends.docker.errors import EngineError
from flowbatch.logs import Logger
from flowbatch.model.ids import Millis
from flowbatch.ports import Clock

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api

log = Logger(__name__)

PING_EVERY_S: Final = 5.0
RETRY_S: Final = 0.5
FAILURES: Final = 3
OUTAGES_MAX: Final = 64
CLOCK_MS: Final = 1_000
RESTORE_MS: Final = 60_000  # a daemon that comes up ends what it cannot adopt, for so long at most


class Health:
    """`run` is the only one that decides; others doubt, and wait."""

    def __init__(self, api: Api, clock: Clock, on_return: Callable[[], None]) -> None:
        self._api = api
        self._clock = clock
        self._on_return = on_return
        self._failures = FAILURES  # until the first contact
        self._doubted = anyio.Event()
        self._settled = anyio.Event()
        self._last_ok = Millis(0)
        self._gone_since: Millis | None = None
        self._outages: list[Outage] = []
        self._daemon_started_at: Millis | None = None
        self._met = False
        self.trouble: str | None = "the Docker Engine has not answered yet"
        self.reason = ""

    @property
    def outages(self) -> list[Outage]:
        """The present one, if any, included."""
        if self._gone_since is None:
            return self._outages
        now = self._clock.now()
        return [*self._outages, Outage(self._gone_since, now, now, over=False)]

    @property
    def up(self) -> bool:
        return self._failures < FAILURES

    async def settled(self) -> None:
        """Returns when the last that we heard of the Engine was good."""
        while self._failures:
            await self._settled.wait()

    async def confirm(self) -> None:
        """Asks whether the daemon is still there, for a moment that would be read otherwise if it is not."""
        try:
            await self._api.ping()
        except EngineError:
            self.broken()

    def doubt(self) -> None:
        """A call had no answer: ask now instead of in a while."""
        self._doubted.set()

    def broken(self) -> None:
        """The stream of events ended, which it does when the daemon goes, and hardly otherwise."""
        if self._gone_since is None:
            self._gone_since = self._clock.now()
        if not self._failures:
            self._failures = 1
            self._settled = anyio.Event()
        self._doubted.set()

    async def run(self) -> None:
        while True:
            self._doubted = anyio.Event()
            try:
                await self._api.ping()
                if self._failures:
                    await self._api.negotiate()
                    await self._compare_clocks()
            except EngineError as error:
                self._failed(error)
            else:
                self._answered()
            with anyio.move_on_after(RETRY_S if self._failures else PING_EVERY_S):
                await self._doubted.wait()
            if self._failures:
                await anyio.sleep(RETRY_S / 5)

    async def _compare_clocks(self) -> None:
        """With another machine's. What is within the time that its answer took, and a second, is nothing."""
        if self._api.socket_path is not None:
            return
        sent = self._clock.now()
        told = parse_time(str((await self._api.info()).get("SystemTime") or ""))
        heard = self._clock.now()
        same = told is None or sent - CLOCK_MS <= told <= heard + CLOCK_MS
        ahead_ms = 0 if told is None or same else told - (sent + heard) // 2
        if abs(ahead_ms - self._api.ahead_ms) > CLOCK_MS:
            log.warning("docker_clock", where=self._api.where, ahead_ms=ahead_ms)
        self._api.ahead_ms = ahead_ms

    def _failed(self, error: EngineError) -> None:
        if not self._failures:
            self._settled = anyio.Event()
        self._failures += 1
        self.reason = error.message
        if self._met and self._gone_since is None:
            self._gone_since = self._last_ok
        if self._failures >= FAILURES:
            if self._met and self.trouble is None:
                log.warning("docker_away", error=error.message)
            self.trouble = f"the Docker Engine at {self._api.where} does not answer: {error.message}"

    def _answered(self) -> None:
        now = self._clock.now()
        self._last_ok = now
        if not self._failures:
            return
        if self._met and self.trouble is not None:
            log.warning("docker_back", version=self._api.version.get("Version"))
        self._failures = 0
        self.trouble = None
        self._note_outage(now)
        self._met = True
        self._settled.set()
        self._on_return()

    def _note_outage(self, now: Millis) -> None:
        started_at = self._api.daemon_started_at()
        if not self._met:
            if started_at is not None:
                # What ended while nobody watched: a restart of the daemon may have been its end.
                self._outages.append(Outage(0, min(now, started_at + RESTORE_MS), started_at))
        elif self._gone_since is not None and (started_at is None or started_at != self._daemon_started_at):
            self._outages.append(Outage(self._gone_since, now, now))
            del self._outages[:-OUTAGES_MAX]
        self._daemon_started_at = started_at
        self._gone_since = None
