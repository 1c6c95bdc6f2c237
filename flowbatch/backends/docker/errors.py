"""What can come of a call to the Engine, told apart by what it means for us."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    NOT_FOUND = "not found"
    CONFLICT = "conflict"
    REFUSED = "refused"  # 4xx: asked again, it would be refused again
    FAILED = "failed"  # 5xx: the Engine tried; the effect is to be looked up
    UNKNOWN = "unknown"  # no answer: it may have happened or not, or will yet


class EngineError(Exception):
    def __init__(self, kind: Kind, message: str, status: int = 0) -> None:
        self.kind = kind
        self.message = " ".join(message.split())
        self.status = status
        super().__init__(self.message)


def kind_of(status: int) -> Kind:
    """By HTTP status; aiodocker's 900 is a connection that failed, perhaps after the request was sent."""
    if status == 404:
        return Kind.NOT_FOUND
    if status == 409:
        return Kind.CONFLICT
    if 400 <= status < 500 and status not in (408, 429):
        return Kind.REFUSED
    if 500 <= status < 600 or status in (0, 429):
        return Kind.FAILED
    return Kind.UNKNOWN
