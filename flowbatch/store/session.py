"""A read-only connection for people: short statements, each given up after five seconds.

A reader that stays in a transaction keeps the log from being checkpointed, so none outlasts a call. Readers never wait for the
writer, nor the writer for them.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from flowbatch.errors import InputError, StoreError, StoreTooOld
from flowbatch.store import migrate, queries
from flowbatch.store.faults import translated

Result = TypeVar("Result")

DEADLINE_S: Final = 5.0
STEPS_BETWEEN_LOOKS: Final = 20_000  # of SQLite's machine, well under a millisecond


class Session:
    """Raises InputError, StoreDamaged, StoreTooNew or StoreTooOld as the store is."""

    def __init__(self, path: Path, *, deadline_s: float = DEADLINE_S) -> None:
        self.path = path
        self._deadline_s = deadline_s
        self._until = 0.0
        self._db = connect(path)
        self._db.set_progress_handler(self._late, STEPS_BETWEEN_LOOKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Raises StoreError after the deadline."""
        self._until = time.monotonic() + self._deadline_s
        try:
            return self._db.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                text = f"{self.path}: no answer within {self._deadline_s:g} s; ask for less (a run, a job, a limit)"
                raise StoreError(text) from error
            raise translated(error, str(self.path)) from error
        except sqlite3.Error as error:
            raise translated(error, str(self.path)) from error

    def reading(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        """What the writer's own functions read, under the same deadline. Raises StoreError."""
        self._until = time.monotonic() + self._deadline_s
        try:
            return function(self._db)
        except sqlite3.Error as error:
            raise translated(error, str(self.path)) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Several statements see one state of the store."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def _late(self) -> bool:
        return time.monotonic() > self._until


def connect(path: Path, *, one_thread: bool = True) -> sqlite3.Connection:
    """Read-only. Where an engine is only just making the store, an empty one."""
    if not path.exists():
        raise InputError(f"{path}: there is no store here; --state names another folder")
    try:
        db = sqlite3.connect(
            migrate.uri(path, mode="ro", immutable=nobody_writes(path)),
            uri=True,
            isolation_level=None,
            check_same_thread=one_thread,
        )
        try:
            db.executescript(queries.PRAGMAS)
            version = migrate.identified(db, path)
            if version is None:
                db.close()
                db = sqlite3.connect(":memory:", isolation_level=None)
                for step in migrate.migrations():
                    migrate.apply(db, [step])
            elif version < migrate.latest():
                raise StoreTooOld(f"{path}: written by an older flowbatch; `flowbatch resume` brings it up to date")
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error
    return db


def nobody_writes(path: Path) -> bool:
    """Where the folder cannot be written (a copy, a medium, another's) and no log lies in it: SQLite would want an index of it."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK, effective_ids=True) and not log.exists()
