"""Where a command stands: its state folder and its settings, read when they are first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.folder import StateFolder
    from flowbatch.model.jobspec import Environment, Queue
    from flowbatch.settings import Settings
    from flowbatch.store.reader import Reader
ALLOW_HELP: Final = (
    "What containers may: mount=/data[:ro], privileged, network=host, device=/dev/fuse, log=gelf; several with commas."
)


@dataclass
class Place:
    """Made by the root command from `--state` and `--config`; every verb gets it by `@click.pass_obj`."""

    state: str | None
    config: str | None

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
        if not self.folder.database.exists():
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

    def reader(self) -> Reader:
        """The store, read-only. Raises InputError where there is none yet."""
        from flowbatch.store.reader import Reader

        if not self.folder.exists():
            raise InputError(
                f"{self.folder.path}: there is no state folder here yet; `flowbatch run` makes one, --state names another"
            )
        return Reader(self.folder.database)

    def ask(self, verb: str, **arguments: object) -> object:
        """Asks the engine that holds the folder. Raises BackendUnavailable where none answers."""
        from flowbatch.engine.client import call
        from flowbatch.folder import short_socket_path

        with short_socket_path(self.folder.socket) as socket:
            return call(socket, verb, arguments)
