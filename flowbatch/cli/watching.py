"""The folder that `serve` watches: its files are read as `run` reads one, by the rules and the rights of whoever serves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowbatch.app import App, pinned
from flowbatch.cli.context import Place
from flowbatch.cli.load import plan_text
from flowbatch.clock import WallClock
from flowbatch.errors import InputError
from flowbatch.library.desk import EngineDesk
from flowbatch.library.folder import WatchedFolder
from flowbatch.library.shelves import INBOX, Library

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan


@contextmanager
def open_library(place: Place, path: Path, app: App, *, insecure: bool) -> Iterator[Library]:
    """Raises InputError where the folder cannot be watched. Its drop box, `inbox`, is made where it is missing."""
    owners = frozenset({0, os.geteuid()})
    folder = WatchedFolder(path.absolute(), owners, insecure)
    inbox = WatchedFolder(path.absolute() / INBOX, owners, insecure)
    with ExitStack() as opened:
        folder.open()
        opened.enter_context(closing(folder))
        try:
            inbox.path.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise InputError(f"{inbox.path}: the drop box cannot be made: {error.strerror}") from error
        inbox.open()
        opened.enter_context(closing(inbox))
        with place.reader() as reader:
            rows = reader.shelves()

        def compile(name: str, content: bytes, params: Mapping[str, str]) -> Plan:
            now = Place(place.state, place.config)  # settings and store as they are by now
            below = inbox if name.startswith(INBOX) else folder
            return plan_text(now, content, name.removeprefix(INBOX), str(below.path), params, register=True)

        desk = EngineDesk(
            app.engine, app.folder.database, lambda plan: pinned(plan.run, plan.environments, plan.queues)
        )
        yield Library(folder, inbox, compile, desk, WallClock(), rows)
