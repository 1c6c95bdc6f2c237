"""`schedules`: which workflows of the library run when."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json_list, print_table, time_text

if TYPE_CHECKING:
    from flowbatch.model.ids import Millis
    from flowbatch.model.rows import ShelfRow
    from flowbatch.spec.cron import Schedule

NEXT_SHOWN: Final = 5  # times to come, for programs


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def schedules(place: Place, as_json: bool) -> int:
    """List the scheduled workflows of the folder that `serve` watches, the next one first.

    A time that passed while no server ran is still ahead of its file here: what becomes of it is decided by `missed` when one runs.
    """
    from flowbatch.clock import SystemClock

    now = SystemClock().now()
    with place.reader() as reader:
        shelves = [row for row in reader.shelves() if not row.gone]
    found = sorted(
        ((next(schedule.after(now)), row, schedule) for row in shelves if (schedule := schedule_of(row)) is not None),
        key=lambda each: (each[0], each[1].name),
    )
    if as_json:
        print_json_list(as_object(row, schedule, now) for _, row, schedule in found)
    elif not found:
        click.echo("No workflow here has a schedule; `flowbatch serve FOLDER` watches a folder of them.")
    else:
        print_table(
            ("WORKFLOW", "NEXT", "SCHEDULE", "TZ", "MISSED", "OVERLAP", "LAST RUN"),
            [
                (row.name, time_text(time), schedule.cron, schedule.tz, schedule.missed.value, schedule.overlap.value, last(row))
                for time, row, schedule in found
            ],
        )  # fmt: skip
    return 0


def schedule_of(row: ShelfRow) -> Schedule | None:
    """Of the version that is in force. It was valid when it was accepted; one that no longer is, is left out."""
    from flowbatch.errors import WorkflowInvalid
    from flowbatch.spec.compile import parse
    from flowbatch.spec.cron import parse_schedule

    try:
        given = parse(row.content.encode(), row.name).root.get("schedule")
        return parse_schedule(**given) if isinstance(given, dict) else None
    except (WorkflowInvalid, TypeError, ValueError):
        return None


def last(row: ShelfRow) -> str:
    return "-" if row.run is None else row.run[:8]


def as_object(row: ShelfRow, schedule: Schedule, now: Millis) -> dict[str, object]:
    return {
        "workflow": row.name,
        "cron": schedule.cron,
        "tz": schedule.tz,
        "missed": schedule.missed.value,
        "overlap": schedule.overlap.value,
        "next": list(islice(schedule.after(now), NEXT_SHOWN)),
        "seen_at": row.seen_at,
        "last_run": row.run,
    }
