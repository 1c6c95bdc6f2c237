"""Follows runs in this process to their end, then says what became of them: a summary, or one JSON object."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from flowbatch.app import App
from flowbatch.cli.context import Place
from flowbatch.cli.drive import Drive
from flowbatch.cli.output import print_json
from flowbatch.cli.progress import make_view
from flowbatch.cli.summary import print_summary, run_object
from flowbatch.core.state import Run
from flowbatch.model.status import RunStatus


async def follow(place: Place, app: App, runs: Sequence[Run], *, as_json: bool) -> int:
    view = make_view(runs, app.engine.clock, quiet=as_json, hold_ups=app.hold_ups)
    drive = Drive(app, list(runs), view, lambda run: resume_line(place, run))
    code = await drive.follow()
    if as_json:
        objects = [run_object(run) for run in runs]
        print_json(objects[0] if len(objects) == 1 else objects)
    else:
        with place.reader() as reader:
            for run in runs:
                if run.status is not RunStatus.RUNNING:
                    print_summary(run, reader, app.folder.logs)
    return code


def resume_line(place: Place, run: Run) -> str:
    words = ["flowbatch"]
    if place.state is not None:
        words += ["--state", place.state]
    if place.config is not None:
        words += ["--config", place.config]
    return shlex.join([*words, "resume", run.id[:8]])
