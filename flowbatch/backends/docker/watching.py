"""Events as hints, lists and inspections as the truth: each only says which attempts are to be looked at.

The stream of events ends, stands still and forgets (D21 to D23); the list may be stale for ever on a full disk (D25). So a list of
what does not run every ten seconds, and about every minute, whatever that says, a look at each that should: at its process where this
machine shows it, else by an inspection. A thousand that merely sleep cost neither long lists nor inspections.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from flowbatch.backends.docker import names
from flowbatch.backends.docker.attempts import Attempt
from flowbatch.backends.docker.errors import EngineError, Kind
from flowbatch.logs import Logger
from flowbatch.model.ids import AttemptKey
from flowbatch.ports import Clock

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.health import Health

log = Logger(__name__)

LIST_EVERY_S: Final = 10.0
INSPECT_EVERY_S: Final = 60.0
INSPECTIONS: Final = 200  # a round at most: a thousand are seen to in 50 s
PAUSE_FIRST_S: Final = 0.1
PAUSE_LAST_S: Final = 5.0
SEEN_MAX: Final = 512  # events remembered around a reconnect; the Engine keeps 256
OVER: Final = ("created", "removing", "exited", "dead")

Attempts = Mapping[AttemptKey, Attempt]
Attend = Callable[[Attempt], None]


class Events:
    """`duplicate_starts` counts containers that began twice: a defect, of the Engine's or ours."""

    def __init__(
        self, api: Api, health: Health, clock: Clock, instance: str, attempts: Attempts, attend: Attend
    ) -> None:
        self._api = api
        self._health = health
        self._clock = clock
        self._instance = instance
        self._attempts = attempts
        self._attend = attend
        self._since = ""
        self._seen: dict[tuple[str, int, str], None] = {}
        self._reading: anyio.CancelScope | None = None
        self.duplicate_starts = 0

    def reconnect(self) -> None:
        """The daemon came back: a stream from before may hang for ever."""
        if self._reading is not None:
            self._reading.cancel()

    async def run(self) -> None:
        now = self._clock.now() + self._api.ahead_ms
        self._since = f"{now // 1000}.{now % 1000:03}"
        pause = PAUSE_FIRST_S
        while True:
            await self._health.settled()
            began = anyio.current_time()
            with anyio.CancelScope() as self._reading:
                try:
                    await self._read()
                    self._health.broken()
                except EngineError:
                    self._health.broken()
            self._reading = None
            pause = PAUSE_FIRST_S if anyio.current_time() - began > PAUSE_LAST_S else min(pause * 2, PAUSE_LAST_S)
            await anyio.sleep(pause)

    async def _read(self) -> None:
        filters = {
            "type": ["container"],
            "label": [f"{names.INSTANCE}={self._instance}"],
            "event": ["start", "die", "oom", "destroy"],
        }
        async with self._api.events({"since": self._since, "filters": json.dumps(filters)}) as lines:
            async for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            actor, at, action = event["Actor"], int(event["timeNano"]), event["Action"]
            attributes = actor["Attributes"]
        except (ValueError, KeyError, TypeError):
            return
        mark = (actor["ID"], at, action)
        if mark in self._seen:
            return
        self._seen[mark] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        self._since = f"{at // 1_000_000_000}.{at % 1_000_000_000:09}"
        key = names.attempt_of(self._instance, attributes.get("name", ""), attributes)
        attempt = None if key is None else self._attempts.get(key)
        if attempt is not None:
            self._hint(attempt, actor["ID"], action)

    def _hint(self, attempt: Attempt, container: str, action: str) -> None:
        if attempt.id and attempt.id != container:
            return
        if action == "start":
            attempt.starts += 1
            if attempt.starts == 2:
                self.duplicate_starts += 1
                log.error("duplicate_start", attempt=attempt.key.id, container=container)
            return
        if action == "oom":
            attempt.oom_event = True
            return
        if attempt.running:
            look_at(attempt, self._attend)
        elif attempt.fact is None:
            attempt.look = True  # news of its end have overtaken those of its start: it is looked at once these are in


def look_at(attempt: Attempt, attend: Attend) -> None:
    if attempt.running:
        attempt.look = True
        attend(attempt)


class Rounds:
    """The list every ten seconds, and a look at everything at once after the daemon came back."""

    def __init__(self, api: Api, health: Health, instance: str, attempts: Attempts, attend: Attend) -> None:
        self._api = api
        self._health = health
        self._instance = instance
        self._attempts = attempts
        self._attend = attend
        self._at_once = anyio.Event()
        self._all = False

    def now(self) -> None:
        """Everything that runs is to be looked at, not only what the list shows otherwise."""
        self._all = True
        self._at_once.set()

    async def run(self) -> None:
        while True:
            with anyio.move_on_after(LIST_EVERY_S):
                await self._at_once.wait()
            self._at_once = anyio.Event()
            if not self._attempts:
                continue
            await self._health.settled()
            try:
                await self.once()
            except EngineError as error:
                if error.kind is Kind.UNKNOWN:
                    self._health.doubt()

    async def once(self) -> None:
        asked = anyio.current_time()
        every, self._all = self._all, False
        over = {item["Id"] for item in await self._api.containers(f"{names.INSTANCE}={self._instance}", OVER)}
        stale = []
        for attempt in list(self._attempts.values()):
            if attempt.later:
                attempt.later = False
                self._attend(attempt)
            if not attempt.running or attempt.looked_at > asked:
                continue
            if every or attempt.id in over:
                look_at(attempt, self._attend)
            elif attempt.looked_at < asked - INSPECT_EVERY_S + LIST_EVERY_S:
                stale.append(attempt)
        stale.sort(key=lambda attempt: attempt.looked_at)
        for attempt in stale[:INSPECTIONS]:
            if self._api.lives(attempt.id, attempt.pid):
                attempt.looked_at = asked
            else:
                look_at(attempt, self._attend)


def listed_key(instance: str, item: Mapping[str, Any]) -> AttemptKey | None:
    """The attempt of a row of the list, None where it is not ours."""
    for name in item.get("Names") or ():
        key = names.attempt_of(instance, name, item.get("Labels") or {})
        if key is not None:
            return key
    return None
