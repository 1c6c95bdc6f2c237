"""`redeliver`: events again, to the receiver as it was written: a range, one by its id, or what was given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.store.outbox import Outbox


@click.command()
@click.option("--sink", required=True, metavar="NAME", help="The receiver: slack, or 1a2b3c4d/slack of one run.")
@click.option(
    "--from", "first", metavar="SEQ|TIME|AGE", help="From this event on: a number, 2026-01-31T10:00, or 10m ago."
)
@click.option("--to", "last", metavar="SEQ|TIME|AGE", help="Up to this event.  [default: the last one]")
@click.option("--id", "event", metavar="EVT", help="One event, by the id that receivers see: evt_…")
@click.option("--dead", is_flag=True, help="What was given up; enables the receiver where it was disabled.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def redeliver(
    place: Place, sink: str, first: str | None, last: str | None, event: str | None, dead: bool, as_json: bool
) -> int:
    """Deliver events again to one receiver. Those that its filter does not want are left out.

    They go out beside what is new, with the ids they had. With an engine on the folder it delivers them; without one, this
    command does, as long as the settings' `webhooks: {wait: 10s}` says.
    """
    if [first is not None or last is not None, event is not None, dead].count(True) != 1:
        raise InputError("redeliver takes one of --from and --to, --id, --dead: what is to be delivered again")
    if place.channel is not None:
        return redeliver_there(place, sink, first, last, event, dead, as_json)
    from flowbatch.store.outbox import Outbox

    if not place.folder.exists():
        raise InputError(f"{place.folder.path}: there is no state folder here yet; --state names another")
    with Outbox(place.folder.database) as outbox:
        view = outbox.find(sink)
        if dead:
            verb, arguments = "revive_dead", dict[str, object](key=view.key)
            count = len(outbox.dead_of(view))
        else:
            asked = span_of(outbox, first, last, event)
            low, high = outbox.kept(*asked)
            if (low, high) != asked and (first is not None or last is not None):
                click.echo(f"Of events {asked[0]:,}..{asked[1]:,} the log still has {low:,}..{high:,}.", err=True)
            key = f"{view.key.partition('~')[0]}~{uuid4().hex[:6]}"
            verb, arguments = "redeliver", dict[str, object](key=key, source=view.key, first=low, last=high)
            count = high - low + 1
    noun = "digest" if dead and view.notify.digest_ms is not None else "event"
    told = f"{count:,} {noun}{'' if count == 1 else 's'}"
    held = place.folder.holder() is not None
    left = place.ask(verb, **arguments) and None if held else anyio.run(deliver_here, place, verb, arguments)
    if as_json:
        print_json(
            {"sink": view.key, "events": count, "delivered_by": "engine" if held else "this command", "owed": left or 0}
        )
    elif not count:
        click.echo(f"Nothing was given up for {view.name}.", err=True)
    elif held:
        click.echo(f"The running engine delivers {told} to {view.name}; see `flowbatch deliveries`.")
    elif left:
        click.echo(f"Still owed to {view.name}: {left:,}. The next engine on this folder delivers them.", err=True)
    else:
        click.echo(f"Done: what {view.name} wants of {told} was delivered.")
    return 0


def redeliver_there(
    place: Place, sink: str, first: str | None, last: str | None, event: str | None, dead: bool, as_json: bool
) -> int:
    """By the server of --server."""
    from flowbatch.cli.events import seq_of as seq_at

    assert place.channel is not None
    body: dict[str, object] = {"sink": sink}
    if dead:
        body["dead"] = True
    elif event is not None:
        body["event"] = event
    else:
        with place.records() as reader:
            body["first"] = 1 if first is None else number_of(first, lambda: seq_at(reader, first) + 1)
            if last is not None:
                body["last"] = number_of(last, lambda: seq_at(reader, last))
    told = place.channel.post("deliveries", "redeliver", body=body)
    count = told["events"]
    if as_json:
        print_json({"sink": told["sink"], "events": count, "delivered_by": "engine", "owed": 0})
    elif not count:
        click.echo(f"Nothing was given up for {sink}.", err=True)
    else:
        click.echo(
            f"The server delivers {count:,} event{'' if count == 1 else 's'} to {sink}; see `flowbatch deliveries`."
        )
    return 0


def span_of(outbox: Outbox, first: str | None, last: str | None, event: str | None) -> tuple[int, int]:
    from flowbatch.cli.events import seq_of as seq_at
    from flowbatch.model.event_ids import seq_of

    end = outbox.last_seq()
    if event is not None:
        try:
            low = high = seq_of(outbox.instance(), event)
        except ValueError as error:
            raise InputError(f"--id: {error}") from None
    else:
        low = 1 if first is None else number_of(first, lambda: seq_at(outbox, first) + 1)
        high = end if last is None else min(number_of(last, lambda: seq_at(outbox, last)), end)
    return low, high


def number_of(text: str, at: Callable[[], int]) -> int:
    """A number means that event itself, a time what came after it."""
    return int(text) if text.isascii() and text.isdigit() else at()


async def deliver_here(place: Place, verb: str, arguments: dict[str, object]) -> int:
    """Holds the folder for the moment it takes. Returns how many messages are still owed."""
    from flowbatch.app import open_app

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        await app.verbs.call(verb, arguments)
        key = str(arguments["key"])
        owed = await app.notices.settle_sinks({key}, place.settings.notify_wait_ms)
    return sum(max(each.messages, 1) for each in owed)
