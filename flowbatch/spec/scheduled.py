"""Which files of a server's library run when, as JSON has it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from flowbatch.errors import WorkflowInvalid
from flowbatch.model.ids import Millis
from flowbatch.model.rows import ShelfRow
from flowbatch.spec.compile import parse
from flowbatch.spec.cron import Schedule, parse_schedule

NEXT_SHOWN: Final = 5  # times to come


def scheduled(rows: Iterable[ShelfRow], now: Millis) -> list[dict[str, Any]]:
    """The next one first. A time that passed while no server ran is still ahead of its file: what becomes of it is decided by `missed`
    when one runs."""
    found = [
        as_object(row, schedule, now) for row in rows if not row.gone and (schedule := schedule_of(row)) is not None
    ]
    return sorted(found, key=lambda each: (each["next"][0], each["workflow"]))


def schedule_of(row: ShelfRow) -> Schedule | None:
    """Of the version that is in force. It was valid when it was accepted; one that no longer is, is left out."""
    try:
        given = parse(row.content.encode(), row.name).root.get("schedule")
        return parse_schedule(**given) if isinstance(given, dict) else None
    except (WorkflowInvalid, TypeError, ValueError):
        return None


def as_object(row: ShelfRow, schedule: Schedule, now: Millis) -> dict[str, Any]:
    return {
        "workflow": row.name,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "missed": schedule.missed.value,
        "overlap": schedule.overlap.value,
        "next": list(islice(schedule.after(now), NEXT_SHOWN)),
        "queued": list(row.queued),
        "seen_at": row.seen_at,
        "last_run": row.run,
    }
