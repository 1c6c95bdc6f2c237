"""Keys, policies, tags and the audit log in the store."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

from pydantic_core import from_json, to_json

from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.rows import Writes
from flowbatch.store import statements
from flowbatch.store.bulk import Bulk

AUDIT: Final = Bulk(statements.PUT_AUDIT, 16, enums=(8,))
BEFORE_FIRST: Final = "0" * 64


def write(db: sqlite3.Connection, writes: Writes) -> None:
    for key in writes.keys.values():
        db.execute(statements.PUT_KEY, (*key[:3], to_json(list(key.policies)).decode(), *key[4:]))
    for policy_name, policy in writes.policies.items():
        if policy is None:
            db.execute(statements.DELETE_POLICY, (policy_name,))
        else:
            db.execute(statements.PUT_POLICY, policy)
    for (kind, name), tags in writes.tags.items():
        if tags is None:
            db.execute(statements.DELETE_TAGS, (kind, name))
        else:
            db.execute(statements.PUT_TAGS, (kind, name, to_json(dict(tags)).decode()))
    if writes.audit:
        seq, before = db.execute(statements.LAST_AUDIT).fetchone() or (0, BEFORE_FIRST)
        AUDIT.write(db, list(chained(seq, before, writes.audit)))
    if writes.audit_pruned is not None:  # behind the record that says so, which is never among what goes
        upto, at = writes.audit_pruned
        db.execute(statements.PUT_AUDIT_PRUNED, (at, upto))
        db.execute(statements.DROP_AUDIT)


def chained(seq: int, before: str, rows: Iterable[AuditRow]) -> Iterable[Sequence[int | str | None]]:
    """Rows as the table has them, the first behind row `seq`, whose hash is `before`."""
    for row in rows:
        seq += 1
        before = link(before, seq, row)
        yield (seq, *row, before)


def link(before: str, seq: int, row: AuditRow) -> str:
    """The hash of a row: SHA-256 of the JSON list of the hash before it, its number and its columns."""
    return hashlib.sha256(to_json([before, seq, *row])).hexdigest()


def key_row(row: Sequence[str | int | None]) -> KeyRow:
    id_, name, generation, policies, *times = row
    return KeyRow(id_, name, generation, tuple(from_json(str(policies))), *times)  # type: ignore[arg-type]


def policy_row(row: Sequence[str | int]) -> PolicyRow:
    return PolicyRow(*row)  # type: ignore[arg-type]


def audit_row(row: Sequence[str | int | None]) -> tuple[int, AuditRow, str]:
    """Its number, itself, its hash."""
    seq, *columns, digest = row
    columns[7] = bool(columns[7])
    return int(seq or 0), AuditRow(*columns), str(digest)  # type: ignore[arg-type]
