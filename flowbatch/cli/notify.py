"""`notify`: receivers tried out, switched on again, and given what they are owed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click
from msgspec import to_builtins

from flowbatch.cli.context import Place
from flowbatch.cli.output import counted, duration_text, one_line, print_json
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.hooks.health import Answer
    from flowbatch.model.notify import Notify
    from flowbatch.notices import Silent


@click.group()
def notify() -> None:
    """Receivers of events: try one out, switch it on again, deliver what is owed."""


@notify.command()
@click.argument("sink")
@click.option("--workflow", metavar="FILE", help="A receiver of this workflow file, rather than of the settings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def test(place: Place, sink: str, workflow: str | None, as_json: bool) -> int:
    """Send SINK a test message at once, whatever its filter wants. Exit code: 0, or 1 where it was not taken."""
    from flowbatch.cli.load import load_plan

    if place.channel is not None:
        if workflow is not None:
            raise InputError("--workflow: a server tries its settings' receivers out; leave --server out for a file's")
        return tell_test(place.channel.post("sinks", sink, "test", body={}), as_json)
    known = place.settings.notify if workflow is None else load_plan(place, workflow, ()).run.notify
    found = next((each for each in known if each.name == sink), None)
    if found is None:
        where = "the settings" if workflow is None else workflow
        names = ", ".join(each.name for each in known) or "none"
        hint = " (--workflow names a file)" if workflow is None else ""
        raise InputError(f"{where}: there is no receiver {sink!r}{hint}; there are: {names}")
    from flowbatch.clock import SystemClock
    from flowbatch.notices import try_out

    return tell_test(told_of(found, anyio.run(try_out, place.settings, SystemClock(), found)), as_json)


def told_of(found: Notify, answer: Answer) -> dict[str, Any]:
    return {
        "sink": found.name, "to": found.target, "delivered": answer.outcome.name == "DELIVERED",
        "status": answer.status or None, "error": answer.error or None, "latency_ms": answer.latency_ms,
    }  # fmt: skip


def tell_test(told: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(told)
    elif told["delivered"]:
        status = f" ({told['status']})" if told["status"] else ""
        click.echo(f"{told['sink']}: {told['to']} took it{status}, in {duration_text(told['latency_ms'])}.")
    else:
        click.echo(f"{told['sink']}: {told['to']} did not take it: {one_line(told['error'] or '')}", err=True)
    return 0 if told["delivered"] else 1


@notify.command()
@click.argument("sink")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def enable(place: Place, sink: str, as_json: bool) -> int:
    """Switch SINK on again after it was disabled. It goes on where it stood: nothing is left out."""
    from flowbatch.store.outbox import Outbox

    if place.channel is not None:
        told = place.channel.post("sinks", sink, "enable", body={})
        if as_json:
            print_json(told)
        else:
            click.echo(f"{sink} is enabled.")
        return 0
    with Outbox(place.folder.database) as outbox:
        view = outbox.find(sink)
    if place.folder.holder() is not None:
        place.ask("enable_sink", key=view.key)
    else:
        from flowbatch.cli.redeliver import deliver_here

        anyio.run(deliver_here, place, "enable_sink", dict[str, object](key=view.key))
    if as_json:
        print_json({"sink": view.key, "enabled": True})
    else:
        click.echo(f"{view.name} is enabled; it was {view.lag:,} events behind.")
    return 0


@notify.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def flush(place: Place, as_json: bool) -> int:
    """Deliver what is owed to all receivers, as long as the settings' `webhooks: {wait: 10s}` says.

    Exit code: 0, or 1 where something is still owed. An engine that runs is told to try it all now, and goes on with that by itself.
    """
    if place.server is not None:
        raise InputError("flush works on a folder's own engine, by its socket: run it there, without --server")
    place.reader().close()  # says where there is no folder
    if place.folder.holder() is not None:
        tell_tried(place, place.ask("try_receivers"), as_json)
        return 0
    owed, silent = anyio.run(flush_here, place)
    if as_json:
        told = [{"sink": key, "messages": count, "error": error or None} for key, count, error in owed]
        print_json({"owed": told, "silent": [to_builtins(each) for each in silent]})
    elif not owed and not silent:
        click.echo("Nothing is owed.")
    else:
        from flowbatch.cli.owed import tell_silent

        for key, count, error in owed:
            click.echo(f"Still owed to {key}: {count:,}{f' ({one_line(error)})' if error else ''}", err=True)
        tell_silent(silent)
    return 1 if owed or silent else 0


def tell_tried(place: Place, owed: object, as_json: bool) -> None:
    assert isinstance(owed, list)
    if as_json:
        print_json({"tried": owed})
    elif not owed:
        click.echo("Nothing is owed.")
    else:
        for each in owed:
            why = f" ({one_line(each['error'])})" if each["error"] else ""
            click.echo(f"Tried now, {each['sink']}: {counted(each['messages'], 'message')}{why}")
        click.echo(f"`{place.command('deliveries')}` shows what becomes of it.")


async def flush_here(place: Place) -> tuple[list[tuple[str, int, str]], list[Silent]]:
    """Also what was refused, and would be tried again in hours."""
    from flowbatch.app import open_app

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        left = await app.notices.settle_sinks(None, place.settings.notify_wait_ms, refused=True)
        silent = app.notices.silent()
    return [(each.key, max(each.messages, 1), each.error) for each in left], silent
