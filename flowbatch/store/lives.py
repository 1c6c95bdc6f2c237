"""What a life of the engine begins with."""

from __future__ import annotations

import sqlite3

from msgspec.structs import replace

from flowbatch.model.rows import Loaded
from flowbatch.model.tokens import TokenUpdateRow
from flowbatch.store import access, loading, statements


def open_work(db: sqlite3.Connection, boot_id: str) -> Loaded:
    """Everything that is open, and what is known beside it. Inside a transaction."""
    open_runs = [number for (number,) in db.execute(statements.OPEN_RUNS).fetchall()]
    shared = list(map(loading.token_row, db.execute(statements.SHARED_TOKENS).fetchall()))
    loaded = loading.loaded(db, boot_id, open_runs, alone=True)
    return replace(
        loaded,
        definitions=loading.known_revisions(db),
        environments=[loading.environment_row(row) for row in db.execute(statements.ENVIRONMENTS).fetchall()],
        queues=[loading.queue_row(row) for row in db.execute(statements.QUEUES).fetchall()],
        token_updates=[TokenUpdateRow(*row) for row in db.execute(statements.TOKEN_UPDATES).fetchall()],
        scheduling=loading.scheduling(db),
        keys=[access.key_row(row) for row in db.execute(statements.KEYS).fetchall()],
        policies=[access.policy_row(row) for row in db.execute(statements.POLICIES).fetchall()],
        usage=loading.usage(db),
        heads=loading.heads(db),
        tokens=shared + loaded.tokens,
    )
