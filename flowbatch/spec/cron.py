"""Schedules: when a workflow's next run is due, also across daylight-saving changes and after the server was down.

Times are those of cronsim, which does as Debian's cron: a job at a fixed hour runs once on the day when that hour comes twice or not at
all (in the latter case at the first moment after the gap); one with `*` in its hours or minutes follows the clock on the wall.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from msgspec import Struct

from flowbatch.model.ids import Millis

MISSED_MAX: Final = 1_000  # runs made up for at once under `missed: all`
FIELDS: Final = "minute hour day-of-month month day-of-week"
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class Missed(StrEnum):
    """What becomes of the times that passed while no server ran."""

    SKIP = "skip"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a time at which an earlier run of the schedule is still going on."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"


class Schedule(Struct, frozen=True):
    """Valid: made by `parse_schedule`."""

    cron: str
    tz: str = "UTC"
    missed: Missed = Missed.LATEST
    overlap: Overlap = Overlap.SKIP

    def after(self, at: Millis) -> Iterator[Millis]:
        """All times later than `at`, in order; ends where the calendar does."""
        return map(millis, CronSim(self.cron, self._local(at)))

    def before(self, at: Millis) -> Iterator[Millis]:
        """All times up to and with `at`, the latest first."""
        return map(millis, CronSim(self.cron, self._local(Millis(at + 1000)), reverse=True))

    def _local(self, at: Millis) -> datetime:
        return datetime.fromtimestamp(at // 1000, UTC).astimezone(ZoneInfo(self.tz))


class Due(Struct, frozen=True):
    """The times to run for now, in order, and how many are passed over."""

    times: tuple[Millis, ...]
    passed_over: int = 0


def due(schedule: Schedule, seen: Millis, now: Millis, *, was_down: bool) -> Due:
    """What has come since `seen`, the last time that was looked at, exclusive, up to `now`.

    `was_down`: no server ran in between, so that `missed` decides. While one runs nothing is missed, however late its turn comes, but
    for the one rule that a clock set forward by more than one of its times counts as a pause of the server.
    """
    times = list(islice(up_to(schedule.after(seen), now), MISSED_MAX + 1))
    if len(times) <= 1 and not was_down:
        return Due(tuple(times))
    if schedule.missed is Missed.ALL:
        kept = times[:MISSED_MAX]
        return Due(tuple(kept), count(schedule, seen, now) - len(kept) if len(times) > MISSED_MAX else 0)
    if not times:
        return Due(())
    latest = next(schedule.before(now))
    total = len(times) if len(times) <= MISSED_MAX else count(schedule, seen, now)
    if schedule.missed is Missed.SKIP and was_down:
        return Due((), total)
    return Due((latest,), total - 1)


def count(schedule: Schedule, seen: Millis, now: Millis) -> int:
    return sum(1 for _ in up_to(schedule.after(seen), now))


def up_to(times: Iterator[Millis], now: Millis) -> Iterator[Millis]:
    for time in times:
        if time > now:
            return
        yield time


def millis(moment: datetime) -> Millis:
    return Millis(int(moment.timestamp()) * 1000)


def parse_schedule(cron: str, tz: str = "UTC", missed: str = Missed.LATEST, overlap: str = Overlap.SKIP) -> Schedule:
    """Raises ValueError with what is wrong, and how it would be right."""
    return Schedule(expression(cron), zone(tz), Missed(missed), Overlap(overlap))


def expression(cron: str) -> str:
    """The five fields of a schedule, nicknames such as @daily spelled out. Raises ValueError."""
    fields = NICKNAMES.get(cron.strip().lower(), cron).split()
    if len(fields) != 5:
        raise ValueError(f"{cron!r} is no schedule: five fields are needed ({FIELDS}), as in '0 2 * * mon-fri'")
    try:
        first = next(CronSim(" ".join(fields), datetime(2026, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        raise ValueError(f"{cron!r} is no schedule: {str(error).lower()} ({FIELDS})") from None
    if first is None:
        raise ValueError(f"{cron!r} never comes")
    return " ".join(fields)


def zone(tz: str) -> str:
    """Raises ValueError where there is no such time zone."""
    try:
        ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{tz!r} is no time zone: use a name like Europe/Prague, or UTC") from None
    return tz
