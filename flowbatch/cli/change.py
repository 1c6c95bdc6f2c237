"""`cancel` and `terminate`: through the engine that holds the folder, else as one for the moment it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import counted, print_json
from flowbatch.model.status import RunStatus

if TYPE_CHECKING:
    from flowbatch.app import App


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDICES]]")
@click.option("--reason", default="", help="Kept as the status reason.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def cancel(place: Place, address: str, reason: str, as_json: bool) -> int:
    """Fail what has not started yet; what is STARTING or RUNNING ends by itself."""
    return change(place, "cancel", address, reason, as_json)


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDICES]]")
@click.option("--reason", default="", help="Kept as the status reason.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def terminate(place: Place, address: str, reason: str, as_json: bool) -> int:
    """Cancel, and stop what runs: SIGTERM, then SIGKILL after the job's stop_grace."""
    return change(place, "terminate", address, reason, as_json)


def change(place: Place, verb: str, address: str, reason: str, as_json: bool) -> int:
    from flowbatch import logs
    from flowbatch.cli.target import resolve_target

    logs.configure()
    target, arguments = resolve_target(place, address)
    arguments["reason"] = reason
    if place.held:
        value = place.ask(verb, **arguments)
    else:
        value = anyio.run(change_alone, place, verb, arguments, str(target.run))
    if isinstance(value, dict) and "note" in value:
        value["note"] = ended(place, address) or value["note"]
    tell(place, verb, address, value, as_json)
    return 0


def ended(place: Place, address: str) -> str | None:
    """How what is named has ended: the engine has forgotten it, the store has not."""
    with place.records() as reader:
        found = reader.resolve(address)
    if found.job is not None:
        return f"{found.job.name} is {found.job.status.name} already" if found.job.status.terminal else None
    if found.run is None or found.run.status is RunStatus.RUNNING:
        return None
    return f"run {found.run.id[:8]} is {found.run.status.name} already"


def tell(place: Place, verb: str, address: str, value: object, as_json: bool) -> None:
    if as_json:
        print_json(value)
        return
    answer = value if isinstance(value, dict) else {}
    done = {"cancel": "cancelled", "terminate": "terminated or cancelled"}[verb]
    if answer.get("changed"):
        click.echo(f"{address}: {counted(answer['changed'], 'task')} {done}.")
    elif not answer.get("running"):
        click.echo(f"{address}: nothing to {verb}: {answer.get('note', 'what was named has ended already')}.")
    if verb == "cancel" and answer.get("running"):
        running = answer["running"]
        still = "still runs: it ends by itself" if running == 1 else "still run: they end by themselves"
        click.echo(f"{counted(running, 'task')} of it {still}, and nothing is tried again.")
    if answer.get("left_running"):
        left = answer["left_running"]
        resume = place.command("resume", address.partition("/")[0])
        click.echo(f"{counted(left, 'task')} {'go' if left > 1 else 'goes'} on alone; `{resume}` follows to the end.")


async def change_alone(place: Place, verb: str, arguments: dict[str, Any], run_id: str) -> object:
    """Without an engine: does it, waits for what it stopped and for the run's `finally`, but not for what runs on."""
    from flowbatch.app import open_app
    from flowbatch.model.ids import RunId
    from flowbatch.model.jobspec import Stage

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        await app.engine.recovered.wait()  # what ended while nobody looked has ended so, not by this
        state = app.engine.machine.state
        run = state.runs.get(RunId(run_id))
        value = await app.verbs.call(verb, arguments)
        if not isinstance(value, dict):
            return value
        if run is None:
            await until_stopped(app, str(arguments.get("job")))
            return value
        whole = arguments.get("job") is None
        if whole:  # nothing of its main stage waits any more: all that can start is `finally`
            await app.verbs.call("resume", {"run": run_id})
        over = anyio.Event()

        def stopping() -> bool:
            return any(each.halt for each in state.live.values() if each.job.run is run)

        def left() -> int:
            ours = (each for each in state.live.values() if each.job.run is run and not each.halt)
            return sum(each.job.stage is Stage.MAIN for each in ours)  # `finally` is ours to see through

        def look(_: object) -> None:
            if run.status is not RunStatus.RUNNING or (not stopping() and (left() or not whole)):
                over.set()

        app.engine.observe(look)
        look(None)
        await over.wait()
        return {**value, "left_running": left()}


async def until_stopped(app: App, job: str) -> None:
    """What was stopped of a job without a run has ended; what was not goes on."""
    live = app.engine.machine.state.live
    over = anyio.Event()

    def look(_: object) -> None:
        if not any(each.halt and each.key.job == job for each in live.values()):
            over.set()

    app.engine.observe(look)
    look(None)
    await over.wait()
