"""What of a job is a container's: AWS Batch's containerProperties as far as Docker can express them (aws-batch.md §6.5).

User fields become a whitelist of the Engine's HostConfig keys; what a policy forbids is refused at submission.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from flowbatch.model.record import record

HOLDER_IMAGE: Final = "flowbatch-holder:1"  # of what holds a network and does nothing; a backend makes it


class Pull(StrEnum):
    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class Cpu(StrEnum):
    """How vCPUs reach the Engine: as a weight (AWS on EC2) or as a hard cap (as on Fargate)."""

    SHARES = "shares"
    QUOTA = "quota"


@record
class Mount:
    """A bind (absolute host path) or a named volume of the run."""

    source: str
    target: str  # absolute path in the container
    readonly: bool = False
    volume: bool = False  # `source` is a volume's name
    keep: bool = False  # the volume outlives its run


@record
class Tmpfs:
    target: str
    size_mib: int
    options: tuple[str, ...] = ()


@record
class Ulimit:
    name: str
    soft: int
    hard: int


@record
class Device:
    host: str
    target: str
    permissions: str = "rwm"


@record
class Log:
    """logConfiguration; `awslogs` means flowbatch's own log store."""

    driver: str
    options: tuple[tuple[str, str], ...] = ()


@record
class Container:
    """The container of a job. None, and empty, mean the Engine's or the image's own."""

    image: str
    pull: Pull = Pull.MISSING
    workdir: str | None = None
    user: str | None = None
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[Device, ...] = ()
    privileged: bool = False
    readonly: bool = False  # readonlyRootFilesystem
    init: bool = True
    shm_mib: int | None = None
    swap_mib: int = 0  # maxSwap, beyond the memory limit
    swappiness: int | None = None
    network: str = "bridge"  # bridge | none | host
    log: Log | None = None
    cpu: Cpu | None = None  # None: as the environment says
    labels: tuple[tuple[str, str], ...] = ()  # propagated tags
