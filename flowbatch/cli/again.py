"""`retry` and `resume`: what goes on, goes on in this process, or in the engine that holds the folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json
from flowbatch.errors import FolderHeld, InputError

if TYPE_CHECKING:
    from flowbatch.model.ids import RunId
    from flowbatch.model.stimuli import Stimulus


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDICES]]")
@click.option("--json", "as_json", is_flag=True, help="No progress; one JSON object at the end.")
@click.pass_obj
def retry(place: Place, address: str, as_json: bool) -> int:
    """Run again what failed, and what failed because of it, inside the same run.

    What succeeded stays as it is. Attempt numbers go on, the budget of attempts is fresh, `finally` runs again.
    """
    from flowbatch import logs
    from flowbatch.cli.target import resolve_target
    from flowbatch.model.stimuli import Retry

    logs.configure()
    target, arguments = resolve_target(place, address)
    if target.run is None:
        raise InputError(
            f"{address} is a job without a run: only jobs of a run are reopened; `flowbatch submit` makes a new one"
        )
    if place.held:
        value = place.ask("retry", **arguments)
        if as_json:
            print_json(value)
        else:
            click.echo(f"Reopened in the running engine: {', '.join(reopened(value))}")
        return 0
    return anyio.run(go_on, place, [target.run], lambda ticket: Retry(ticket, target), as_json, False, True)


def reopened(value: object) -> list[str]:
    return [str(key) for key in value["reopened"]] if isinstance(value, dict) else []


@click.command()
@click.argument("run", required=False)
@click.option("--json", "as_json", is_flag=True, help="No progress; one JSON object at the end.")
@click.pass_obj
def resume(place: Place, run: str | None, as_json: bool) -> int:
    """Continue interrupted runs: what ended stays ended, what still runs is adopted. Without RUN, all of them.

    Where a server holds the folder, RUN goes on there, and is followed from here.
    """
    from flowbatch import logs
    from flowbatch.model.ids import RunId
    from flowbatch.model.status import RunStatus
    from flowbatch.model.stimuli import Resume

    logs.configure()
    if place.served and run is not None:
        return resume_there(place, run, as_json)
    if place.server is not None:
        raise InputError(
            "resume --server: a RUN is needed, to be followed; a server goes on with all that are open by itself"
        )
    if place.holder is not None:
        raise FolderHeld(str(place.folder.path), place.holder or None)
    with place.fresh_reader() as reader:
        if run is not None:
            found = reader.run(run)
            if found.status is not RunStatus.RUNNING:
                again = f"; `{place.command('retry', found.id[:8])}` runs what failed again"
                raise InputError(
                    f"run {found.id[:8]} has ended: {found.status.name}{again if found.status is RunStatus.FAILED else ''}"
                )
            ids = [RunId(found.id)]
        else:
            ids = [RunId(each.id) for each in reader.open_runs()]
    if not ids:
        if as_json:
            print_json([])
        else:
            click.echo("No run is open: there is nothing to resume.")
        return 0
    one = RunId(ids[0]) if run is not None else None
    return anyio.run(go_on, place, ids, lambda ticket: Resume(ticket, one), as_json, run is None)


def resume_there(place: Place, name: str, as_json: bool) -> int:
    """In the server that holds the folder: what it holds back goes on, and is followed from here."""
    from flowbatch.cli.attached import attach
    from flowbatch.model.status import RunStatus
    from flowbatch.remote.channel import Channel

    with place.records() as reader:
        found = reader.run(name)
    if found.status is RunStatus.RUNNING:
        place.ask("resume", run=found.id)
    return attach(place, place.channel or Channel(place.folder.http_socket), found.id, as_json=as_json)


async def go_on(
    place: Place,
    ids: Sequence[RunId],
    command: Callable[[int], Stimulus],
    as_json: bool,
    many: bool = False,
    recovered: bool = False,
) -> int:
    """Opens the engine with every run held, gives it the command, and follows the runs that it sets going.

    `recovered`: only once it knows what ended while nobody looked.
    """
    from flowbatch.app import open_app
    from flowbatch.cli.follow import SIGNALS, follow, heed_no_more
    from flowbatch.cli.owed import settle

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        found = {run_id: app.opened[run_id] for run_id in ids if run_id in app.opened}

        def catch(_: object) -> None:
            machine = (
                app.engine.machine
            )  # one that was reopened is another; it may have ended in its first turn, and left
            found.update({run.id: run for run in (*machine.evicted, *machine.state.runs.values()) if run.id in ids})

        app.engine.observe(catch)
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            if recovered:
                await app.engine.recovered.wait()
            answer = await app.engine.ask(command)
            if answer.error is not None:
                raise InputError(answer.error)
            catch(None)
            followed = await follow(place, app, list(found.values()), signals, as_json=as_json, many=many)
            await settle(app, list(found.values()), signals)
        heed_no_more(followed)
    followed.tell()
    return followed.code
