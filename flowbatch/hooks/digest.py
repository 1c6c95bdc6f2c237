"""Digests: one message for all that happened in a while. The same surface as Window, and as pure.

A digest is a range of the log. It is closed when its time is over (or its run is), and what it covers is on disk before it is sent, so that
a repeat is the same to the byte: `due` gives it only once `persisted` was told. One at a time: what comes meanwhile stays in the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from flowbatch.hooks.draft import Draft
from flowbatch.hooks.health import START, Answer, Health, Outcome, message_wait_ms
from flowbatch.hooks.window import READ_AHEAD
from flowbatch.hooks.words import Tally
from flowbatch.model.events import EventKind, LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Ack, Dead, SinkProgress

EVENTS_MAX: Final = 100_000  # in one digest


@dataclass(slots=True, eq=False)
class Closed:
    """A digest that is on its way: all events of the closed range that the sink wants."""

    first: int
    last: int
    at: Millis  # of its last event
    tally: Tally
    tries: int = 0
    send_at: Millis = START  # after a refusal


@dataclass(slots=True)
class DigestWindow:
    key: str
    cursor: int  # on disk
    span_ms: int
    health: Health = field(default_factory=Health)
    until: int | None = None
    run: int | None = None

    read_to: int = 0
    begun_after: int = 0  # the open digest covers what comes after this event
    more: bool = True
    over_at: int | None = None
    disabled: str | None = None
    tally: Tally = field(default_factory=Tally)
    opened_at: Millis | None = None  # when the first event of the open digest was read
    flushed: bool = False  # close what is open now: nobody waits for the end of its time
    closed: Closed | None = None
    stored: bool = False  # the closed one is on disk
    revived: list[Closed] = field(
        default_factory=list
    )  # given up once and wanted again: parked, and sent beside what is new
    flying: Closed | None = None

    draft: Draft = field(init=False)
    writing: Closed | None = None

    def __post_init__(self) -> None:
        self.read_to = self.begun_after = self.cursor
        self.over_at = self.until
        self.draft = Draft(self.key)

    # --- facts

    def restore(self, closed: Closed, now: Millis) -> None:
        """What an earlier life had closed, counted again; where nothing of it is left there is nothing to send."""
        self.read_to = self.begun_after = closed.last
        if closed.tally.events:
            self.closed, self.stored = closed, True
        else:
            self.draft.lost(closed.first, closed.last, now)

    def revive(self, closed: Closed, now: Millis) -> None:
        """One that had been given up, counted again, in order."""
        if closed.tally.events:
            self.revived.append(closed)
        else:
            self.draft.unpark.append(closed.last)
            self.draft.lost(closed.first, closed.last, now)

    def woken(self) -> None:
        self.more = True

    def flush(self) -> None:
        self.flushed = True

    def try_refused(self, now: Millis) -> None:
        """What is wanted again is due now, whatever its schedule says."""
        for each in self.revived:
            each.send_at = min(each.send_at, now)

    def rests(self, now: Millis) -> None:
        """It is about to end: what was looked at and not wanted is not looked at again, nor missed once it is collected."""
        if self.settled_to() > self.cursor:
            self.draft.changed(now)

    def trouble(self) -> tuple[str, Millis | None]:
        """Why something is owed, and when it is tried again."""
        return ("", None) if self.health.since is None else (self.health.error, self.health.next_at)

    def wants(self) -> int:
        room = self.more and self.disabled is None and self.closed is None
        return READ_AHEAD if room and not (self.until is not None and self.read_to >= self.until) else 0

    def read(
        self,
        events: Sequence[LoggedEvent],
        wanted: Sequence[bool],
        to: int,
        more: bool,
        gaps: Sequence[tuple[int, int]],
        now: Millis,
    ) -> None:
        if not self.tally.events:
            self.begun_after = self.read_to
        for event, want in zip(events, wanted, strict=True):
            if self.run is not None and event.row.kind is EventKind.RUN and self.until is None:
                self.over_at = event.seq if event.row.status else None
            if want:
                self.tally.add(event)
                if self.opened_at is None:
                    self.opened_at = now
        self.read_to = max(self.read_to, to)
        self.more = more
        if gaps:
            self.draft.gaps += gaps
            self.draft.changed(now, urgent=True)
        if not self.tally.events and (self.read_to - self.cursor >= 1000 or self.finished()):
            self.draft.changed(now, urgent=self.finished())
        elif not self.tally.events and self.settled_to() > self.cursor:
            self.draft.passed(now)

    def answered(self, closed: Closed, answer: Answer, now: Millis, draw: float) -> None:
        self.flying = None
        if answer.outcome is Outcome.DELIVERED:
            self.health.succeeded(now)
            self.draft.acks.append(Ack(closed.last, closed.tries + 1, answer.status, answer.latency_ms, now))
            self._settled(closed, now)
            return
        self.draft.failures += 1
        closed.tries += 1
        if answer.outcome is Outcome.GONE:
            self._disable(answer.error, now)
        elif answer.outcome is Outcome.MESSAGE:
            wait_ms = message_wait_ms(closed.tries, draw)
            if wait_ms is None:
                self.draft.dead.append(Dead(closed.last, closed.tries, now, answer.error, closed.first))
                if closed is self.closed:
                    self.health = Health()  # it was this one
                self._settled(closed, now)
            elif closed is self.closed:
                self.health.refused(now, answer, wait_ms)
                self.draft.changed(now)  # it is seen to fail, and why
            else:
                closed.send_at = Millis(now + wait_ms)
        else:
            before = self.health.since
            self.health.failed(now, answer, draw)
            if before is None:
                self.draft.changed(now)
            if self.health.hopeless(now):
                self._disable(f"it has failed for days: {answer.error}", now)

    def _settled(self, closed: Closed, now: Millis) -> None:
        if closed is self.closed:
            self.closed, self.stored = None, False
            self.more = True
        else:
            self.revived.remove(closed)
            self.draft.unpark.append(closed.last)
        self.draft.changed(now, urgent=True)

    def _disable(self, why: str, now: Millis) -> None:
        if self.disabled is not None:
            return
        self.disabled = why
        self.draft.changed(now, urgent=True)

    # --- decisions

    def _close_due(self, now: Millis) -> None:
        if self.closed is not None or self.tally.last is None or self.opened_at is None or self.draft.writing:
            return
        over = self.over_at is not None and self.read_to >= self.over_at
        full = self.tally.events >= EVENTS_MAX
        if full or (not self.more and (over or self.flushed or now >= self.opened_at + self.span_ms)):
            self.closed = Closed(self.begun_after + 1, self.read_to, self.tally.last.row.at, self.tally)
            self.stored, self.flushed, self.tally, self.opened_at = False, False, Tally(), None
            self.draft.changed(now, urgent=True)

    def due(self, now: Millis) -> list[Closed]:
        if self.health.since is not None and now < self.health.next_at:
            return []
        found = next((each for each in self._sendable() if now >= each.send_at), None)
        if found is None:
            return []
        self.flying = found
        return [found]

    def _sendable(self) -> list[Closed]:
        """None while one is on its way: one at a time."""
        if self.flying is not None or self.disabled is not None:
            return []
        return [*([self.closed] if self.closed is not None and self.stored else []), *self.revived]

    def settled_to(self) -> int:
        if self.closed is not None:
            return self.closed.first - 1
        return self.begun_after if self.tally.events else self.read_to

    def finished(self) -> bool:
        return self.over_at is not None and self.settled_to() >= self.over_at and not self.revived

    def idle(self) -> bool:
        return not (self.more or self.tally.events or self.closed or self.revived)

    def progress(self, now: Millis, *, at_once: bool = False) -> SinkProgress | None:
        self._close_due(now)
        if not self.draft.due(now, at_once=at_once):
            return None
        self.writing, self.cursor = self.closed, self.settled_to()
        digest = None if self.closed is None else (self.closed.first, self.closed.last)
        close = self.disabled is None and self.finished()
        return self.draft.take(now, self.cursor, self.health.trouble(), self.disabled, close=close, digest=digest)

    def persisted(self, *, closed: bool) -> bool:
        self.draft.writing = False
        if self.writing is not None and self.writing is self.closed:
            self.stored = True
        settled = self.draft.since is None
        if self.over_at is not None and self.finished() and settled and not closed and self.until is None:
            self.over_at, self.more = None, True
        return closed or (self.disabled is not None and settled and self.flying is None)

    def next_at(self) -> Millis | None:
        times = [self.draft.next_at()]
        not_before = self.health.next_at if self.health.since is not None else START
        times += [max(each.send_at, not_before) for each in self._sendable()]
        if self.closed is None and self.opened_at is not None and not self.draft.writing:
            times.append(Millis(self.opened_at + self.span_ms))
        return min((time for time in times if time is not None), default=None)

    def owed(self) -> int:
        return len(self.revived) + (1 if self.closed is not None or self.tally.events else 0)
