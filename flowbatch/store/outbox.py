"""What people ask of the outbox: how far each sink is, what was delivered, what was refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct
from pydantic_core import from_json

from flowbatch.errors import InputError
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Ack, Dead, Notify, Parked, SinkStatus
from flowbatch.store import queries
from flowbatch.store.loading import Columns
from flowbatch.store.reader import Reader
from flowbatch.store.sinks import notify_of

SINKS_MAX: Final = 10_000
ROWS_MAX: Final = 10_000


class SinkView(Struct, frozen=True):
    key: str
    run: int | None  # RunRow.no
    notify: Notify
    status: SinkStatus
    status_reason: str | None  # why it is disabled
    cursor: int
    until: int | None
    created_at: Millis
    failing_since: Millis | None
    tries: int
    error: str | None
    delivered: int
    failed: int
    dead: int
    delivered_at: Millis | None
    last_seq: int  # of the log

    @property
    def lag(self) -> int:
        """Events behind its cursor; of those it may want some."""
        if self.status is SinkStatus.CLOSED:
            return 0
        return max((self.last_seq if self.until is None else min(self.until, self.last_seq)) - self.cursor, 0)

    @property
    def name(self) -> str:
        """`1a2b3c4d/slack`."""
        run, slash, name = self.key.rpartition("/")
        return f"{run[:8]}{slash}{name}"


class Refusals(Struct, frozen=True):
    """What a sink could not deliver."""

    parked: list[Parked]
    dead: list[Dead]
    gaps: list[tuple[int, int, Millis]]


class Meters(NamedTuple):
    """Of all sinks of one name: `run/slack` for those that runs brought along, and a sink with its redeliveries."""

    name: str
    delivered: int
    failed: int  # tries
    dead: int
    failing: int  # sinks whose receiver fails now
    disabled: int  # sinks
    lag: int  # events behind the cursor, of the one that is furthest behind
    parked: int  # messages that were refused, and are tried again apart from the rest


class Outbox(Reader):
    """Use it in a `with`."""

    def sinks(self) -> list[SinkView]:
        last = self.last_seq()
        return [view(row, last) for row in self.rows(queries.SINKS, "", SINKS_MAX)]

    def meters(self) -> list[Meters]:
        return [Meters(*row) for row in self.rows(queries.SINK_METERS, self.last_seq())]

    def find(self, name: str) -> SinkView:
        """By its key, by `1a2b3c4d/name`, or by its name alone: then the newest one of that name. Raises InputError."""
        every = self.sinks()
        found = [each for each in every if name in (each.key, each.name)]
        found = found or [each for each in every if each.key.rpartition("/")[2] == name]
        if not found:
            known = ", ".join(dict.fromkeys(each.key.rpartition("/")[2] for each in every))
            raise InputError(
                f"there is no receiver {name!r}" + (f"; there are {known}" if known else "; nothing was told yet")
            )
        return max(found, key=lambda each: (each.created_at, each.run or 0))

    def delivered(self, sink: SinkView) -> Iterator[Ack]:
        """The newest first, of those that are kept."""
        before = 2**62
        while rows := self.rows(queries.DELIVERIES, sink.key, before, 100):
            for _no, at, acks in rows:
                for seq, tries, status, latency_ms, ago_ms in reversed(from_json(acks)):
                    yield Ack(seq, tries, status, latency_ms, Millis(at - ago_ms))
            before = rows[-1][0]

    def refusals(self, sink: SinkView) -> Refusals:
        return Refusals(
            [Parked(*row) for row in self.rows(queries.PARKED, sink.key)],
            [Dead(*row) for row in self.rows(queries.DEAD, sink.key, ROWS_MAX)],
            [(first, last, Millis(at)) for first, last, at in self.rows(queries.GAPS, sink.key, ROWS_MAX)],
        )

    def dead_of(self, sink: SinkView) -> list[Dead]:
        """What was given up, and can be tried again one by one. Raises InputError where it is digests of a sink that gets none any
        more."""
        dead = self.refusals(sink).dead
        ranges = [(each.first, each.seq) for each in dead if each.first is not None]
        if sink.notify.digest_ms is not None or not ranges:
            return dead
        told = ", ".join(f"`--from {first} --to {last}`" for first, last in ranges[:5])
        raise InputError(
            f"{sink.name} was to get digests, and gets their events now; redeliver these: {told}"
            + (f" and {len(ranges) - 5} more, see `flowbatch deliveries --failed`" if len(ranges) > 5 else "")
        )

    def behind(self, before: Millis) -> list[SinkView]:
        """Receivers of the settings that have not got past the events of the runs that `collect` would take: what they still want of them
        will be a gap. Those of runs hold their runs back."""
        [(newest,)] = self.rows(queries.NEWEST_ENDED, before)
        open_now = (each for each in self.sinks() if each.run is None and each.status is SinkStatus.OPEN)
        return [each for each in open_now if each.cursor < newest]

    def kept(self, first: int, last: int) -> tuple[int, int]:
        """The range less what was collected at its ends. Raises InputError where nothing is left, or there never was such an event."""
        end = self.last_seq()
        if not 1 <= first <= last <= end:
            raise InputError(f"there are no such events: the log has 1..{end:,}")
        [(low, high)] = self.rows(queries.KEPT_EVENTS, first, last)
        if low is None:
            which = f"event {first:,} was" if first == last else f"events {first:,}..{last:,} were"
            raise InputError(f"{which} collected: they go with their runs (`gc`, `retention`)")
        return low, high


def view(row: Columns, last: int) -> SinkView:
    (
        key,
        run,
        notify,
        status,
        why,
        cursor,
        until,
        created,
        since,
        tries,
        error,
        *_digest,
        delivered,
        failed,
        dead,
        at,
    ) = row
    return SinkView(
        key, run, notify_of(notify), SinkStatus(status), why, cursor, until, created, since, tries, error, delivered,
        failed, dead, at, last,
    )  # fmt: skip
