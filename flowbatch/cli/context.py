"""Where a command stands: its state folder and its settings, read when they are first needed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowbatch.errors import FlowbatchError, InputError

if TYPE_CHECKING:
    from flowbatch.cli.logsource import LogSource
    from flowbatch.cli.records import Records
    from flowbatch.folder import StateFolder
    from flowbatch.model.jobspec import Environment, Queue
    from flowbatch.remote.channel import Channel
    from flowbatch.settings import Settings
    from flowbatch.store.reader import Reader
    from flowbatch.store.results import RunView

PING_SECONDS: Final = 2.0
SILENT_SECONDS: Final = 3.0  # then it is said for whom a verb waits
ALLOW_HELP: Final = (
    "What containers may: mount=/data[:ro], privileged, network=host, device=/dev/fuse, log=gelf; several with commas."
)


@dataclass
class Place:
    """Made by the root command from `--state` and `--config`; every verb gets it by `@click.pass_obj`."""

    state: str | None
    config: str | None
    typed: tuple[str, ...] = ()  # the options that were given by hand: a command that we tell of needs them again
    server: str | None = None  # a server's URL: it is asked instead of a folder
    key_file: str | None = None

    def command(self, *words: str) -> str:
        """A command line for the user to type, about this folder with these settings."""
        return shlex.join(["flowbatch", *self.typed, *words])

    def governed(self, settings: Settings) -> Place:
        """The same place with these settings, whatever the file has by now; the store is looked at anew."""
        made = Place(self.state, self.config, self.typed)
        made.__dict__["settings"] = settings
        return made

    @cached_property
    def folder(self) -> StateFolder:
        from flowbatch.folder import DEFAULT, StateFolder

        return StateFolder(Path(self.state or DEFAULT))

    @cached_property
    def settings(self) -> Settings:
        from flowbatch.settings import read_settings

        return read_settings(self.folder.path, self.config)

    @cached_property
    def places(self) -> tuple[tuple[Environment, ...], tuple[Queue, ...]]:
        """The environments and queues that a run started now may use: the settings', less and more what commands changed."""
        from flowbatch.core.declared import environments_of, queues_of
        from flowbatch.errors import StoreError

        environments, queues = self.settings.environments, self.settings.queues
        if not self.folder.exists():
            return environments, queues
        try:
            with self.reader() as reader, reader.snapshot():
                stored = reader.environments(), reader.queues()
        except StoreError:
            return environments, queues  # damaged, or of another version: the engine says so, or brings it up to date
        return (
            environments_of({row.name: row for row in stored[0]}, environments),
            queues_of({row.name: row for row in stored[1]}, queues),
        )

    @cached_property
    def channel(self) -> Channel | None:
        """To the server that was named. Raises InputError where its URL or the key is none."""
        if self.server is None:
            return None
        from flowbatch.remote.channel import Channel
        from flowbatch.remote.key import find_key

        return Channel(self.server, find_key(self.key_file))

    def close(self) -> None:
        """The connection to a server, where there is one."""
        channel = self.__dict__.get("channel")
        if channel is not None:
            channel.close()

    @property
    def held(self) -> bool:
        """Whether an engine runs that can be asked."""
        return self.server is not None or self.folder.holder() is not None

    @cached_property
    def logs(self) -> LogSource:
        from flowbatch.cli.logsource import LogFiles, LogsOfServer

        return LogFiles(self.folder.logs) if self.channel is None else LogsOfServer(self.channel)

    def records(self) -> Records:
        """What people ask of runs and jobs: from the server that was named, else from the store."""
        if self.channel is None:
            return self.reader()
        from flowbatch.remote.reader import RemoteReader

        return RemoteReader(self.channel)

    def reader(self) -> Reader:
        """The store, read-only. Raises InputError where there is none yet."""
        from flowbatch.store.reader import Reader

        if not self.folder.exists():
            raise InputError(
                f"{self.folder.path}: there is no state folder here yet; `flowbatch run` makes one, --state names another"
            )
        return Reader(self.folder.database)

    def fresh_reader(self) -> Reader:
        """As `reader`, for a verb that changes something: where an older version left the store and no engine holds it, it is brought
        up to date first, as an engine would."""
        from contextlib import closing

        from flowbatch.errors import StoreTooOld
        from flowbatch.store.migrate import opened

        try:
            return self.reader()
        except StoreTooOld:
            with self.folder.hold(), closing(opened(self.folder.database)):
                pass
        return self.reader()

    def ask(self, verb: str, **arguments: object) -> object:
        """Asks the engine that holds the folder. Raises BackendUnavailable where none answers."""
        return self._ask(verb, arguments)

    def _ask(self, verb: str, arguments: Mapping[str, object], seconds: float | None = None) -> object:
        if self.channel is not None:
            from flowbatch.remote.verbs import ask

            return ask(self.channel, verb, arguments)
        from flowbatch.engine.client import SECONDS, call
        from flowbatch.folder import short_socket_path

        with short_socket_path(self.folder.socket) as socket:
            if seconds is not None:
                return call(socket, verb, arguments, seconds)
            from threading import Timer

            timer = Timer(SILENT_SECONDS, self._say_that_it_waits)
            timer.daemon = True
            timer.start()
            try:
                return call(socket, verb, arguments, SECONDS)
            finally:
                timer.cancel()

    def _say_that_it_waits(self) -> None:
        from flowbatch.cli.printer import say_aside

        who = f"the engine (process {self.holder})" if self.holder else "the engine"
        say_aside(f"Waiting for {who} to answer: it is busy, or has been stopped (Ctrl-Z).")

    @cached_property
    def served(self) -> bool:
        """Whether a server holds the folder, or was named: an engine that takes the runs of others."""
        if self.server is not None:
            return True
        if not self.holder:
            return False
        try:
            told = self._ask("ping", {}, PING_SECONDS)
        except (FlowbatchError, OSError):
            return False
        return isinstance(told, dict) and told.get("serving") is True

    def is_interrupted(self, run: RunView) -> bool:
        """Open, and nobody goes on with it: no engine holds the folder, or one that was started for other runs."""
        from flowbatch.model.status import RunStatus

        if self.server is not None:
            return False  # it goes on with all that are open
        return run.status is RunStatus.RUNNING and (self.holder is None or run.id in self._held)

    @cached_property
    def holder(self) -> int | None:
        """As `folder.holder()` when it was first asked for."""
        return self.folder.holder()

    @cached_property
    def _held(self) -> frozenset[str]:
        try:
            told = self._ask("ping", {}, PING_SECONDS)
        except (FlowbatchError, OSError):
            return frozenset()  # it is busy, or has just ended: not known to be held
        held = told.get("held") if isinstance(told, dict) else None
        return frozenset(held) if isinstance(held, list) else frozenset()

    def resume_hint(self, run: RunView) -> str:
        """What to do about an interrupted run."""
        command = f"`{self.command('resume', run.id[:8])}`"
        if self.holder is None:
            return f"{command} continues it"
        return f"{command} continues it once the engine that runs now (process {self.holder}) has ended"
