"""Which image a container was really made from: its tag may mean another one by the next attempt (security.md §6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import anyio

from flowbatch.backends.docker.errors import EngineError
from flowbatch.backends.docker.pulls import split

if TYPE_CHECKING:
    from flowbatch.backends.docker.api import Api

KEPT_MAX: Final = 1024


class Digests:
    """Asked once for each image of an Engine: what an id stands for does not change, but for the names that it has."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._asking = anyio.Lock()
        self._known: dict[tuple[str, str], str] = {}

    async def of(self, image_id: str, reference: str) -> str:
        """`name@sha256:…`, as a registry knows it; the Engine's own `sha256:…` where none does, or the image is gone."""
        key = (image_id, reference)
        if key not in self._known:
            async with self._asking:  # many that come at once, as in a recovery, ask once
                if key not in self._known:
                    try:
                        names = await self._api.digests(image_id)
                    except EngineError:
                        return image_id
                    if len(self._known) >= KEPT_MAX:
                        self._known.clear()
                    self._known[key] = chosen(names, reference) or image_id
        return self._known[key]


def chosen(names: Iterable[str], reference: str) -> str | None:
    """Of the image's names by digest, that of the repository that was asked for, else the first."""
    repository = short_name(split(reference)[0])
    names = sorted(names)
    return next(
        (name for name in names if short_name(name.partition("@")[0]) == repository), names[0] if names else None
    )


def short_name(repository: str) -> str:
    """As the Engine tells of it: without what stands for Docker's own registry."""
    for prefix in ("index.docker.io/", "docker.io/"):
        if repository.startswith(prefix):
            repository = repository.removeprefix(prefix)
            break
    return repository.removeprefix("library/")
