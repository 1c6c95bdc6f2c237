"""How an attempt ended: the evidence a backend gives, and the verdict the core makes of it."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from msgspec import Struct


class Halt(IntEnum):
    """Why flowbatch asked an attempt to stop. Stored with the attempt before the backend is asked."""

    NONE = 0
    TIMEOUT = 1
    TERMINATE = 2
    INTERRUPT = 3
    RECLAIM = 4  # its host is taken back: Spot capacity, or an environment that is replaced


class Evidence(Struct, frozen=True):
    """What a backend saw of an end.

    exit_code is None where it cannot be known; a signal's death reads 128 + signal. `timed_out`: the backend itself
    enforced the timeout. `oom`: killed over its memory limit. `start_error`: it never ran (`CannotStartContainerError: …`,
    `CannotPullContainerError: …`, `ResourceInitializationError: …`). `breach`: it began with something else than was judged, and was
    killed for that, which `start_error` tells. `lost`: nobody can say how it ended.
    """

    exit_code: int | None = None
    oom: bool = False
    timed_out: bool = False
    start_error: str | None = None
    lost: bool = False
    detail: str | None = None  # for the container's reason, e.g. what was lost
    truncated: bool = False  # the log was capped
    breach: bool = False


class EndClass(StrEnum):
    SUCCESS = "success"
    APP = "app"
    START = "start"
    TIMEOUT = "timeout"
    USER = "user"  # terminated
    INTERRUPTED = "interrupted"
    INFRA = "infra"


class Verdict(Struct, frozen=True):
    """`status_reason` is the attempt's statusReason, `reason` is container.reason (aws-batch.md §1.2)."""

    end: EndClass
    exit_code: int | None
    reason: str | None
    status_reason: str
    truncated: bool = False  # of the attempt's log the beginning is gone
