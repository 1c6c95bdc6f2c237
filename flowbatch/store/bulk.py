"""Many rows in one step of SQLite.

`executemany` steps once per row and gives the interpreter's lock up for each step. Beside a thread that is busy with Python the
lock comes back only after the switch interval of 5 ms, so that 2,000 rows took 2.7 to 9 s (and 17 ms beside an idle
one). One statement that carries up to 512 rows steps once for all of them: 50 ms busy, 5 ms idle. The same through
`json_each` takes 23 ms idle, for SQLite parses each element again.

Half of the idle time had gone into binding: sqlite3 looks for an adapter of None, of enums, of everything but exact int,
float, str and bytearray, at 0.4 µs a value. An exact int takes 0.03 µs, and so does NaN, which SQLite defines as NULL;
no column of ours is a REAL.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Final

from msgspec import Struct

NULL: Final = float("nan")
SMALL_INTS: Final = tuple(range(16))  # turns an IntEnum, or a bool, into the exact int
# Rows of a statement; 512 rows of 17 columns stay below SQLite's 32,766 parameters. What is beyond the LIMIT is bound all the same:
# a server's turn of a dozen submissions paid for 64, one of a hundred ends and starts for 512.
SIZES: Final = (1, 4, 16, 64, 512)
ROW: Final = re.compile(r"\((?:\?, )+\?\)")

Value = int | str | float | None


class Bulk(Struct, frozen=True):
    """A statement with `VALUES (?, …)` and `LIMIT ?`, and the columns in it that hold enums or bools."""

    sql: str
    width: int
    enums: tuple[int, ...] = ()

    def write(self, db: sqlite3.Connection, rows: Sequence[Sequence[Value]]) -> None:
        flat: list[Value] = [NULL if value is None else value for value in chain.from_iterable(rows)]
        for column in self.enums:
            flat[column :: self.width] = map(SMALL_INTS.__getitem__, flat[column :: self.width])  # type: ignore[arg-type]
        at, end = 0, len(rows)
        while at < end:
            size = max(size for size in SIZES if size <= 2 * (end - at))  # at most half of it is bound for nothing
            count = min(size, end - at)
            part = flat[at * self.width : (at + count) * self.width]
            part.extend([0] * ((size - count) * self.width))  # beyond the LIMIT, read by nobody
            part.append(count)
            db.execute(widened(self.sql, size), part)
            at += count


@cache
def widened(sql: str, rows: int) -> str:
    """The same statement with room for that many rows."""
    return ROW.sub(lambda found: ", ".join([found.group()] * rows), sql, count=1)
