"""`schedules`: which workflows of the library run when."""

from __future__ import annotations

from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import counted, print_json_list, print_table, time_text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def schedules(place: Place, as_json: bool) -> int:
    """List the scheduled workflows of the folder that `serve` watches, the next one first.

    A time that passed while no server ran is still ahead of its file here: what becomes of it is decided by `missed` when one runs.
    """
    found = looked_up(place)
    if as_json:
        print_json_list(found)
    elif not found:
        click.echo("No workflow here has a schedule; `flowbatch serve FOLDER` watches a folder of them.")
    else:
        columns = ("workflow", "cron", "tz", "missed", "overlap")
        cells = [[str(each[column]) for column in columns] for each in found]
        rows = [
            [row[0], time_text(each["next"][0]), *row[1:], (each["last_run"] or "-")[:8]]
            for row, each in zip(cells, found, strict=True)
        ]
        print_table(("WORKFLOW", "NEXT", "SCHEDULE", "TZ", "MISSED", "OVERLAP", "LAST RUN"), rows)
        for each in found:
            if each["queued"]:
                waiting, since = counted(len(each["queued"]), "time"), time_text(each["queued"][0])
                click.echo(
                    f"{each['workflow']}: {waiting} since {since} {'wait' if len(each['queued']) > 1 else 'waits'} for the run before."
                )
    return 0


def looked_up(place: Place) -> list[dict[str, Any]]:
    if place.channel is not None:
        told: list[dict[str, Any]] = place.channel.get("schedules")["schedules"]
        return told
    from flowbatch.clock import SystemClock
    from flowbatch.spec.scheduled import scheduled

    with place.reader() as reader:
        return scheduled(reader.shelves(), SystemClock().now())
