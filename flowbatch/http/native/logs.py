"""Logs of attempts over the native API: as they are stored, a range of them, their end, and on as lines come."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Final

import anyio
import anyio.to_thread
from pydantic import Field

from flowbatch import tasklogs
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure, Failure
from flowbatch.http.native.routes import NotFound, Query, asked
from flowbatch.http.native.streams import BrokenOff, Raw, Stream
from flowbatch.http.native.subjects import job_of
from flowbatch.http.operations.shapes import Natural, Whole
from flowbatch.model.ids import ALONE, AttemptKey, log_name
from flowbatch.store.results import JobView

RANGE_BYTES: Final = 4 * 1024 * 1024  # of one answer
CHUNK: Final = 256 * 1024
TAIL_MAX: Final = 100_000  # lines
LOOK_S: Final = 0.2
STEADY_LOOKS: Final = 3  # an ended attempt's log is complete when it has not grown for so many
SAY_AGAIN_LOOKS: Final = 10  # that somebody reads along
TEXT: Final = "text/plain; charset=utf-8"
RANGE: Final = re.compile(r"bytes=(\d{1,15})-(\d{0,15})")


class Log(Query):
    index: Whole = 0
    attempt: Natural | None = Field(None, description="The last one unless it is given.")
    member: Whole | None = Field(None, description="A node or container of the attempt.")
    offset: Whole = Field(0, description="From this byte on.")
    limit: Annotated[int, Field(ge=1, le=RANGE_BYTES)] = RANGE_BYTES
    tail: Annotated[int, Field(ge=0, le=TAIL_MAX)] | None = Field(None, description="The last lines alone.")
    follow: bool = Field(False, description="On as lines come, until the attempt has ended.")


class OutOfRange(Failure):
    status = 416
    code = "RangeNotSatisfiable"


async def get_log(call: Call) -> Raw | Stream:
    """The log of an attempt as it is stored: lines `EPOCH_MS o|e TEXT`. The header Range is understood too."""
    job, given = job_of(call), asked(call, Log)
    key = attempt_of(call, job, given)
    path = call.service.logs / log_name(key.id)
    headers = {
        "content-disposition": f'attachment; filename="{key.id}.log"',
        "x-flowbatch-truncated": "true" if tasklogs.is_cut(path) else "false",
        "x-flowbatch-attempt": str(key.attempt),
        "accept-ranges": "bytes",
    }
    if given.follow:
        return Stream(TEXT, lambda: followed(call, job, key, path, given), call.service.live.slow_s, headers)
    if given.tail is not None:
        lines = await anyio.to_thread.run_sync(tasklogs.tail, path, given.tail)
        return Raw(b"".join(map(stored, lines)), TEXT, headers=headers)
    first, limit, partly = wanted(call, given)
    body, size = await anyio.to_thread.run_sync(between, path, first, limit)
    if partly and first >= size:
        raise OutOfRange(f"The log has {size} bytes")
    headers["x-flowbatch-size"] = str(size)
    if partly or len(body) < size:
        headers["content-range"] = f"bytes {first}-{max(first + len(body) - 1, 0)}/{size}"
    return Raw(body, TEXT, 206 if partly else 200, headers)


def attempt_of(call: Call, job: JobView, given: Log) -> AttemptKey:
    """Raises ClientFailure, NotFound."""
    if given.index >= job.tasks:
        raise ClientFailure(f"{job.name} has no child {given.index}; it has {job.tasks}")
    begun = call.service.reader.task(job, given.index).attempts
    number = given.attempt or begun
    if not begun or number > begun:
        raise NotFound(f"{job.name} had {begun or 'no'} attempt{'' if begun == 1 else 's'}")
    key = AttemptKey(job.id, given.index, number, ALONE if given.member is None else given.member)
    if given.member is not None and all(
        each.key != key for each in call.service.reader.members(job, given.index, number)
    ):
        raise NotFound(f"{job.name} has no node or container {given.member}")
    return key


def wanted(call: Call, given: Log) -> tuple[int, int, bool]:
    """From where, how much at most, and whether it was asked for by the header."""
    said = call.request.headers.get("range")
    found = None if said is None else RANGE.fullmatch(said.strip())
    if found is None:
        return given.offset, given.limit, False  # of other units and of several ranges a server gives all
    first, last = int(found[1]), int(found[2]) if found[2] else None
    if last is not None and last < first:
        raise OutOfRange(f"{said} is no range")
    return first, RANGE_BYTES if last is None else min(last - first + 1, RANGE_BYTES), True


def between(path: Path, first: int, limit: int) -> tuple[bytes, int]:
    """Of both segments as one, and how much there is."""
    files = tasklogs.opened(path)
    try:
        found, at = b"", 0
        for file in files:
            size = os.fstat(file.fileno()).st_size
            if at <= first + len(found) < at + size and len(found) < limit:
                file.seek(first + len(found) - at)
                found += file.read(limit - len(found))
            at += size
        return found, at
    finally:
        for file in files:
            file.close()


def stored(line: tasklogs.LogLine) -> bytes:
    return (b"" if line.at is None else b"%d %s " % (line.at, line.stream.encode())) + line.text + b"\n"


async def followed(call: Call, job: JobView, key: AttemptKey, path: Path, given: Log) -> AsyncIterator[bytes]:
    """Reads on where it stood, over rotations; no more than what is taken is in memory."""
    reader, seen, steady, looks = call.service.reader, dict[int, int](), 0, 0
    if given.tail is not None:
        seen, lines = await anyio.to_thread.run_sync(end_of, path, given.tail)
        yield b"".join(map(stored, lines))
    else:
        yield b""
    while not call.service.live.closing and call.still_valid():
        task = reader.task(job, key.idx)
        over = task.attempts != key.attempt or not task.status.live
        if key.member != ALONE and not over:
            crew = reader.members(job, key.idx, key.attempt)
            over = any(each.key == key and each.status.terminal for each in crew)
        data = await anyio.to_thread.run_sync(more, path, seen)
        yield data
        steady = 0 if data or not over else steady + 1
        if steady >= STEADY_LOOKS:
            return
        if not over and looks % SAY_AGAIN_LOOKS == 0:
            await call.service.verbs.call("watch_log", {"attempt": key.id})
        looks += 1
        if not data:
            await anyio.sleep(LOOK_S)
    raise BrokenOff


def more(path: Path, seen: dict[int, int]) -> bytes:
    """What has come since, a piece of it. `seen`: how much was read of each segment, by its number."""
    files = tasklogs.opened(path)
    try:
        numbers = [tasklogs.number(file) for file in files]
        for gone in seen.keys() - set(numbers):
            del seen[gone]
        for number, file in zip(numbers, files, strict=True):
            file.seek(seen.get(number, 0))
            if data := file.read(CHUNK):
                seen[number] = seen.get(number, 0) + len(data)
                return data
        return b""
    finally:
        for file in files:
            file.close()


def end_of(path: Path, count: int) -> tuple[dict[int, int], list[tasklogs.LogLine]]:
    """The last lines, and how far that is."""
    files = tasklogs.opened(path)
    try:
        lines = tasklogs.tail_of(files, count)
        return {tasklogs.number(file): file.tell() for file in files}, lines
    finally:
        for file in files:
            file.close()


__all__ = ["get_log"]
