"""What a sink sends next, and what of it must be on disk: every decision of a dispatcher, with no IO, clock or chance in it.

A window holds what was read from the log and is not settled. Facts go in (`read`, `answered`, `persisted`), decisions come out
(`due`, `progress`, `next_at`). The laws, which tests/hooks/sim holds it to (I6):

- Events of one stream (a job, a child, a run) are sent one by one and in order: the next one goes out when the one before is settled.
- An event is settled when it is delivered, not wanted, or dead. The cursor stands before the first that is neither settled nor
  parked, so that a crash repeats at most what was in flight or settled since the last progress.
- A receiver that fails gets one message at a time, after a pause; nothing is written meanwhile, and what is read stays bounded.
- A message that is refused while others pass is parked, and its stream with it; after the last of its tries it is dead, and
  the stream goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from flowbatch.hooks.filters import stream_of
from flowbatch.hooks.health import START, Answer, Health, Outcome, message_wait_ms
from flowbatch.model.events import EventKind, LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Ack, Dead, Parked, SinkProgress, Trouble

WIDTH: Final = 16  # requests in flight
READ_AHEAD: Final = 256  # events, beyond what a request takes
PARKED_MAX: Final = 1_000  # then the receiver counts as failing
PERSIST_MS: Final = 250
PERSIST_ACKS: Final = 64
REFUSED_IN_A_ROW: Final = 16  # messages: then it is the receiver
STUBBORN: Final = 3  # failures of one message, others passing between them: then it is the message

Stream = tuple[int, int]


@dataclass(slots=True, eq=False)
class Entry:
    event: LoggedEvent
    stream: Stream
    tries: int = 0
    failed_at_success: int = -1  # how many successes there had been when it failed first
    alone: bool = False  # its batch was refused: it goes by itself
    parked: bool = False
    next_at: Millis | None = None
    error: str = ""

    @property
    def seq(self) -> int:
        return self.event.seq


@dataclass(slots=True, eq=False)
class Parcel:
    """One request: one event, or a batch of them."""

    entries: tuple[Entry, ...]


@dataclass(slots=True)
class Window:
    key: str
    cursor: int  # on disk
    health: Health = field(default_factory=Health)
    width: int = WIDTH
    batch: int = 1
    rate: int | None = None  # messages a second
    until: int | None = None
    run: int | None = None

    read_to: int = 0
    more: bool = True  # the log may have more
    over_at: int | None = None  # nothing comes after this event
    disabled: str | None = None
    flying: set[Parcel] = field(default_factory=set)
    unsettled: dict[int, Entry] = field(default_factory=dict)  # by seq, in order: waiting or flying, and not parked
    streams: dict[Stream, deque[Entry]] = field(default_factory=dict)  # waiting, the first one's turn is next
    busy: set[Stream] = field(default_factory=set)
    ready: deque[Stream] = field(default_factory=deque)
    parked: dict[int, Entry] = field(default_factory=dict)
    blocked: dict[Stream, deque[Entry]] = field(default_factory=dict)  # parked ones, in order
    successes: int = 0
    refused: int = 0  # in a row
    send_at: Millis = START  # by the rate

    acks: list[Ack] = field(default_factory=list)
    park: dict[int, Entry] = field(default_factory=dict)  # to be written
    unpark: list[int] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    failures: int = 0
    changed_since: Millis | None = None  # something is to be written
    urgent: bool = False
    persisting: bool = False
    told: Trouble | None = None  # what the store says of the receiver

    def __post_init__(self) -> None:
        self.read_to = self.cursor
        self.over_at = self.until
        self.told = self.health.trouble()

    # --- facts

    def restore(self, parked: Iterable[tuple[Parked, LoggedEvent]]) -> None:
        """What an earlier life parked, in order of seq."""
        for row, event in parked:
            entry = Entry(event, stream_of(event.row), row.tries, parked=True, next_at=row.next_at, error=row.error)
            self.parked[entry.seq] = entry
            self.blocked.setdefault(entry.stream, deque()).append(entry)
        for waiting in self.blocked.values():
            if waiting[0].next_at is None:
                waiting[0].next_at = Millis(0)

    def woken(self) -> None:
        self.more = True

    def wants(self) -> int:
        """How many events should be read after `read_to`; 0: none now."""
        if not self.more or self.disabled is not None or len(self.parked) >= PARKED_MAX:
            return 0
        if self.until is not None and self.read_to >= self.until:
            return 0
        room = READ_AHEAD + self.width * self.batch - len(self.unsettled)
        return max(room, 0) if room >= READ_AHEAD // 2 else 0

    def read(
        self,
        events: Sequence[LoggedEvent],
        wanted: Sequence[bool],
        to: int,
        more: bool,
        gaps: Sequence[tuple[int, int]],
        now: Millis,
    ) -> None:
        """All that the log has of (read_to, to]."""
        for event, want in zip(events, wanted, strict=True):
            if self.run is not None and event.row.kind is EventKind.RUN and self.until is None:
                self.over_at = event.seq if event.row.status else None
            if want:
                self._take(event, now)
        if to > self.read_to:
            self.read_to = to
            if not self.unsettled and to - self.cursor >= 1000:
                self._changed(now)  # a long way without anything wanted is not gone again
        self.more = more
        if gaps:
            self.gaps += gaps
            self._changed(now, urgent=True)
        if self.finished():
            self._changed(now, urgent=True)

    def _take(self, event: LoggedEvent, now: Millis) -> None:
        if event.seq in self.parked:
            return  # by an earlier life, ahead of its cursor
        entry = Entry(event, stream_of(event.row))
        if entry.stream in self.blocked:
            self._park(entry, None, "waits behind one of the same job", now)
            return
        self.unsettled[entry.seq] = entry
        self._queue(entry)

    def _queue(self, entry: Entry) -> None:
        waiting = self.streams.get(entry.stream)
        if waiting is None:
            waiting = self.streams[entry.stream] = deque()
            if entry.stream not in self.busy:
                self.ready.append(entry.stream)
        waiting.append(entry)

    def answered(self, parcel: Parcel, answer: Answer, now: Millis, draw: float) -> None:
        """`draw`: chance, in [0, 1)."""
        self.flying.discard(parcel)
        outcome = answer.outcome
        if outcome is Outcome.MESSAGE and len(parcel.entries) > 1:
            for entry in parcel.entries:
                entry.alone = True
            self._again(parcel, front=True)
            return
        if outcome is Outcome.MESSAGE:
            self.refused += 1
            if self.refused > REFUSED_IN_A_ROW and not parcel.entries[0].parked:
                outcome = Outcome.ENDPOINT
        if outcome is Outcome.DELIVERED:
            self._delivered(parcel, answer, now)
            return
        self.failures += 1
        if outcome is Outcome.GONE:
            self._again(parcel, front=True)
            self._disable(answer.error, now)
        elif outcome is Outcome.MESSAGE or self._stubborn(parcel):
            self._refused(parcel.entries[0], answer, now, draw)
        else:
            self._failed(parcel, answer, now, draw)

    def _delivered(self, parcel: Parcel, answer: Answer, now: Millis) -> None:
        self.successes += 1
        self.refused = 0
        if self.health.since is not None:
            self.health.succeeded()
            self._changed(now)
        for entry in parcel.entries:
            self.acks.append(Ack(entry.seq, entry.tries + 1, answer.status, answer.latency_ms, now))
            self._settle(entry)
        self._free(parcel)
        self._changed(now, urgent=self.finished())

    def _stubborn(self, parcel: Parcel) -> bool:
        """It fails again and again, and others pass meanwhile: a receiver that answers 500 to one message alone is not down."""
        entry = parcel.entries[0]
        if len(parcel.entries) > 1 or entry.parked:
            return entry.parked and self.health.since is None
        return entry.tries + 1 >= STUBBORN and 0 <= entry.failed_at_success < self.successes

    def _failed(self, parcel: Parcel, answer: Answer, now: Millis, draw: float) -> None:
        before = self.health.since
        self.health.failed(now, answer, draw)
        for entry in parcel.entries:
            entry.tries += 1
            if entry.failed_at_success < 0:
                entry.failed_at_success = self.successes
        self._again(parcel, front=False)
        if before is None:
            self._changed(now)
        if self.health.hopeless(now):
            self._disable(
                f"it has failed for {(now - (self.health.since or now)) // 86_400_000} days: {answer.error}", now
            )

    def _refused(self, entry: Entry, answer: Answer, now: Millis, draw: float) -> None:
        entry.tries += 1
        wait_ms = message_wait_ms(entry.tries, draw)
        self.busy.discard(entry.stream)
        if wait_ms is None:
            silent = entry.event.row.kind is EventKind.SINK
            self.dead.append(Dead(entry.seq, entry.tries, now, answer.error, silent))
            self._settle(entry)
            self._next_of(entry.stream)
            self._changed(now, urgent=True)
            return
        if answer.retry_after_ms is not None:
            wait_ms = max(wait_ms, answer.retry_after_ms)
        self._park(entry, Millis(now + wait_ms), answer.error, now)
        for follower in self.streams.pop(entry.stream, ()):
            self._park(follower, None, "waits behind one of the same job", now)

    def _park(self, entry: Entry, next_at: Millis | None, error: str, now: Millis) -> None:
        entry.next_at, entry.error = next_at, error
        if not entry.parked:
            entry.parked = True
            self.unsettled.pop(entry.seq, None)
            self.parked[entry.seq] = entry
            self.blocked.setdefault(entry.stream, deque()).append(entry)
        self.park[entry.seq] = entry
        self._changed(now)

    def _settle(self, entry: Entry) -> None:
        if not entry.parked:
            del self.unsettled[entry.seq]
            return
        del self.parked[entry.seq]
        self.park.pop(entry.seq, None)
        self.unpark.append(entry.seq)
        waiting = self.blocked[entry.stream]
        waiting.popleft()
        if waiting:
            waiting[0].next_at = Millis(0)
        else:
            del self.blocked[entry.stream]

    def _next_of(self, stream: Stream) -> None:
        if stream in self.streams and stream not in self.busy:
            self.ready.append(stream)

    def _free(self, parcel: Parcel) -> None:
        for stream in {entry.stream for entry in parcel.entries}:
            self.busy.discard(stream)
            self._next_of(stream)

    def _again(self, parcel: Parcel, *, front: bool) -> None:
        """Unsent, as it were. At the back where the receiver failed: the next probe is another message."""
        for entry in reversed(parcel.entries):
            if not entry.parked:
                self.streams.setdefault(entry.stream, deque()).appendleft(entry)
        for stream in dict.fromkeys(entry.stream for entry in parcel.entries):
            self.busy.discard(stream)
            if stream in self.streams:
                (self.ready.appendleft if front else self.ready.append)(stream)

    def _disable(self, why: str, now: Millis) -> None:
        self.disabled = why
        self._changed(now, urgent=True)

    def _changed(self, now: Millis, *, urgent: bool = False) -> None:
        if self.changed_since is None:
            self.changed_since = now
        self.urgent = self.urgent or urgent

    # --- decisions

    def due(self, now: Millis) -> list[Parcel]:
        """What is to be sent now; each is answered once."""
        if self.disabled is not None:
            return []
        found: list[Parcel] = []
        width = self.width
        if self.health.since is not None:
            if now < self.health.next_at:
                return []
            width = 1
        while len(self.flying) < width and now >= self.send_at:
            parcel = self._parked_due(now) or self._gathered()
            if parcel is None:
                break
            self.flying.add(parcel)
            self.busy.update(entry.stream for entry in parcel.entries)
            found.append(parcel)
            if self.rate is not None:
                self.send_at = Millis(max(self.send_at, now) + 1000 // self.rate)
        return found

    def _parked_due(self, now: Millis) -> Parcel | None:
        if self.blocked:
            for stream, waiting in self.blocked.items():
                first = waiting[0]
                if stream not in self.busy and first.next_at is not None and first.next_at <= now:
                    return Parcel((first,))
        return None

    def _gathered(self) -> Parcel | None:
        """One event; of a batch as many as there are, a stream's own in order."""
        if not self.ready:
            return None
        if self.batch == 1 or self.streams[self.ready[0]][0].alone:
            stream = self.ready.popleft()
            return Parcel((self._pop(stream),))
        entries: list[Entry] = []
        while self.ready and len(entries) < self.batch:
            stream = self.ready.popleft()
            if self.streams[stream][0].alone:
                self.ready.append(stream)
                break
            while stream in self.streams and len(entries) < self.batch and not self.streams[stream][0].alone:
                entries.append(self._pop(stream))
        entries.sort(key=lambda entry: entry.seq)
        return Parcel(tuple(entries)) if entries else None

    def _pop(self, stream: Stream) -> Entry:
        waiting = self.streams[stream]
        entry = waiting.popleft()
        if not waiting:
            del self.streams[stream]
        return entry

    def settled_to(self) -> int:
        first = next(iter(self.unsettled), None)
        return self.read_to if first is None else first - 1

    def finished(self) -> bool:
        over = self.over_at is not None and self.settled_to() >= self.over_at
        return over and not self.parked and not self.flying

    def idle(self) -> bool:
        """Nothing that was read is owed, and there is no more to read."""
        return not (self.unsettled or self.parked or self.flying or self.more)

    def progress(self, now: Millis, *, at_once: bool = False) -> SinkProgress | None:
        """What is to be written now, where that is due and nothing is being written; `persisted` must follow."""
        if self.persisting or self.changed_since is None:
            return None
        if not (at_once or self.urgent or len(self.acks) >= PERSIST_ACKS or now - self.changed_since >= PERSIST_MS):
            return None
        self.told = self.health.trouble()
        made = SinkProgress(
            self.key, now, self.settled_to(), tuple(self.acks),
            tuple(Parked(each.seq, each.tries, each.next_at, each.error) for each in self.park.values()),
            tuple(self.unpark), tuple(self.dead), tuple(self.gaps), self.failures, self.told, None, self.disabled,
            self.disabled is None and self.finished(),
        )  # fmt: skip
        self.acks, self.park, self.unpark, self.dead, self.gaps = [], {}, [], [], []
        self.failures, self.changed_since, self.urgent, self.persisting = 0, None, False, True
        self.cursor = made.cursor
        return made

    def persisted(self, *, closed: bool) -> bool:
        """Whether the sink is over. `closed`: what was answered to a wish to close: a run that was reopened has more to tell."""
        self.persisting = False
        if (
            self.over_at is not None
            and self.finished()
            and self.changed_since is None
            and not closed
            and self.until is None
        ):
            self.over_at, self.more = None, True
        return closed or (self.disabled is not None and self.changed_since is None and not self.flying)

    def next_at(self) -> Millis | None:
        """When something is due though nothing happens."""
        times: list[Millis] = []
        if self.changed_since is not None and not self.persisting:
            times.append(Millis(self.changed_since + PERSIST_MS))
        failing = self.health.since is not None
        if self.disabled is None and (self.ready or self.blocked):
            floor = max(self.health.next_at if failing else START, self.send_at)
            if len(self.flying) < (1 if failing else self.width):
                if self.ready:
                    times.append(floor)
                for stream, waiting in self.blocked.items():
                    first = waiting[0].next_at
                    if first is not None and stream not in self.busy:
                        times.append(max(first, floor))
        return min(times, default=None)

    def owed(self) -> int:
        """Messages read and not settled; there may be more behind them."""
        return len(self.unsettled) + len(self.parked)
