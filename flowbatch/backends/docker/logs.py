"""The logs of attempts: read from time to time while they run, completed after their end, before the container goes.

Nothing is followed: a stream per container would hold a connection each, and a follower of a log that rotates loses lines
(D27). Instead a few short readings a second, the talkative first; a reading asks for the newest entries alone, which the
Engine finds from the end of its file, and only where these are not all that is new for the whole rest.
"""

from __future__ import annotations

from heapq import heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from flowbatch.backends.docker.errors import EngineError, Kind
from flowbatch.backends.docker.frames import Intake, KeptLog, Position, resume

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.attempts import Attempt
    from flowbatch.backends.docker.health import Health

TAIL: Final = 500
ROUND_S: Final = 1.0
READINGS: Final = 3  # a round at most: what a thousand silent containers cost
PAUSE_MAX_S: Final = 60.0
PAUSE_MIN_S: Final = 3.0  # that a silent one is left alone for, where only few run
WATCHED_S: Final = 5.0  # for so long after somebody said that he reads along
LOAD: Final = 20  # a reading that took a second is followed by a pause of so many
READ_S: Final = 60.0  # without a byte
BEGINNING: Final = 4096


class AttemptLog:
    """`position` is None until the file that an earlier engine may have left was looked at."""

    __slots__ = ("due", "file", "lock", "pause", "position", "turn", "watched_until")

    def __init__(self, path: str, cap_bytes: int) -> None:
        self.file = KeptLog(path, cap_bytes)
        self.position: Position | None = None
        self.lock = anyio.Lock()
        self.due = anyio.current_time() + ROUND_S
        self.pause = ROUND_S
        self.watched_until = 0.0
        self.turn = 0

    @property
    def watched(self) -> bool:
        """When it is due, as far as is known now."""
        return self.watched_until >= self.due

    def watch(self) -> None:
        """Somebody reads along: what its task says should be there soon, however silent it was."""
        now = anyio.current_time()
        if self.watched_until < now:
            self.due = min(self.due, now)
        self.watched_until = now + WATCHED_S

    @property
    def truncated(self) -> bool:
        return self.file.truncated

    async def read(self, api: Api, container: str, *, last: bool) -> int:
        """Appends what is new; returns how many lines. `last`: the container has ended. Raises EngineError."""
        async with self.lock:
            if self.position is None:
                self.position = resume(Path(self.file.path))
            try:
                intake = await self._newest(api, container)
                if intake is None:
                    intake = Intake(self.file, self.position)
                    await self._stream(api, container, intake, self.position)
                if last:
                    intake.finish()
                return intake.lines
            finally:
                if last or self.file.fd >= 0:
                    self.file.close()

    async def _newest(self, api: Api, container: str) -> Intake | None:
        """None where there may be more than these."""
        assert self.position is not None
        chunks = bytearray()
        params = _params(self.position) | {"tail": str(TAIL)}
        with anyio.move_on_after(READ_S) as scope:
            async with api.logs(container, params) as stream:
                async for chunk in stream:
                    chunks += chunk
                    scope.deadline = anyio.current_time() + READ_S
        if scope.cancelled_caught:
            raise EngineError(Kind.UNKNOWN, "the log stands still")
        count, at = 0, 0
        while at < len(chunks):
            at += 8 + int.from_bytes(chunks[at + 4 : at + 8], "big")
            count += 1
        if count >= TAIL:
            return None
        intake = Intake(self.file, self.position)
        intake.feed(bytes(chunks))
        return intake

    async def _stream(self, api: Api, container: str, intake: Intake, position: Position) -> None:
        with anyio.move_on_after(READ_S) as scope:
            async with api.logs(container, _params(position)) as stream:
                async for chunk in stream:
                    intake.feed(chunk)
                    scope.deadline = anyio.current_time() + READ_S
        if scope.cancelled_caught:
            raise EngineError(Kind.UNKNOWN, "the log stands still")

    def close(self) -> None:
        """What never said anything leaves an empty file."""
        if self.position is None:
            self.file.close()

    def beginning(self) -> bytes:
        """Enough to tell a log that holds one line from others."""
        try:
            with open(self.file.path, "rb") as file:
                return file.read(BEGINNING)
        except OSError:
            return b""


def _params(position: Position) -> dict[str, str]:
    params = {"stdout": "1", "stderr": "1", "timestamps": "1"}
    since = position.since_ms
    if since:
        params["since"] = f"{since // 1000}.{since % 1000:03}"
    return params


class Readings:
    """Whose log is read next: first those that somebody reads along, then the others, each by when it is due. An attempt stands in line
    once, where it was put last; one that has ended leaves when its turn comes. So a round costs the same however many run."""

    def __init__(self) -> None:
        self._watched: list[tuple[float, int, Attempt]] = []  # heaps
        self._others: list[tuple[float, int, Attempt]] = []
        self._turns = 0

    def put(self, attempt: Attempt) -> None:
        log, self._turns = attempt.log, self._turns + 1
        log.turn = self._turns
        heappush(self._watched if log.watched else self._others, (log.due, log.turn, attempt))

    def watch(self, attempt: Attempt) -> None:
        before = attempt.log.watched
        attempt.log.watch()
        if attempt.running and attempt.log.watched and not before:
            self.put(attempt)

    def take(self, now: float) -> Attempt | None:
        for line in (self._watched, self._others):
            while line and line[0][0] <= now:
                _, turn, attempt = heappop(line)
                if attempt.running and attempt.log.turn == turn:
                    return attempt
        return None

    @property
    def pause_max(self) -> float:
        """Of a silent one: no longer than until all have had their turn, nor than anybody would wait."""
        return min(PAUSE_MAX_S, max(PAUSE_MIN_S, (len(self._watched) + len(self._others)) / READINGS))

    async def run(self, api: Api, health: Health) -> None:
        """For ever: some readings a round, of what is due; silence makes the pauses longer."""
        while True:
            await anyio.sleep(ROUND_S)
            await health.settled()
            now = anyio.current_time()
            for _ in range(READINGS):
                attempt = self.take(now)
                if attempt is None:
                    break
                await _read_one(api, attempt, self.pause_max)
                self.put(attempt)


async def _read_one(api: Api, attempt: Attempt, pause_max: float) -> None:
    log = attempt.log
    began = anyio.current_time()
    lines = 0
    try:
        with anyio.move_on_after(READ_S):
            lines = await log.read(api, attempt.id, last=False)
    except EngineError:
        pass  # gone, or the Engine is: others see to that
    now = anyio.current_time()
    log.pause = ROUND_S if lines or now < log.watched_until else min(log.pause * 2, pause_max)
    log.due = now + max(log.pause, (now - began) * LOAD)
