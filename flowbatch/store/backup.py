"""A copy of the store while it is written to, by SQLite's online backup: one state of it, whole or not there at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from flowbatch.errors import InputError, StoreDamaged
from flowbatch.store.faults import translated
from flowbatch.store.session import connect

ALL_AT_ONCE: Final = -1  # in steps, each commit of the writer between two of them would begin the copy anew


def back_up(source: Path, target: Path) -> int:
    """Returns the copy's size in bytes. Raises InputError where the target cannot be written, StoreError as the store is.

    All pages are of one state: a reading transaction holds it, while the engine goes on writing into the log. The copy is looked
    through before it gets its name, and is durable then.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise InputError(f"{target}: the copy cannot be written here: {error.strerror}") from error
    try:
        with closing(connect(source)) as here, closing(sqlite3.connect(partial, isolation_level=None)) as there:
            try:
                here.backup(there, pages=ALL_AT_ONCE)
                there.execute("PRAGMA journal_mode = DELETE")  # one file, and nothing beside it
                wrong = [text for (text,) in there.execute("PRAGMA quick_check").fetchall() if text != "ok"]
            except sqlite3.Error as error:
                if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    raise InputError(f"{target}: the copy cannot be written: {error}") from error
                raise translated(error, str(source)) from error
        if wrong:
            raise StoreDamaged(f"{source}: the store is damaged ({wrong[0]}); the copy of it was not kept")
        publish(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return target.stat().st_size


def publish(partial: Path, target: Path) -> None:
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
