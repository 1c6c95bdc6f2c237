"""`run --dry-run`: the real engine on the fake backend, in virtual time, in a folder that is thrown away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from flowbatch.app import open_app, pinned
from flowbatch.cli.context import Place
from flowbatch.cli.follow import follow
from flowbatch.cli.output import duration_text
from flowbatch.cli.run import as_fake, catch
from flowbatch.clock import SystemClock, VirtualClock
from flowbatch.errors import InputError
from flowbatch.folder import StateFolder
from flowbatch.model.stimuli import SubmitRun

if TYPE_CHECKING:
    from flowbatch.core.state import Run
    from flowbatch.spec.compile import Plan


async def run_dry(place: Place, plan: Plan, as_json: bool) -> int:
    clock = VirtualClock(SystemClock().now())
    settings = place.settings
    places = tuple(replace(each, backend="fake") for each in settings.environments)
    settings = replace(settings, environments=places)
    fake = as_fake(plan)
    with TemporaryDirectory(prefix="flowbatch-dry-") as folder:
        where = Place(str(Path(folder) / "state"), place.config)
        async with open_app(StateFolder(where.folder.path), settings, clock=clock, fake_only=True) as app:
            found: list[Run] = []
            app.engine.observe(lambda _: found.extend(catch(app.engine.machine.state.runs, plan.run.id, found)))
            answer = await app.engine.ask(
                lambda ticket: SubmitRun(ticket, pinned(fake.run, fake.environments, fake.queues))
            )
            if answer.error is not None:
                raise InputError(answer.error)
            code = await follow(where, app, found, as_json=as_json)
        took = duration_text((found[0].stopped_at or clock.now()) - found[0].created_at)
    if not as_json:
        click.echo(f"Dry run: nothing was started. At a second a task (or as x-fake says) it takes {took}.")
    return code
