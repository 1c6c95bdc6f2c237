"""`deliveries`: what became of the event log, receiver by receiver."""

from __future__ import annotations

from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import duration_text, one_line, print_json, print_table, time_text
from flowbatch.errors import InputError

Found = dict[str, Any]


@click.command()
@click.option("--sink", metavar="NAME", help="Of this receiver alone: slack, or 1a2b3c4d/slack of one run.")
@click.option(
    "--failed", is_flag=True, help="What was refused: tried again, given up, or gone before it was delivered."
)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many deliveries.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def deliveries(place: Place, sink: str | None, failed: bool, limit: int, as_json: bool) -> int:
    """Print how far each receiver is, and its newest deliveries: status, tries, how long the answer took.

    Every event reaches each receiver that wants it at least once, in order per job; what did not is printed by --failed.
    """
    told = looked_up(place, sink, limit, failed=failed)
    if as_json:
        print_json(told)
    elif not told["sinks"]:
        click.echo("No receiver of events is known: `notify:` in a workflow file or in the settings names some.")
    else:
        print_sinks(told["sinks"])
        if failed:
            print_refusals(told["failed"])
        else:
            print_delivered(told["deliveries"])
    return 0


def looked_up(place: Place, sink: str | None, limit: int, *, failed: bool) -> Found:
    if place.channel is not None:
        told: Found = place.channel.get("deliveries", sink=sink, limit=limit, failed=failed)
        return told
    from flowbatch.store.deliveries import document
    from flowbatch.store.outbox import Outbox

    if not place.folder.exists():
        raise InputError(f"{place.folder.path}: there is no state folder here yet; --state names another")
    with Outbox(place.folder.database) as outbox:
        return document(outbox, outbox.sinks() if sink is None else [outbox.find(sink)], limit, failed=failed)


def name_of(key: str) -> str:
    """`1a2b3c4d/slack`."""
    run, slash, name = key.rpartition("/")
    return f"{run[:8]}{slash}{name}"


def print_sinks(sinks: list[Found]) -> None:
    headers = ["RECEIVER", "TO", "STATE", "BEHIND", "DELIVERED", "FAILED TRIES", "GIVEN UP", "LAST"]
    rows = []
    for each in sinks:
        state = each["status"].lower()
        if each["failing_since"] is not None and state == "open":
            state = "failing"
        counts = [f"{each[column]:,}" for column in ("lag", "delivered", "failed", "dead")]
        rows.append([name_of(each["sink"]), one_line(each["to"]), state, *counts, time_text(each["delivered_at"])])
    print_table(headers, rows)
    for each in sinks:
        why = each["status_reason"] or each["error"]
        if why is not None:
            failing = each["failing_since"]
            since = (
                ""
                if failing is None
                else f" since {time_text(failing)}, {each['tries']} {'try' if each['tries'] == 1 else 'tries'}"
            )
            click.echo(f"{name_of(each['sink'])}:{since} {one_line(why)}")


def print_delivered(found: list[Found]) -> None:
    if not found:
        return
    click.echo()
    rows = [
        [
            time_text(each["at"]),
            name_of(each["sink"]),
            str(each["seq"]),
            str(each["status"] or "ok"),
            str(each["tries"]),
            duration_text(each["latency_ms"]),
        ]
        for each in reversed(found)
    ]
    print_table(["AT", "RECEIVER", "EVENT", "STATUS", "TRIES", "TOOK"], rows)


def print_refusals(found: list[Found]) -> None:
    rows = []
    for each in found:
        name = name_of(each["sink"])
        what = f"{each['from']}..{each['seq']}" if "from" in each and "seq" in each else str(each.get("seq"))
        if each["state"] == "parked":
            again = f"again at {time_text(each['next_at'])}" if each["next_at"] else "waits"
            rows.append([name, what, again, str(each["tries"]), one_line(each["error"])])
        elif each["state"] == "dead":
            rows.append([name, what, "given up", str(each["tries"]), one_line(each["error"])])
        else:
            rows.append([name, f"{each['from']}..{each['to']}", "gone", "-", "collected before it was delivered"])
    click.echo()
    if rows:
        print_table(["RECEIVER", "EVENT", "STATE", "TRIES", "WHY"], rows)
        states = {each["state"] for each in found}
        if "dead" in states:
            click.echo("`flowbatch redeliver --sink NAME --dead` tries again what was given up.")
        if "parked" in states:
            click.echo("`flowbatch notify flush` tries at once what waits to be tried again.")
    else:
        click.echo("Nothing was refused.")
