"""`deliveries`: what became of the event log, receiver by receiver."""

from __future__ import annotations

from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import duration_text, one_line, print_json, print_table, time_text
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.model.notify import Ack
    from flowbatch.store.outbox import Outbox, SinkView


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
    from flowbatch.store.outbox import Outbox

    if not place.folder.exists():
        raise InputError(f"{place.folder.path}: there is no state folder here yet; --state names another")
    with Outbox(place.folder.database) as outbox:
        views = outbox.sinks() if sink is None else [outbox.find(sink)]
        if as_json:
            print_json(document(outbox, views, limit, failed=failed))
        elif not views:
            click.echo("No receiver of events is known: `notify:` in a workflow file or in the settings names some.")
        else:
            print_sinks(views)
            if failed:
                print_refusals(outbox, views)
            else:
                print_delivered(outbox, views, limit)
    return 0


def document(outbox: Outbox, views: list[SinkView], limit: int, *, failed: bool) -> dict[str, object]:
    found: dict[str, object] = {"sinks": [sink_object(view) for view in views]}
    if failed:
        found["failed"] = [row for view in views for row in refusal_objects(outbox, view)]
    else:
        found["deliveries"] = [ack_object(view, ack) for view, ack in newest(outbox, views, limit)]
    return found


def newest(outbox: Outbox, views: list[SinkView], limit: int) -> list[tuple[SinkView, Ack]]:
    every = ((view, ack) for view in views for ack in islice(outbox.delivered(view), limit))
    return nlargest(limit, every, key=lambda pair: (pair[1].at, pair[1].seq))


def sink_object(view: SinkView) -> dict[str, object]:
    return {
        "sink": view.key, "to": view.notify.target, "as": view.notify.form.value, "status": view.status.name,
        "status_reason": view.status_reason, "cursor": view.cursor, "lag": view.lag, "delivered": view.delivered,
        "failed": view.failed, "dead": view.dead, "failing_since": view.failing_since, "tries": view.tries,
        "error": view.error, "delivered_at": view.delivered_at,
    }  # fmt: skip


def ack_object(view: SinkView, ack: Ack) -> dict[str, object]:
    return {
        "sink": view.key, "seq": ack.seq, "at": ack.at, "tries": ack.tries, "status": ack.status or None,
        "latency_ms": ack.latency_ms,
    }  # fmt: skip


def refusal_objects(outbox: Outbox, view: SinkView) -> list[dict[str, object]]:
    found = outbox.refusals(view)
    rows: list[dict[str, object]] = [
        {
            "sink": view.key,
            "state": "parked",
            "seq": row.seq,
            "tries": row.tries,
            "next_at": row.next_at,
            "error": row.error,
        }
        for row in found.parked
    ]
    rows += [
        {"sink": view.key, "state": "dead", "seq": row.seq, "tries": row.tries, "at": row.at, "error": row.error}
        for row in found.dead
    ]
    return rows + [
        {"sink": view.key, "state": "gap", "from": first, "to": last, "at": at} for first, last, at in found.gaps
    ]


def print_sinks(views: list[SinkView]) -> None:
    headers = ["RECEIVER", "TO", "STATE", "BEHIND", "DELIVERED", "FAILED TRIES", "GIVEN UP", "LAST"]
    rows = []
    for view in views:
        state = view.status.name.lower()
        if view.failing_since is not None and state == "open":
            state = "failing"
        rows.append(
            [view.name, one_line(view.notify.target), state, f"{view.lag:,}", f"{view.delivered:,}", f"{view.failed:,}",
             f"{view.dead:,}", time_text(view.delivered_at)]
        )  # fmt: skip
    print_table(headers, rows)
    for view in views:
        why = view.status_reason or view.error
        if why is not None:
            since = "" if view.failing_since is None else f" since {time_text(view.failing_since)}, {view.tries} tries"
            click.echo(f"{view.name}:{since} {one_line(why)}")


def print_delivered(outbox: Outbox, views: list[SinkView], limit: int) -> None:
    found = newest(outbox, views, limit)
    if not found:
        return
    click.echo()
    rows = [
        [
            time_text(ack.at),
            view.name,
            str(ack.seq),
            str(ack.status or "ok"),
            str(ack.tries),
            duration_text(ack.latency_ms),
        ]
        for view, ack in reversed(found)
    ]
    print_table(["AT", "RECEIVER", "EVENT", "STATUS", "TRIES", "TOOK"], rows)


def print_refusals(outbox: Outbox, views: list[SinkView]) -> None:
    rows = []
    for view in views:
        found = outbox.refusals(view)
        for parked in found.parked:
            again = f"again at {time_text(parked.next_at)}" if parked.next_at else "waits"
            rows.append([view.name, str(parked.seq), again, str(parked.tries), one_line(parked.error)])
        rows += [[view.name, str(dead.seq), "given up", str(dead.tries), one_line(dead.error)] for dead in found.dead]
        rows += [[view.name, f"{a}..{b}", "gone", "-", "collected before it was delivered"] for a, b, _ in found.gaps]
    click.echo()
    if rows:
        print_table(["RECEIVER", "EVENT", "STATE", "TRIES", "WHY"], rows)
        click.echo("`flowbatch redeliver --sink NAME --dead` tries again what was given up.")
    else:
        click.echo("Nothing was refused.")
