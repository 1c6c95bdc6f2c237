"""The folders that `serve` watches: their files are read as `run` reads one, by the rules and the rights of a server."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flowbatch.app import App
from flowbatch.cli.context import Place
from flowbatch.cli.load import plan_text
from flowbatch.clock import WallClock
from flowbatch.errors import InputError
from flowbatch.library.desk import EngineDesk, Warden
from flowbatch.library.folder import WatchedFolder
from flowbatch.library.shelves import INBOX, Library
from flowbatch.model.bucket import Bucket
from flowbatch.spec.pinning import pinned

if TYPE_CHECKING:
    from flowbatch.http.native.running import Compile
    from flowbatch.serve import Grounds
    from flowbatch.settings import Settings
    from flowbatch.spec.compile import Plan
    from flowbatch.spec.serving import Folder

SUBMITTED = "submitted"  # below the state folder
MARK = ":"  # between the principal of a folder of the settings and the name of a file there


@contextmanager
def open_library(
    place: Place,
    settings: Callable[[], Settings],
    rule: Folder,
    app: App,
    warden: Warden,
    *,
    insecure: bool,
    prefix: str,
) -> Iterator[Library]:
    """Raises InputError where the folder cannot be watched. Its drop box, `inbox`, is made where it is missing.

    `settings`: those in force. `prefix`: of its files' names in the store.
    """
    path = Path(rule.path)
    owners = frozenset({0, os.geteuid(), *map(user_id, rule.owners)})
    folder = WatchedFolder(path, owners, insecure)
    inbox = WatchedFolder(path / INBOX, owners, insecure)
    with ExitStack() as opened:
        folder.open()
        opened.enter_context(closing(folder))
        make_inbox(folder, inbox)
        inbox.open()
        opened.enter_context(closing(inbox))
        with place.reader() as reader:
            rows = [
                row._replace(name=row.name.removeprefix(prefix))
                for row in reader.shelves()
                if row.name.startswith(prefix) and MARK not in row.name.removeprefix(prefix)
            ]

        def compile(name: str, content: bytes, params: Mapping[str, str]) -> Plan:
            now = place.governed(settings())
            below = inbox if name.startswith(INBOX) else folder
            file = name.removeprefix(INBOX)
            return plan_text(now, content, file, str(below.path), params, register=True, served_for=rule.principal)

        desk = EngineDesk(
            app.engine,
            app.folder.database,
            lambda plan: pinned(plan.run, plan.environments, plan.queues),
            warden,
            prefix,
        )
        clock = WallClock()
        pace = None
        if rule.runs_per_minute is not None:
            pace = Bucket(rule.runs_per_minute / 60, clock.now(), rule.runs_per_minute)
        yield Library(folder, inbox, compile, desk, clock, rows, pace)


def compiler(place: Place, grounds: Grounds) -> Compile:
    """Of workflows that are submitted: they lie nowhere, so that an empty folder of the server's stands for theirs."""
    folder = place.folder.path / SUBMITTED

    def compile(
        file: str, text: bytes, params: Mapping[str, str], only: Sequence[str], principal: str, run: str | None
    ) -> Plan:
        folder.mkdir(mode=0o700, exist_ok=True)
        now = place.governed(grounds.settings())
        return plan_text(now, text, file, str(folder), params, only, run_id=run, register=True, served_for=principal)

    return compile


def make_inbox(folder: WatchedFolder, inbox: WatchedFolder) -> None:
    """As open to others as the folder itself is."""
    try:
        inbox.path.mkdir(mode=0o755)
        inbox.path.chmod(folder.path.stat().st_mode & 0o7777)
    except FileExistsError:
        pass  # from an earlier life, or its owner made it
    except OSError as error:
        raise InputError(f"{inbox.path}: the drop box cannot be made: {error.strerror}") from error


def user_id(user: str | int) -> int:
    """Raises InputError."""
    if isinstance(user, int):
        return user
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise InputError(f"serve: folders: owners: there is no user {user!r} on this machine") from None
