"""What an error of SQLite means to flowbatch."""

from __future__ import annotations

import sqlite3

from flowbatch.errors import FlowbatchError, InternalError, StoreDamaged, StoreError, StoreFull

# The index of the log lies in a file of its own; growing it on a full disk is an I/O error by SQLite's count.
FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def busy(error: sqlite3.Error) -> bool:
    return code_of(error) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def code_of(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)


def translated(error: sqlite3.Error, path: str) -> FlowbatchError:
    """Says what, where and what to do; the caller raises it from the error."""
    code = code_of(error)
    if code in FULL or code & 0xFF in FULL:
        return StoreFull(f"{path}: no room on the disk; free some")
    if code & 0xFF in DAMAGED:
        return StoreDamaged(f"{path}: the store is damaged ({error}); restore a backup, or move the state folder away")
    if busy(error):
        return StoreError(f"{path}: another program keeps the store locked; close it and start again")
    if code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return StoreError(f"{path}: the store took too long to answer; is the disk, or a network mount, hanging?")
    if code & 0xFF in {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE}:
        return InternalError(f"{path}: {error}")
    return StoreError(f"{path}: {error}; the disk or the folder's permissions may be at fault")
