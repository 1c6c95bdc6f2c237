"""What a sink sends next, and what of it must be on disk: every decision of a dispatcher, with no IO, clock or chance in it.

A window holds what was read from the log and is not settled. Facts go in (`read`, `answered`, `persisted`), decisions come out
(`due`, `progress`, `next_at`). The laws, which tests/hooks/sim holds it to (I6):

- Events of one stream (a job, a child, a run) are sent one by one and in order: the next one goes out when the one before is settled.
- An event is settled when it is delivered, not wanted, or dead. The cursor stands before the first that is neither settled nor
  parked, so that a crash repeats at most what was in flight or settled since the last progress.
- A receiver that fails gets one message at a time, after a pause; nothing is written meanwhile, and what is read stays bounded.
- A message that is refused while others pass is parked, and its stream with it; after the last of its tries it is dead, and
  the stream goes on. One that fails while others pass is as good as refused, alone or in a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from flowbatch.hooks.backlog import Backlog, Entry, Parcel, Stream
from flowbatch.hooks.draft import PERSIST_ACKS, PERSIST_ACKS_MAX, Draft
from flowbatch.hooks.health import START, Answer, Health, Outcome, message_wait_ms
from flowbatch.model.events import EventKind, LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Ack, Dead, Parked, SinkProgress

WIDTH: Final = 16  # requests in flight
READ_AHEAD: Final = 256  # events, beyond what a request takes
PARKED_MAX: Final = 1_000  # then the receiver counts as failing
REFUSED_IN_A_ROW: Final = 16  # messages: then it is the receiver
STUBBORN: Final = 3  # failures of one message, others passing between them: then it is the message
BEHIND: Final = "waits behind one of the same job"


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
    backlog: Backlog = field(default_factory=Backlog)
    draft: Draft = field(init=False)
    successes: int = 0
    refused: int = 0  # in a row
    send_at: Millis = START  # by the rate
    mourning: list[Stream] = field(default_factory=list)  # of what was given up, and is not on its way to the disk
    burying: list[Stream] = field(default_factory=list)  # and is

    def __post_init__(self) -> None:
        self.read_to = self.cursor
        self.over_at = self.until
        self.draft = Draft(self.key, min(PERSIST_ACKS * self.batch, PERSIST_ACKS_MAX))

    # --- facts

    def restore(self, parked: Iterable[tuple[Parked, LoggedEvent | None]], now: Millis) -> None:
        """What an earlier life parked, in order of seq; None: the event was collected."""
        there = []
        for row, event in parked:
            if row.first is not None:  # a digest, of a sink that gets none any more
                self.draft.unpark.append(row.seq)
                self.draft.dead.append(Dead(row.seq, row.tries, now, row.error, row.first))
                self.draft.changed(now, urgent=True)
            elif event is not None:
                there.append((row, event))
            else:
                self.draft.unpark.append(row.seq)
                self.draft.lost(row.seq, row.seq, now)
        self.backlog.restore(there)

    def woken(self) -> None:
        self.more = True

    def try_refused(self, now: Millis) -> None:
        self.backlog.try_refused(now)

    def rests(self, now: Millis) -> None:
        """It is about to end: what was looked at and not wanted is not looked at again, nor missed once it is collected."""
        if self.settled_to() > self.cursor:
            self.draft.changed(now)

    def trouble(self) -> tuple[str, Millis | None]:
        """Why something is owed, and when it is tried again: the receiver fails, or it has refused a message."""
        if self.health.since is not None:
            return self.health.error, self.health.next_at
        refused = None if self.backlog.unsettled or self.more else self.backlog.refused()
        return ("", None) if refused is None else (refused.error, refused.next_at)

    def wants(self) -> int:
        """How many events should be read after `read_to`; 0: none now."""
        if not self.more or self.disabled is not None or len(self.backlog.parked) >= PARKED_MAX:
            return 0
        if self.until is not None and self.read_to >= self.until:
            return 0
        room = READ_AHEAD + self.width * self.batch - len(self.backlog.unsettled)
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
            if not self.backlog.unsettled and to - self.cursor >= 1000:
                self.draft.changed(now)  # a long way without anything wanted is not gone again
            elif not self.backlog.unsettled:
                self.draft.passed(now)
        self.more = more
        if gaps:
            self.draft.gaps += gaps
            self.draft.changed(now, urgent=True)
        if self.finished():
            self.draft.changed(now, urgent=True)

    def _take(self, event: LoggedEvent, now: Millis) -> None:
        if event.seq in self.backlog.parked:
            return  # by an earlier life, ahead of its cursor
        entry = Entry.of(event)
        if entry.stream in self.backlog.blocked:
            self._park(entry, None, BEHIND, now)
        else:
            self.backlog.add(entry)

    def answered(self, parcel: Parcel, answer: Answer, now: Millis, draw: float) -> None:
        """`draw`: chance, in [0, 1)."""
        self.flying.discard(parcel)
        outcome = answer.outcome
        if outcome is Outcome.MESSAGE and len(parcel.entries) > 1:
            for entry in parcel.entries:
                entry.alone = True
            self.backlog.again(parcel, front=True)
            return
        if outcome is Outcome.MESSAGE:
            self.refused += 1
            if self.refused > REFUSED_IN_A_ROW and not parcel.entries[0].parked:
                outcome = Outcome.ENDPOINT
        if outcome is Outcome.DELIVERED:
            self._delivered(parcel, answer, now)
            return
        self.draft.failures += 1
        if outcome is Outcome.GONE:
            self.backlog.again(parcel, front=True)
            self._disable(answer.error, now)
        elif outcome is Outcome.MESSAGE or (answer.retry_after_ms is None and self._stubborn(parcel)):
            self._refused(parcel.entries[0], answer, now, draw)
        else:
            self._failed(parcel, answer, now, draw)

    def _delivered(self, parcel: Parcel, answer: Answer, now: Millis) -> None:
        self.successes += 1
        self.refused = 0
        backlog, draft = self.backlog, self.draft
        if self.health.succeeded(now):
            draft.changed(now)
        status, latency_ms, acks = answer.status, answer.latency_ms, draft.acks
        for entry in parcel.entries:
            acks.append(Ack(entry.seq, entry.tries + 1, status, latency_ms, now))
            self._settle(entry)
        for stream in {entry.stream for entry in parcel.entries}:
            backlog.free(stream)
        if self.health.since is None:
            backlog.try_suspects()
        draft.changed(now, urgent=self.finished())

    def _settle(self, entry: Entry) -> None:
        if entry.parked:
            self.draft.park.pop(entry.seq, None)
            self.draft.unpark.append(entry.seq)
        self.backlog.settle(entry)

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
            elif len(parcel.entries) > 1 and entry.failed_at_success < self.successes:
                entry.alone = True  # one of them may be what fails
        self.backlog.again(parcel, front=False)
        if before is None:
            self.draft.changed(now)
        if self.health.hopeless(now):
            self._disable(
                f"it has failed for {(now - (self.health.since or now)) // 86_400_000} days: {answer.error}", now
            )

    def _refused(self, entry: Entry, answer: Answer, now: Millis, draw: float) -> None:
        entry.tries += 1
        wait_ms = message_wait_ms(entry.tries, draw)
        if wait_ms is None:
            silent = entry.event.row.kind is EventKind.SINK
            self.draft.dead.append(Dead(entry.seq, entry.tries, now, answer.error, silent=silent))
            self._settle(entry)
            self.mourning.append(
                entry.stream
            )  # who waits behind it goes once it is on disk: a later life might try it again
            self.draft.changed(now, urgent=True)
            return
        if answer.retry_after_ms is not None:
            wait_ms = max(wait_ms, answer.retry_after_ms)
        self.backlog.busy.discard(entry.stream)
        self._park(entry, Millis(now + wait_ms), answer.error, now)
        for follower in self.backlog.streams.pop(entry.stream, ()):
            self._park(follower, None, BEHIND, now)

    def _park(self, entry: Entry, next_at: Millis | None, error: str, now: Millis) -> None:
        self.backlog.park(entry, next_at, error)
        self.draft.park[entry.seq] = Parked(entry.seq, entry.tries, next_at, error)
        self.draft.changed(now)

    def _disable(self, why: str, now: Millis) -> None:
        if self.disabled is not None:
            return  # another request that was under way is answered likewise
        self.disabled = why
        self.draft.changed(now, urgent=True)

    # --- decisions

    def due(self, now: Millis) -> list[Parcel]:
        """What is to be sent now; each is answered once."""
        if self.disabled is not None:
            return []
        found: list[Parcel] = []
        failing = self.health.since is not None
        if failing and now < self.health.next_at:
            return []
        while len(self.flying) < (1 if failing else self.width) and now >= self.send_at:
            parcel = self._probe(now) if failing else self._next(now)
            if parcel is None:
                break
            self.flying.add(parcel)
            self.backlog.sent(parcel)
            found.append(parcel)
            if self.rate is not None:
                self.send_at = Millis(max(self.send_at, now) + 1000 // self.rate)
        return found

    def _next(self, now: Millis) -> Parcel | None:
        return self.backlog.parked_due(now) or self.backlog.gathered(self.batch)

    def _probe(self, now: Millis) -> Parcel | None:
        """One event, and one that was not refused as long as there is such a one: what is probed is the receiver."""
        return self.backlog.gathered(1) or self.backlog.parked_due(now)

    def settled_to(self) -> int:
        return self.backlog.settled_to(self.read_to)

    def finished(self) -> bool:
        over = self.over_at is not None and self.settled_to() >= self.over_at
        return over and not self.backlog.parked and not self.flying

    def idle(self) -> bool:
        """Nothing that was read is owed, and there is no more to read."""
        return not (len(self.backlog) or self.flying or self.more)

    def progress(self, now: Millis, *, at_once: bool = False) -> SinkProgress | None:
        """What is to be written now, where that is due and nothing is being written; `persisted` must follow."""
        if not self.draft.due(now, at_once=at_once):
            return None
        self.cursor, self.burying, self.mourning = self.settled_to(), self.mourning, []
        close = self.disabled is None and self.finished()
        return self.draft.take(now, self.cursor, self.health.trouble(), self.disabled, close=close)

    def persisted(self, *, closed: bool) -> bool:
        """Whether the sink is over. `closed`: what was answered to a wish to close: a run that was reopened has more to tell."""
        self.draft.writing = False
        for stream in self.burying:
            self.backlog.free(stream)
        self.burying = []
        settled = self.draft.since is None
        if self.over_at is not None and self.finished() and settled and not closed and self.until is None:
            self.over_at, self.more = None, True
        return closed or (self.disabled is not None and settled and not self.flying)

    def next_at(self) -> Millis | None:
        """When something is due though nothing happens."""
        times = [self.draft.next_at()]
        failing = self.health.since is not None
        if self.disabled is None and len(self.flying) < (1 if failing else self.width):
            ready = self.backlog.next_at()
            if ready is not None:
                times.append(max(ready, self.send_at, self.health.next_at if failing else START))
        return min((time for time in times if time is not None), default=None)

    def owed(self) -> int:
        """Messages read and not settled; there may be more behind them."""
        return len(self.backlog)
