"""The writer's connection: whole transactions as functions on aiosqlite's thread.

aiosqlite's own methods take one statement a call, that is one hop between threads a statement (16 to 75 µs and an await at which a
coroutine can be cancelled, with the transaction open behind it). A turn is handed over as one function instead, so that
a transaction has begun, ended or been rolled back before anything else can reach the connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite
import anyio
import anyio.to_thread

from flowbatch.errors import StoreError
from flowbatch.store import statements
from flowbatch.store.faults import busy, translated
from flowbatch.store.migrate import opened

Result = TypeVar("Result")
DEADLINE_S = 60.0
LOCK_TRIES = 6  # of 5 s each, before another program's lock is given up on


class Connection(aiosqlite.Connection):
    """Adds one verb: run a function of the sqlite3 connection on its thread."""

    async def call(self, function: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._connection is None:
            raise StoreError("the store is closed")
        result: Result = await self._execute(function, self._connection)  # type: ignore[no-untyped-call]
        return result

    def call_later(self, function: Callable[[sqlite3.Connection], None]) -> None:
        """After what was called before, ahead of the next call; nobody waits for it, so it answers for its own errors."""
        if self._connection is not None:
            self._tx.put_nowait((None, partial(function, self._connection)))


async def connect(path: Path) -> Connection:
    """Opened before aiosqlite's thread is there: one that fails to open would be left behind, to speak to a closed loop."""
    db = await anyio.to_thread.run_sync(partial(opened, path))
    connection = Connection(lambda: db, 64)
    with anyio.CancelScope(shield=True):  # hands over what is open already
        await connection
    return connection


def transaction(db: sqlite3.Connection, body: Callable[[sqlite3.Connection], Result]) -> Result:
    """Begins, and either commits all of it or nothing."""
    begin(db)
    try:
        result = body(db)
        db.execute(statements.COMMIT)
    except BaseException:
        if db.in_transaction:  # a full disk has rolled it back already
            db.execute(statements.ROLLBACK)
        raise
    return result


def begin(db: sqlite3.Connection) -> None:
    for tries in range(LOCK_TRIES, 0, -1):
        try:
            db.execute(statements.BEGIN)
        except sqlite3.OperationalError as error:
            if not busy(error) or tries == 1:
                raise
        else:
            return


async def shielded(
    connection: Connection,
    path: str,
    function: Callable[[sqlite3.Connection], Result],
    *,
    deadline_s: float = DEADLINE_S,
) -> Result:
    """Runs to its end whatever becomes of the caller, up to the deadline; errors of SQLite come out as flowbatch's own."""
    try:
        with anyio.fail_after(deadline_s, shield=True):
            return await connection.call(function)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    except TimeoutError as error:
        await connection.interrupt()
        text = f"{path}: the store has not answered for {deadline_s:g} s; is the disk, or a network mount, hanging?"
        raise StoreError(text) from error
