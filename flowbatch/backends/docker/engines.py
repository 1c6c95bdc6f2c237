"""The Docker Engines of a state folder: the one that this machine uses, and those of nodes elsewhere.

Each is a backend of its own: one that is away holds up nothing but itself. Each has a name of its own among the labels of containers too:
two endpoints may lead to the same Engine, and must not take each other's containers for strays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import anyio

from flowbatch.backends.docker.backend import ENDPOINT, DockerBackend
from flowbatch.model.ids import RunId
from flowbatch.model.places import ELSEWHERE
from flowbatch.ports import Clock

FOLDER: Final = "nodes"


class Engines:
    """`here` is made at once, the others when they are asked for; none connects before it is needed."""

    def __init__(
        self, folder: Path, logs: Path, clock: Clock, *, log_cap_bytes: int, disk_free_mib: int | None = None
    ) -> None:
        self._folder = folder
        self._logs = logs
        self._clock = clock
        self._log_cap_bytes = log_cap_bytes
        self._disk_free_mib = disk_free_mib
        self._made: dict[str, DockerBackend] = {}
        self.here = self._make("docker", folder, None)

    def __iter__(self) -> Iterator[DockerBackend]:
        return iter(tuple(self._made.values()))

    def need(self, name: str) -> None:
        """An Engine that holds what an earlier life began is asked from the start; another name is none of ours."""
        if name in self._made:
            self._made[name].need()

    def elsewhere(self, name: str) -> DockerBackend | None:
        """The backend of that name (`docker@tcp://farm:2376`); None where it names none of ours."""
        if not name.startswith(ELSEWHERE):
            return None
        found = self._made.get(name)
        if found is None:
            endpoint = name.removeprefix(ELSEWHERE)
            found = self._make(name, folder_of(self._folder, endpoint), endpoint)
        return found

    def hold_ups(self) -> list[tuple[str, str]]:
        """What more than one attempt may wait for, on any of them."""
        return [each for engine in self for each in engine.hold_ups()]

    def drop_volumes(self, run: RunId) -> None:
        for engine in self:
            engine.drop_volumes(run)

    async def tidy(self) -> None:
        async with anyio.create_task_group() as tasks:
            for engine in self:
                tasks.start_soon(engine.tidy, name=f"tidy {engine.name}")

    def _make(self, name: str, folder: Path, endpoint: str | None) -> DockerBackend:
        made = self._made[name] = DockerBackend(
            folder,
            self._logs,
            self._clock,
            log_cap_bytes=self._log_cap_bytes,
            disk_free_mib=self._disk_free_mib,
            endpoint=endpoint,
            name=name,
        )
        return made


def folder_of(folder: Path, endpoint: str) -> Path:
    """Of what is kept of an Engine elsewhere, below the folder of this machine's."""
    return folder / FOLDER / hashlib.sha256(endpoint.encode()).hexdigest()[:16]


def used_engines(folder: Path) -> Iterable[tuple[Path, str | None]]:
    """The folders of all Engines that a state folder has ever used, with their endpoints; None is this machine's."""
    if folder.exists():
        yield folder, None
    for file in sorted(folder.glob(f"{FOLDER}/*/{ENDPOINT}")):
        yield file.parent, file.read_text(encoding="utf-8").strip()
