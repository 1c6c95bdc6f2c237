"""Names and labels: what makes every act on a container repeatable, and ours tellable from others'."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from flowbatch.model.ids import ALONE, AttemptKey, RunId

INSTANCE: Final = "flowbatch.instance"
JOB: Final = "flowbatch.job"
ATTEMPT: Final = "flowbatch.attempt"
SPEC: Final = "flowbatch.spec"
BOOT: Final = "flowbatch.boot"
RUN: Final = "flowbatch.run"
VOLUME: Final = "flowbatch.volume"
KEEP: Final = "flowbatch.keep"
RESERVED: Final = "flowbatch."
NO_BOOT: Final = "-"  # of a daemon elsewhere, or where the kernel does not say


def container_name(instance: str, key: AttemptKey) -> str:
    """The same for every launch of an attempt: a second create conflicts instead of making a second container."""
    member = "" if key.member == ALONE else f"-{key.member}"
    return f"fb-{instance[:8]}-{key.job}-{key.idx}-{key.attempt}{member}"


def network_name(instance: str) -> str:
    """Of the one that all multi-node jobs of a state folder share."""
    return f"fb-{instance[:8]}"


def volume_name(instance: str, run: RunId | str, name: str) -> str:
    return f"fb-{instance[:8]}-{run}-{name}"


def labels(instance: str, key: AttemptKey, boot: str, run: str | None) -> dict[str, str]:
    ours = {INSTANCE: instance, JOB: key.job, ATTEMPT: key.id, BOOT: boot}
    if run is not None:
        ours[RUN] = run
    return ours


def attempt_of(instance: str, name: str, found: Mapping[str, str]) -> AttemptKey | None:
    """The attempt that a container is of, or None where it is not ours.

    The name has to agree with the labels: somebody may have copied these onto a container of their own.
    """
    if found.get(INSTANCE) != instance:
        return None
    try:
        key = AttemptKey.parse(found.get(ATTEMPT, ""))
    except ValueError:
        return None
    return key if name.removeprefix("/") == container_name(instance, key) else None


def spec_hash(body: Mapping[str, Any]) -> str:
    """Of what is asked for, less the values of variables: they may be secrets, and a hash of a short one can be searched."""
    names = sorted(entry.partition("=")[0] for entry in body.get("Env", ()))
    text = json.dumps({**body, "Env": names}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
