"""Where verbs find what attempts printed: in files here, or with a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from flowbatch import tasklogs
from flowbatch.model.ids import ALONE, AttemptKey, log_name
from flowbatch.tasklogs import LogLine

if TYPE_CHECKING:
    from flowbatch.remote.channel import Channel


class LogSource(Protocol):
    def lines(self, key: AttemptKey, count: int | None = None) -> Iterator[LogLine]:
        """All, or the last so many."""

    def follow(self, key: AttemptKey, over: Callable[[], bool], count: int | None) -> Iterator[LogLine]:
        """On as they come, until the attempt has ended; `over` says so where files are read."""

    def is_cut(self, key: AttemptKey) -> bool:
        """Its beginning is gone."""

    def size(self, key: AttemptKey) -> int | None:
        """In bytes; None: there is none."""

    def path(self, key: AttemptKey) -> str | None:
        """Where it lies on this machine."""


class LogFiles(Struct, frozen=True):
    folder: Path

    def _file(self, key: AttemptKey) -> Path:
        return self.folder / log_name(key.id)

    def lines(self, key: AttemptKey, count: int | None = None) -> Iterator[LogLine]:
        path = self._file(key)
        return tasklogs.read(path) if count is None else iter(tasklogs.tail(path, count))

    def follow(self, key: AttemptKey, over: Callable[[], bool], count: int | None) -> Iterator[LogLine]:
        return tasklogs.follow(self._file(key), over, last=count)

    def is_cut(self, key: AttemptKey) -> bool:
        return tasklogs.is_cut(self._file(key))

    def size(self, key: AttemptKey) -> int | None:
        path = self._file(key)
        if path.exists():
            return path.stat().st_size
        return 0 if tasklogs.segments(path) else None

    def path(self, key: AttemptKey) -> str | None:
        return str(self._file(key))


class LogsOfServer(Struct, frozen=True):
    channel: Channel

    def lines(self, key: AttemptKey, count: int | None = None) -> Iterator[LogLine]:
        if count is not None:
            yield from self._said(key, tail=count)
            return
        at, rest = 0, b""
        while True:  # a range at a time: a log may be larger than one answer
            data, headers = self.channel.raw("jobs", key.job, "log", **self._named(key), offset=at)
            *whole, rest = (rest + data).split(b"\n")
            yield from map(tasklogs.parse, whole)
            at += len(data)
            if not data or at >= int(headers["x-flowbatch-size"]):
                break
        if rest:
            yield tasklogs.parse(rest)

    def follow(self, key: AttemptKey, over: Callable[[], bool], count: int | None) -> Iterator[LogLine]:
        return self._said(key, tail=count, follow=True)

    def _said(self, key: AttemptKey, **query: object) -> Iterator[LogLine]:
        for line in self.channel.lines("jobs", key.job, "log", **self._named(key), **query):
            yield tasklogs.parse(line.rstrip(b"\n"))

    def is_cut(self, key: AttemptKey) -> bool:
        return self._headers(key)["x-flowbatch-truncated"] == "true"

    def size(self, key: AttemptKey) -> int | None:
        return int(self._headers(key)["x-flowbatch-size"]) or None

    def path(self, key: AttemptKey) -> str | None:
        return None

    def _headers(self, key: AttemptKey) -> dict[str, str]:
        return dict(self.channel.raw("jobs", key.job, "log", **self._named(key), limit=1)[1])

    def _named(self, key: AttemptKey) -> dict[str, object]:
        member = None if key.member == ALONE else key.member
        return {"index": key.idx, "attempt": key.attempt, "member": member}


def last_lines(source: LogSource, key: AttemptKey, count: int) -> list[str]:
    """The last ones that say something, as text, for a summary."""
    found = (line.text.decode("utf-8", "replace").rstrip() for line in source.lines(key, count * 2))
    return [line for line in found if line][-count:]
