"""Named volumes of runs that the store no longer knows: what `gc` removes, and a network that nobody is in. Kept ones stay, whatever becomes of their run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from flowbatch.backends.docker import names
from flowbatch.backends.docker.api import Api
from flowbatch.backends.docker.checks import reach
from flowbatch.backends.docker.errors import EngineError
from flowbatch.backends.docker.instance import instance_file
from flowbatch.backends.docker.networks import sweep_networks
from flowbatch.backends.docker.session import opened
from flowbatch.errors import BackendUnavailable


async def sweep_volumes(folder: Path, known: Callable[[str], bool], endpoint: str | None = None) -> int:
    """Returns how many went. None where no Engine answers: the next `gc` sees to it."""
    try:
        instance = json.loads(instance_file(folder).read_text(encoding="utf-8"))["instance"]
    except (OSError, ValueError, KeyError):
        return 0  # there never was a container
    gone = 0
    try:
        async with opened(Api(endpoint)) as api:
            await reach(api)
            for volume in await api.volumes([f"{names.INSTANCE}={instance}"]):
                marks = volume.get("Labels") or {}
                if names.KEEP not in marks and not known(marks.get(names.RUN, "")):
                    gone += await removed(api, volume["Name"])
            await sweep_networks(api, instance)
    except (EngineError, BackendUnavailable):
        pass
    return gone


async def removed(api: Api, name: str) -> bool:
    try:
        await api.remove_volume(name)
    except EngineError:
        return False  # still in use
    return True
