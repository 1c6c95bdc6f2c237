"""The disk that the Engine keeps its images and containers on.

Nothing begins where it is nearly full, for there what runs loses its output and the Engine its way (D25). What meets a full disk all the
same, a pull, a create or a start, is tried again until there is room, however long that takes: no job fails of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio

from flowbatch.backends.docker.errors import EngineError, Kind

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api
    from flowbatch.backends.docker.health import Health

FREE_MIN_BYTES: Final = 2 << 30
FREE_MIN_SHARE: Final = 0.05
LOOK_AGAIN_S: Final = 1.0
FULL: Final = "no space left on device"
MIB: Final = 1 << 20


class Room:
    """How much is free below a folder, and how much has to be. Raises OSError where nobody here can know."""

    def __init__(self, folder: str, reserve_mib: int | None) -> None:
        stat = os.statvfs(folder)
        self.folder = folder
        self.free_bytes = stat.f_bavail * stat.f_frsize
        self.reserve_bytes = reserve_of(stat.f_blocks * stat.f_frsize, reserve_mib)

    @property
    def enough(self) -> bool:
        return self.free_bytes >= self.reserve_bytes

    def __str__(self) -> str:
        return (
            f"only {self.free_bytes // MIB:,} MiB are free in {self.folder}, and containers start from {self.reserve_bytes // MIB:,} MiB "
            "on: `docker system prune` frees some, `limits: {disk_free: …}` in the settings says how much has to be"
        )


class Disk:
    def __init__(self, api: Api, health: Health, reserve_mib: int | None) -> None:
        self._api = api
        self._health = health
        self._reserve_mib = reserve_mib
        self._asked = anyio.Lock()
        self._known = False
        self._folder: str | None = None  # None: unknown, or not on this machine
        self._waiting = 0
        self._problem: str | None = None

    @property
    def trouble(self) -> str | None:
        """What those who shall start wait for."""
        return self._problem if self._waiting else None

    def may_have_moved(self) -> None:
        """The daemon came back, perhaps with another configuration."""
        self._known = False

    async def room(self) -> None:
        """Returns once there is enough."""
        await self._find()
        self._waiting += 1
        try:
            while (problem := self._look()) is not None:
                self._problem = problem
                await anyio.sleep(LOOK_AGAIN_S)
        finally:
            self._waiting -= 1

    def _look(self) -> str | None:
        if self._folder is None:
            return None
        try:
            room = Room(self._folder, self._reserve_mib)
        except OSError:
            return None
        return None if room.enough else str(room)

    async def _find(self) -> None:
        async with self._asked:
            while not self._known:
                await self._health.settled()
                self._known = True
                try:
                    self._folder = root_of(await self._api.info(), local=self._api.socket_path is not None)
                except EngineError as error:
                    if error.kind is Kind.UNKNOWN:
                        self._known = False
                        self._health.doubt()


def reserve_of(total_bytes: int, reserve_mib: int | None) -> int:
    """What is asked for, in bytes; unless anything is, the larger of 2 GiB and a twentieth of the disk."""
    if reserve_mib is not None:
        return reserve_mib * MIB
    return max(FREE_MIN_BYTES, int(total_bytes * FREE_MIN_SHARE))


def root_of(info: Mapping[str, Any], *, local: bool) -> str | None:
    """Where the Engine keeps everything, where that is on this machine."""
    root = info.get("DockerRootDir")
    return root if local and isinstance(root, str) and root else None


def is_full(message: str) -> bool:
    return FULL in message.lower()
