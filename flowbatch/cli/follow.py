"""Follows runs in this process to their end, then says what became of them: a summary, or one JSON object."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from flowbatch.app import App
from flowbatch.cli.context import Place
from flowbatch.cli.drive import INTERRUPTED, Drive
from flowbatch.cli.output import print_json
from flowbatch.cli.printer import give_up_output, say_aside
from flowbatch.cli.progress import make_view
from flowbatch.cli.summary import has_failures, print_summary, run_object
from flowbatch.core.state import Run
from flowbatch.model.status import RunStatus

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Followed(Struct, frozen=True):
    """How it went; `tell` says it, once no engine waits for whoever reads."""

    code: int
    tell: Callable[[], None]


async def follow(
    place: Place,
    app: App,
    runs: Sequence[Run],
    signals: AsyncIterator[signal.Signals],
    *,
    as_json: bool,
    many: bool = False,
    kept: bool = True,
) -> Followed:
    """Until the runs have ended, or the user has had enough. `many`: `--json` gives a list, however many there are. `kept`: off,
    the folder goes with us, and nothing is said of going on or looking into it."""
    view = make_view(runs, app.engine.clock, quiet=as_json, hold_ups=app.hold_ups)
    drive = Drive(app, list(runs), view, lambda run: place.command("resume", run.id[:8]), signals)
    try:
        code = await drive.follow()
    except BaseException:
        view.close()  # the terminal gets its cursor back before it gets the error
        raise

    def tell() -> None:
        view.close()
        try:
            if as_json:
                objects = [run_object(run) for run in runs]
                print_json(objects if many else objects[0])
            else:
                summarise(place, runs, app.folder.logs, kept=kept)
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError) as error:
            give_up_output()  # how the run went is told by the exit code all the same
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                say_aside(f"flowbatch: the output cannot be written: {error.strerror}")
        if kept:
            drive.say_how_to_resume()

    return Followed(code, tell)


def heed_no_more(followed: Followed) -> None:
    """Once the engine goes, after a Ctrl-C: another one would only take away the line that says how to go on."""
    if followed.code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def summarise(place: Place, runs: Sequence[Run], logs: Path, *, kept: bool) -> None:
    for run in runs:
        if run.status is not RunStatus.RUNNING:
            print_summary(run)
            if has_failures(run):
                from flowbatch.cli.failures import print_failures
                from flowbatch.cli.logsource import LogFiles

                with place.reader() as reader:
                    print_failures(run, reader, LogFiles(logs), place.command if kept else None)
