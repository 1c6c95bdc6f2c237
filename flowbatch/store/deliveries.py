"""What became of the event log, sink by sink, as JSON has it."""

from __future__ import annotations

from heapq import nlargest
from itertools import islice
from typing import Any

from flowbatch.model.notify import Ack
from flowbatch.store.outbox import Outbox, SinkView


def document(outbox: Outbox, views: list[SinkView], limit: int, *, failed: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"sinks": [sink_object(view) for view in views]}
    if failed:
        found["failed"] = [row for view in views for row in refusal_objects(outbox, view)]
    else:
        found["deliveries"] = [ack_object(view, ack) for view, ack in newest(outbox, views, limit)]
    return found


def newest(outbox: Outbox, views: list[SinkView], limit: int) -> list[tuple[SinkView, Ack]]:
    every = ((view, ack) for view in views for ack in islice(outbox.delivered(view), limit))
    return nlargest(limit, every, key=lambda pair: (pair[1].at, pair[1].seq))


def sink_object(view: SinkView) -> dict[str, Any]:
    return {
        "sink": view.key, "to": view.notify.target, "as": view.notify.form.value, "status": view.status.name,
        "status_reason": view.status_reason, "cursor": view.cursor, "lag": view.lag, "delivered": view.delivered,
        "failed": view.failed, "dead": view.dead, "failing_since": view.failing_since, "tries": view.tries,
        "error": view.error, "delivered_at": view.delivered_at,
    }  # fmt: skip


def ack_object(view: SinkView, ack: Ack) -> dict[str, Any]:
    return {
        "sink": view.key, "seq": ack.seq, "at": ack.at, "tries": ack.tries, "status": ack.status or None,
        "latency_ms": ack.latency_ms,
    }  # fmt: skip


def refusal_objects(outbox: Outbox, view: SinkView) -> list[dict[str, Any]]:
    found = outbox.refusals(view)
    rows: list[dict[str, Any]] = [
        {
            "sink": view.key,
            "state": "parked",
            "seq": row.seq,
            **({} if row.first is None else {"from": row.first}),
            "tries": row.tries,
            "next_at": row.next_at,
            "error": row.error,
        }
        for row in found.parked
    ]
    rows += [
        {
            "sink": view.key,
            "state": "dead",
            "seq": row.seq,
            **({} if row.first is None else {"from": row.first}),
            "tries": row.tries,
            "at": row.at,
            "error": row.error,
        }
        for row in found.dead
    ]
    return rows + [
        {"sink": view.key, "state": "gap", "from": first, "to": last, "at": at} for first, last, at in found.gaps
    ]
