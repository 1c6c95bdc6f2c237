"""`run --dry-run`: the real engine on the fake backend, in virtual time, in a folder that is thrown away."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import anyio
import click
from msgspec.structs import replace

from flowbatch.app import open_app
from flowbatch.cli.context import Place
from flowbatch.cli.follow import SIGNALS, follow
from flowbatch.cli.output import duration_text
from flowbatch.cli.run import as_fake, submit
from flowbatch.clock import SystemClock, VirtualClock
from flowbatch.folder import StateFolder
from flowbatch.spec.pinning import pinned

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan


async def run_dry(place: Place, plan: Plan, as_json: bool) -> int:
    clock = VirtualClock(SystemClock().now())
    clock.stand()  # nothing is dated later than the command itself because its start took the disk a moment
    settings = place.settings
    places = tuple(replace(each, backend="fake") for each in settings.environments)
    settings = replace(settings, environments=places)
    fake = as_fake(plan)
    with TemporaryDirectory(prefix="flowbatch-dry-") as folder:
        where = Place(str(Path(folder) / "state"), place.config)
        async with open_app(
            StateFolder(where.folder.path), settings, clock=clock, fake_only=True, durable=False
        ) as app:
            with anyio.open_signal_receiver(*SIGNALS) as signals:
                run = await submit(app, pinned(fake.run, fake.environments, fake.queues))
                clock.go()
                followed = await follow(where, app, [run], signals, as_json=as_json, kept=False)
        followed.tell()
    took = duration_text((run.stopped_at or clock.now()) - run.created_at)
    if not as_json:
        click.echo(f"Dry run: nothing was started. At a second a task (or as x-fake says) it takes {took}.")
    return followed.code
