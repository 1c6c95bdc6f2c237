"""What of a job is a container's: AWS Batch's containerProperties as far as Docker can express them (aws-batch.md §6.5).

User fields become a whitelist of the Engine's HostConfig keys; what a policy forbids is refused at submission.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

HOLDER_IMAGE: Final = "flowbatch-holder:1"  # of what holds a network and does nothing; a backend makes it


class Pull(StrEnum):
    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class Cpu(StrEnum):
    """How vCPUs reach the Engine: as a weight (AWS on EC2) or as a hard cap (as on Fargate)."""

    SHARES = "shares"
    QUOTA = "quota"


class Mount(Struct, frozen=True):
    """A bind (absolute host path) or a named volume of the run."""

    source: str
    target: str  # absolute path in the container
    readonly: bool = False
    volume: bool = False  # `source` is a volume's name
    keep: bool = False  # the volume outlives its run


class Tmpfs(Struct, frozen=True):
    target: str
    size_mib: int
    options: tuple[str, ...] = ()


class Ulimit(Struct, frozen=True):
    name: str
    soft: int
    hard: int


class Device(Struct, frozen=True):
    host: str
    target: str
    permissions: str = "rwm"


class Log(Struct, frozen=True):
    """logConfiguration; `awslogs` means flowbatch's own log store."""

    driver: str
    options: tuple[tuple[str, str], ...] = ()


class Container(Struct, frozen=True):
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
