"""The folders of this machine that a container mounts, looked at right before it is made. Blocks: for a thread.

A source was resolved and judged at submission; where it leads elsewhere by now, somebody has swapped it since (D31). One that is missing
is made where it shall be written to, as AWS Batch has it (aws-batch.md §6.5), but by us and as us: the Engine's Binds would do
it as root (D30). One that is only to be read stays missing: there would be nothing in it.
"""

from __future__ import annotations

import os

from flowbatch.model.container import Container
from flowbatch.spec.policy import moved


def has_binds(container: Container) -> bool:
    return any(not mount.volume for mount in container.mounts)


def prepare(container: Container) -> str | None:
    """Why it must not start, in one sentence."""
    wrong = moved(container, os.path.realpath)
    if wrong:
        return f"{wrong[0]}; submit the job again if that is meant"
    for mount in container.mounts:
        if mount.volume or os.path.lexists(mount.source):
            continue
        if mount.readonly:
            return f"{mount.source}, to be mounted at {mount.target} for reading, does not exist: create it"
        try:
            os.makedirs(mount.source, exist_ok=True)
        except OSError as error:
            return f"{mount.source}, to be mounted at {mount.target}, cannot be created: {error.strerror}"
    return None
