"""Who may do what, and what was done: keys, policies and the audit log as rows (security.md §1, 2, 8)."""

from __future__ import annotations

from typing import NamedTuple

from flowbatch.model.ids import Millis


class KeyRow(NamedTuple):
    """A key of the server. Its secret is derived and stored nowhere; a rotated key has the next generation."""

    id: str
    name: str  # of the principal: `user/NAME` in its ARN
    generation: int
    policies: tuple[str, ...]  # their names
    created_at: Millis
    expires_at: Millis | None
    revoked_at: Millis | None

    def valid(self, now: Millis) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class PolicyRow(NamedTuple):
    name: str
    document: str  # JSON in IAM's shape
    updated_at: Millis


class AuditRow(NamedTuple):
    """One call. The store numbers it and ties it to the one before by a hash."""

    at: Millis
    principal: str
    key_id: str | None
    address: str | None  # of the caller
    agent: str | None
    action: str  # `batch:SubmitJob`
    resource: str  # the ARN that it was decided on, or `*`
    allowed: bool
    statement: str | None  # the one that decided
    request_id: str
    params: str | None  # the request as JSON, values of variables left out; None: too long
    digest: str  # of the body as it came
    response: str | None = None  # of what changed something
    error: str | None = None  # `Code: message`
