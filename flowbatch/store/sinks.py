"""What a turn writes of sinks: where they begin, how far they are, and what became of what they could not deliver."""

from __future__ import annotations

import sqlite3
from typing import Final

from msgspec import json

from flowbatch.model.notify import Notify, SinkProgress, SinkStatus
from flowbatch.model.rows import Writes
from flowbatch.store import statements

DELIVERIES_KEPT: Final = 2_000  # rows of a sink, of up to 64 deliveries and more each
PRUNE_EVERY: Final = 128


def notify_of(text: str) -> Notify:
    return json.decode(text, type=Notify)


def write(db: sqlite3.Connection, writes: Writes) -> None:
    """Before the turn's events: a new sink begins with these."""
    changes = writes.sinks
    for row in changes.opened:
        notify = json.encode(row.notify).decode()
        db.execute(statements.PUT_SINK, (row.key, row.run, notify, row.created_at))
    for copy in changes.copied:
        db.execute(statements.COPY_SINK, (copy.key, copy.after, copy.until, copy.created_at, copy.source))
    for run in changes.reopened:
        db.execute(statements.REOPEN_SINKS, (run,))
    for key in changes.enabled:
        db.execute(statements.ENABLE_SINK, (key,))
        db.execute(statements.TRY_PARKED, (key,))
    for key in changes.revived:
        db.execute(statements.REVIVE_DEAD, (key,))
        db.execute(statements.DROP_DEAD, (key,))
    for progress in changes.progress:
        write_progress(db, progress)


def write_progress(db: sqlite3.Connection, progress: SinkProgress) -> None:
    key, trouble, acks = progress.key, progress.trouble, progress.acks
    first, last = progress.digest or (None, None)
    since, tries, error = (None, 0, None) if trouble is None else (trouble.since, trouble.tries, trouble.error)
    db.execute(
        statements.PROGRESS_SINK,
        (
            progress.cursor, len(acks), progress.failures, len(progress.dead), acks[-1].at if acks else None, since,
            tries, error, first, last, key,
        ),
    )  # fmt: skip
    if progress.unpark:
        db.executemany(statements.DROP_PARKED, [(key, seq) for seq in progress.unpark])
    if progress.park:
        db.executemany(
            statements.PUT_PARKED, [(key, p.seq, p.tries, p.next_at, p.error, p.first) for p in progress.park]
        )
    if progress.dead:
        db.executemany(
            statements.PUT_DEAD,
            [(key, dead.seq, dead.tries, dead.at, dead.error, dead.first) for dead in progress.dead],
        )
    if progress.gaps:
        db.executemany(statements.PUT_GAP, [(key, first, last, progress.at) for first, last in progress.gaps])
    if acks:
        told = [[ack.seq, ack.tries, ack.status, ack.latency_ms, progress.at - ack.at] for ack in acks]
        made = db.execute(statements.PUT_DELIVERY, (key, progress.at, json.encode(told).decode())).lastrowid
        if made is not None and made % PRUNE_EVERY == 0:
            db.execute(statements.PRUNE_DELIVERIES, (key, key, DELIVERIES_KEPT))
    if progress.disable is not None:
        db.execute(statements.SET_SINK, (SinkStatus.DISABLED.value, progress.disable, key))
    elif progress.close:
        db.execute(statements.SET_SINK, (SinkStatus.CLOSED.value, None, key))
