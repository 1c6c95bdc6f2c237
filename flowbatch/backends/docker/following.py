"""What is done about an attempt: one task at a time, for as long as there is something to do, none while it merely runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio

from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.ends import KILLS, VANISHED, Boot, Look, evidence, parse, read_from_log
from flowbatch.backends.docker.errors import EngineError, Kind
from flowbatch.logs import Logger
from flowbatch.model.ending import Evidence
from flowbatch.model.ids import Millis
from flowbatch.model.stimuli import Exited, LaunchFailed, Started
from flowbatch.ports import Clock, Fact

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.digests import Digests
    from flowbatch.backends.docker.health import Health
    from flowbatch.backends.docker.launching import Launcher

log = Logger(__name__)

LOG_FIRST_S: Final = 2.0  # an end is told with its log complete, unless that takes longer: capacity waits for no flood
KILL_AGAIN_S: Final = 2.0
REVIVED_S: Final = 0.5  # for what was killed to be over
PAUSE_FIRST_S: Final = 0.1
PAUSE_LAST_S: Final = 5.0


class Follower:
    def __init__(
        self,
        api: Api,
        health: Health,
        launcher: Launcher,
        digests: Digests,
        clock: Clock,
        boot: Boot,
        report: Callable[[Fact], None],
        runs: Callable[[Attempt], None],
        gone: Callable[[Attempt], None],
    ) -> None:
        self._api = api
        self._health = health
        self._launcher = launcher
        self._digests = digests
        self._clock = clock
        self._boot = boot
        self._report = report
        self._runs = runs
        self._gone = gone

    async def attend(self, attempt: Attempt) -> None:
        pause = PAUSE_FIRST_S
        try:
            while True:
                try:
                    if not await self._step(attempt):
                        return
                    pause = PAUSE_FIRST_S
                except EngineError as error:
                    if error.kind is Kind.UNKNOWN:
                        self._health.doubt()
                    log.info("docker_call_failed", attempt=attempt.key.id, error=error.message)
                    await anyio.sleep(pause)
                    pause = min(pause * 2, PAUSE_LAST_S)
                    await self._health.settled()
        finally:
            attempt.busy = False

    async def _step(self, attempt: Attempt) -> bool:
        """The next thing to do about it; False where there is nothing."""
        if attempt.fact is not None:
            return await self._after(attempt)
        if attempt.started_at is None:
            await self._launch(attempt)
        elif attempt.look:
            await self._look(attempt)
        elif attempt.grace_ms is not None:
            await self._stop(attempt, attempt.grace_ms)
        elif attempt.kill_at is not None:
            await self._await_end(attempt, attempt.kill_at)
        else:
            return False
        return True

    async def _launch(self, attempt: Attempt) -> None:
        outcome = await self._launcher.launch(attempt)
        now = self._clock.now()
        if isinstance(outcome, Evidence):
            self._fail(attempt, outcome, now)
        elif not outcome.begun:
            attempt.id = outcome.id
            self._fail(attempt, evidence(outcome, self._boot, (), stopped=False), now)
        else:
            attempt.take(outcome, anyio.current_time())
            attempt.image = await self.image_of(outcome)
            if outcome.over:
                await self._end(attempt, outcome)
            elif attempt.foul is not None:
                await self._kill_foul(attempt)
            elif attempt.started_at is not None:
                attempt.told = True
                self._runs(attempt)
                self._report(Started(attempt.key, attempt.started_at, outcome.id, attempt.address, attempt.image))
        attempt.order = None

    async def image_of(self, look: Look) -> str:
        return await self._digests.of(look.image, look.reference) if look.image else ""

    async def _kill_foul(self, attempt: Attempt) -> None:
        """Before anybody is told that it runs; its end is then that of a launch that failed."""
        log.error("mount_swapped", attempt=attempt.key.id, container=attempt.id, why=attempt.foul)
        attempt.stopped = True
        attempt.kill_at = anyio.current_time()
        attempt.look = True
        await self._signal(attempt, "SIGKILL")

    def _fail(self, attempt: Attempt, why: Evidence, now: Millis) -> None:
        attempt.fact = LaunchFailed(attempt.key, now, why)
        attempt.log_done = True
        self._report(attempt.fact)

    # --- it runs

    async def _look(self, attempt: Attempt) -> None:
        attempt.look = False
        try:
            look = parse(await self._api.inspect(attempt.id), self._api.ahead_ms)
        except EngineError as error:
            attempt.look = True
            if error.kind is Kind.NOT_FOUND:
                self._vanished(attempt)
                return
            raise
        attempt.looked_at = anyio.current_time()
        if look.over:
            await self._end(attempt, look)

    def _vanished(self, attempt: Attempt) -> None:
        """What its log said last is gone with it (D36)."""
        attempt.log.close()
        attempt.log_done = True
        attempt.id = ""
        attempt.fact = Exited(attempt.key, self._clock.now(), VANISHED, attempt.started_at)
        self._report(attempt.fact)

    async def _end(self, attempt: Attempt, look: Look) -> None:
        fact = await self.conclude(attempt, look)
        if isinstance(fact, Exited) and not attempt.told and look.started_at is not None:
            self._report(Started(attempt.key, look.started_at, look.id, image=attempt.image))
        attempt.fact = fact
        self._report(fact)

    async def conclude(self, attempt: Attempt, look: Look) -> Exited | LaunchFailed:
        """What to tell of a container that is over."""
        with anyio.move_on_after(LOG_FIRST_S):
            try:
                await self._finish_log(attempt)
            except EngineError:
                pass  # tried again after the end is told
        if look.exit_code in KILLS and not attempt.stopped:
            await self._health.confirm()  # it may be the daemon that kills, on its way out
        outages = self._health.outages
        seen = evidence(look, self._boot, outages, stopped=attempt.stopped, oom_event=attempt.oom_event)
        seen = read_from_log(seen, attempt.log.beginning(), truncated=attempt.log.truncated)
        if attempt.foul is not None:
            seen = Evidence(start_error=f"ResourceInitializationError: {attempt.foul}", breach=True)
        # The Engine stamps a start after it, and may see a quick end before.
        at = max(look.finished_at or self._clock.now(), look.started_at or Millis(0))
        if seen.start_error is not None and not attempt.told:
            return LaunchFailed(attempt.key, at, seen)
        return Exited(attempt.key, at, seen, look.started_at, attempt.image)

    async def _finish_log(self, attempt: Attempt) -> None:
        try:
            await attempt.log.read(self._api, attempt.id, last=True)
        except EngineError as error:
            if error.kind is Kind.UNKNOWN:
                raise
            # Its driver cannot be read, or the container is gone: there is no more to have.
            log.warning("docker_log_incomplete", attempt=attempt.key.id, error=error.message)
            attempt.log.close()
        attempt.log_done = True

    async def _stop(self, attempt: Attempt, grace_ms: int) -> None:
        """TERM once, KILL when the grace is over; a later stop may hurry. By our own clock: a stop of the Engine's would hold
        a connection for as long as the grace lasts."""
        attempt.stopped = True  # whatever comes from now on may be the answer to us
        kill_at = anyio.current_time() + grace_ms / 1000
        if grace_ms > 0 and not attempt.asked:
            await self._ask(attempt)
            attempt.asked = True
        attempt.kill_at = kill_at if attempt.kill_at is None else min(kill_at, attempt.kill_at)
        if attempt.grace_ms == grace_ms:
            attempt.grace_ms = None

    async def _ask(self, attempt: Attempt) -> None:
        """With the image's STOPSIGNAL, which may be none: the Engine then refuses it, and any other but KILL. So it cannot be asked, and is
        killed once its grace is over."""
        try:
            await self._signal(attempt, attempt.stop_signal)
        except EngineError as error:
            if error.kind is Kind.UNKNOWN:
                raise
            log.warning("stop_signal_refused", attempt=attempt.key.id, signal=attempt.stop_signal, error=error.message)

    async def _await_end(self, attempt: Attempt, kill_at: float) -> None:
        with anyio.move_on_after(kill_at - anyio.current_time()):
            await attempt.wake.wait()
        if attempt.fact is None and not attempt.look and anyio.current_time() >= kill_at:
            await self._signal(attempt, "SIGKILL")
            attempt.kill_at = anyio.current_time() + KILL_AGAIN_S
            attempt.look = True

    async def _signal(self, attempt: Attempt, signal: str) -> None:
        try:
            await self._api.kill(attempt.id, signal)
        except EngineError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.CONFLICT):
                raise
            attempt.look = True  # it does not run any more (D11)

    # --- it has ended

    async def _after(self, attempt: Attempt) -> bool:
        if not attempt.log_done:
            await self._finish_log(attempt)
            return True
        if not attempt.forget or attempt.later:
            return False
        if attempt.id:
            try:
                await self._api.remove(attempt.id)
            except EngineError as error:
                if error.kind is Kind.UNKNOWN or "in progress" in error.message:
                    raise  # as long as it is there, a census would find it
                if error.kind is Kind.CONFLICT and not attempt.revived:
                    attempt.revived = True
                    log.warning("docker_runs_again", attempt=attempt.key.id, container=attempt.id)
                    await self._signal(attempt, "SIGKILL")
                    await anyio.sleep(REVIVED_S)
                    return True
                if error.kind is not Kind.NOT_FOUND:
                    attempt.later = True
                    log.warning("docker_remove_failed", attempt=attempt.key.id, error=error.message)
                    return False
        self._gone(attempt)
        return False
