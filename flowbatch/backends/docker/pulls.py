"""Images: one pull of each at a time, for whoever waits; retried or not by what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec import Struct

from flowbatch.backends.docker.api import decoded
from flowbatch.backends.docker.credentials import auth_header
from flowbatch.backends.docker.disk import is_full
from flowbatch.backends.docker.errors import EngineError, Kind

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.disk import Disk
    from flowbatch.backends.docker.health import Health

IDLE_S: Final = 120.0
TRIES: Final = 5
PAUSE_FIRST_S: Final = 1.0
PAUSE_LAST_S: Final = 30.0
AT_ONCE: Final = 4  # different images
TELL_EVERY_S: Final = 0.5
PERMANENT: Final = (
    "access denied",
    "authentication required",
    "denied:",
    "invalid reference",
    "manifest invalid",
    "manifest unknown",
    "name unknown",
    "no basic auth",
    "no matching manifest",
    "not found",
    "repository does not exist",
    "repository name must be",
    "unauthorized",
    "unsupported",
)
PASSING: Final = ("toomanyrequests", "no such host", "server misbehaving")  # win over the words above


class Pull(Struct):
    """What a pull has come to. Sizes are those of the layers seen so far: they grow."""

    image: str
    done_bytes: int = 0
    total_bytes: int = 0
    over: bool = False
    error: str | None = None
    full: bool = False  # it waits for room on the disk

    def __str__(self) -> str:
        """How far it is, where that is known."""
        if self.full:
            return "the Docker Engine has no space left: `docker system prune` frees some"
        if not self.total_bytes:
            return ""
        return f"{self.done_bytes >> 20} of {self.total_bytes >> 20} MiB"


Tell = Callable[[Pull], None]


class Failed(Exception):
    def __init__(self, message: str, permanent: bool) -> None:
        self.permanent = permanent
        super().__init__(message)


class Puller:
    def __init__(self, api: Api, health: Health, disk: Disk, tasks: TaskGroup, tell: Tell) -> None:
        self._api = api
        self._health = health
        self._disk = disk
        self._tasks = tasks
        self._tell = tell
        self._under_way: dict[str, tuple[Pull, anyio.Event]] = {}
        self._room = anyio.CapacityLimiter(AT_ONCE)

    async def pull(self, image: str) -> str | None:
        """Joins the pull of that image that is under way, or begins one. Returns what went wrong for good. Its end does not
        depend on this caller's."""
        held = self._under_way.get(image)
        if held is None:
            held = self._under_way[image] = (Pull(image), anyio.Event())
            self._tasks.start_soon(self._run, *held, name=f"pull {image}")
        await held[1].wait()
        return held[0].error

    async def _run(self, pull: Pull, over: anyio.Event) -> None:
        try:
            self._tell(pull)
            async with self._room:
                await self._try(pull)
        finally:
            pull.over = True
            del self._under_way[pull.image]
            over.set()
            self._tell(pull)

    async def _try(self, pull: Pull) -> None:
        pause, left = PAUSE_FIRST_S, TRIES
        while True:
            await self._health.settled()
            await self._disk.room()
            try:
                await self._once(pull)
                return
            except Failed as error:
                message, permanent = str(error), error.permanent
            except EngineError as error:
                if error.kind is Kind.UNKNOWN:
                    self._health.doubt()
                message, permanent = error.message, is_permanent(error.message) or error.kind is Kind.REFUSED
            pull.full = is_full(message)
            left -= not pull.full  # room is waited for, however long that takes (D25)
            if (permanent and not pull.full) or not left:
                pull.error = message
                return
            self._tell(pull)
            await anyio.sleep(pause)
            pause = min(pause * 3, PAUSE_LAST_S)

    async def _once(self, pull: Pull) -> None:
        auth = await anyio.to_thread.run_sync(auth_header, pull.image)
        name, tag = split(pull.image)
        params = {"fromImage": name} | ({"tag": tag} if tag else {})
        layers: dict[str, tuple[int, int]] = {}
        told = 0.0
        with anyio.move_on_after(IDLE_S) as scope:
            async with self._api.pull(params, auth) as lines:
                async for line in lines:
                    now = anyio.current_time()
                    scope.deadline = now + IDLE_S
                    self._take(pull, decoded(line, dict), layers)
                    if now - told >= TELL_EVERY_S:
                        told = now
                        self._tell(pull)
        if scope.cancelled_caught:
            raise Failed(f"the pull of {pull.image} stood still for {IDLE_S:.0f} s", permanent=False)

    def _take(self, pull: Pull, news: dict[str, Any], layers: dict[str, tuple[int, int]]) -> None:
        message = (news.get("errorDetail") or {}).get("message") or news.get("error")
        if message:
            raise Failed(" ".join(str(message).split()), is_permanent(message))
        pull.full = False
        detail = news.get("progressDetail") or {}
        if news.get("status") == "Downloading" and detail.get("total") and "id" in news:
            layers[news["id"]] = (detail.get("current", 0), detail["total"])
        elif news.get("status") in ("Download complete", "Pull complete") and news.get("id") in layers:
            layers[news["id"]] = (layers[news["id"]][1],) * 2
        pull.done_bytes = sum(done for done, _ in layers.values())
        pull.total_bytes = sum(total for _, total in layers.values())


def is_permanent(message: str) -> bool:
    text = message.lower()
    return not any(word in text for word in PASSING) and any(word in text for word in PERMANENT)


def split(image: str) -> tuple[str, str]:
    """Name and tag, or digest; `latest` where neither is said: without one the Engine would pull every tag there is."""
    name, at, digest = image.partition("@")
    if at:
        return name.rpartition(":")[0] if ":" in name.rpartition("/")[2] else name, digest
    head, slash, last = image.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{head}{slash}{base}", tag or "latest"
