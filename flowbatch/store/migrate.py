"""From whatever lies at the path to a store of this version, or a refusal that has changed nothing.

A file is looked at read-only first. Each migration is one SQL file and one transaction, which also sets `user_version`; a store
that exists is copied before the first of them.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import quote

from msgspec import Struct

from flowbatch.errors import InternalError, StoreDamaged, StoreError, StoreTooNew
from flowbatch.store import statements
from flowbatch.store.faults import translated

APPLICATION_ID: Final = int.from_bytes(b"flow", "big")
CHECKED_BYTES: Final = 4 << 20  # a store up to this size is checked whole before each life (20 ms)


class Migration(Struct, frozen=True):
    number: int
    name: str
    sql: str


@cache
def migrations() -> tuple[Migration, ...]:
    folder = resources.files("flowbatch.store") / "migrations"
    found = [
        Migration(int(match[1]), match[2], file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if (match := re.fullmatch(r"(\d{4})_(\w+)\.sql", file.name))
    ]
    return tuple(sorted(found, key=lambda each: each.number))


def latest() -> int:
    return migrations()[-1].number


def uri(path: Path, *, mode: str, immutable: bool = False) -> str:
    return f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}" + ("&immutable=1" if immutable else "")


def version_of(path: Path) -> int | None:
    """The version of the store at the path; None where there is none yet. Raises without having touched it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    log = path.with_name(path.name + "-wal")
    logged = log.exists() and log.stat().st_size > 0
    if size == 0 and not logged:
        logs = path.with_name("logs")
        if logs.is_dir() and any(logs.iterdir()):
            raise StoreDamaged(
                f"{path}: the store is empty, and there are logs of its runs in {logs}; restore a backup, or move both away"
            )
        return None  # a life ended between making the file and writing to it
    try:
        # Without a log nobody writes (the engine's lock is ours), and an immutable file is read without leaving one.
        with closing(sqlite3.connect(uri(path, mode="ro", immutable=not logged), uri=True)) as db:
            return examined(db, path, size, logged=logged)
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error


def identified(db: sqlite3.Connection, path: Path) -> int | None:
    """The version that an open database says it has; None where a life ended, or goes on, before its first migration."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id == version == tables == 0:
        return None
    if application_id != APPLICATION_ID:
        raise StoreDamaged(f"{path}: not a store of flowbatch; choose another folder with --state")
    if version > latest():
        raise StoreTooNew(
            f"{path}: written by a newer flowbatch (store version {version}, this one knows {latest()}); "
            f"upgrade flowbatch, or choose another folder with --state"
        )
    return int(version)


def examined(db: sqlite3.Connection, path: Path, size: int, *, logged: bool) -> int | None:
    version = identified(db, path)
    if version is None:
        return None
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_size,) = db.execute("PRAGMA page_size").fetchone()
    if not logged and pages * page_size > size:
        raise StoreDamaged(f"{path}: cut off at {size} of {pages * page_size} bytes; restore a backup")
    if size <= CHECKED_BYTES:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamaged(f"{path}: the store is damaged ({verdict}); restore a backup")
    return version


def opened(path: Path, steps: Sequence[Migration] | None = None) -> sqlite3.Connection:
    """A connection that may write, to a store of this version."""
    steps = migrations() if steps is None else steps
    try:
        version = version_of(path)
        if version is None:
            create(path)
        elif version < steps[-1].number:
            back_up(path, version)
        # The thread that opens it is not the one that will use it.
        db = sqlite3.connect(uri(path, mode="rw"), uri=True, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        if version is None:
            db.execute(statements.BEFORE_FIRST_TABLE)
        db.execute(statements.WAL)
        if version is None:
            apply(db, steps)  # at once: a reader meets a whole store, or none
        else:
            for step in steps:
                if step.number > version:
                    apply(db, [step])
        db.executescript(statements.PRAGMAS)
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, str(path)) from error
        raise
    return db


def create(path: Path) -> None:
    """An empty file that only its owner reads; SQLite gives its log the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    os.chmod(path, 0o600)


def back_up(path: Path, version: int) -> Path:
    """A whole copy beside the store, durable before anything changes."""
    target = path.with_name(f"{path.name}.v{version}.backup")
    unfinished = path.with_name(f"{target.name}.part")
    unfinished.unlink(missing_ok=True)
    create(unfinished)
    with closing(sqlite3.connect(uri(path, mode="rw"), uri=True, isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(unfinished),))
    sync(unfinished)
    os.replace(unfinished, target)
    sync(path.parent)
    return target


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def apply(db: sqlite3.Connection, steps: Sequence[Migration]) -> None:
    """One transaction; foreign keys are checked at its end, because a table may have been rebuilt in it."""
    db.execute(statements.BEGIN)
    try:
        for step in steps:
            for statement in split(step.sql):
                db.execute(statement)
            broken = db.execute("PRAGMA foreign_key_check").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if broken or version != step.number:
                raise InternalError(f"migration {step.number:04} ({step.name}) leaves {broken or f'version {version}'}")
        db.execute(statements.COMMIT)
    except BaseException:
        if db.in_transaction:
            db.execute(statements.ROLLBACK)
        raise


def split(sql: str) -> list[str]:
    """Statements of a script, each ending at the end of a line. (`executescript` would commit our transaction first.)"""
    found, lines = [], ""
    for line in sql.splitlines(keepends=True):
        lines += line
        if sqlite3.complete_statement(lines):
            found.append(lines.strip())
            lines = ""
    return found
