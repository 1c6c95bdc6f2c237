"""What was read from the log and is not settled, stream by stream: whose turn it is, and who waits behind whom.

A stream (a job, a child, a run) is in one of four places: `ready` with its first entry's turn next, `busy` while one of its entries is
sent, `blocked` behind a refused one, or nowhere, with nothing to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct, field

from flowbatch.hooks.filters import stream_of
from flowbatch.model.events import LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Parked

Stream = tuple[int, int]


class Entry(Struct, eq=False):
    event: LoggedEvent
    stream: Stream
    seq: int
    tries: int = 0
    failed_at_success: int = -1  # how many successes there had been when it failed first
    alone: bool = False  # its batch was refused: it goes by itself
    parked: bool = False
    next_at: Millis | None = None
    error: str = ""  # of the last try, of a parked one

    @classmethod
    def of(cls, event: LoggedEvent) -> Entry:
        return cls(event, stream_of(event.row), event.seq)


class Parcel(Struct, eq=False):
    """One request: one event, or a batch of them."""

    entries: tuple[Entry, ...]


class Backlog(Struct):
    unsettled: dict[int, Entry] = field(default_factory=dict)  # by seq, in order: waiting or flying, and not parked
    streams: dict[Stream, deque[Entry]] = field(default_factory=dict)  # waiting, the first one's turn is next
    busy: set[Stream] = field(default_factory=set)
    ready: deque[Stream] = field(default_factory=deque)
    parked: dict[int, Entry] = field(default_factory=dict)
    blocked: dict[Stream, deque[Entry]] = field(default_factory=dict)  # parked ones, in order
    suspects: dict[Stream, None] = field(default_factory=dict)  # whose first one failed while the receiver did

    def __len__(self) -> int:
        return len(self.unsettled) + len(self.parked)

    def restore(self, parked: Iterable[tuple[Parked, LoggedEvent]]) -> None:
        """What an earlier life parked, in order of seq."""
        for row, event in parked:
            entry = Entry.of(event)
            entry.tries, entry.parked, entry.next_at, entry.error = row.tries, True, row.next_at, row.error
            self.parked[entry.seq] = entry
            self.blocked.setdefault(entry.stream, deque()).append(entry)
        for waiting in self.blocked.values():
            if waiting[0].next_at is None:
                waiting[0].next_at = Millis(0)

    def add(self, entry: Entry) -> None:
        self.unsettled[entry.seq] = entry
        stream = entry.stream
        waiting = self.streams.get(stream)
        if waiting is not None:
            waiting.append(entry)
            return
        self.streams[stream] = deque((entry,))
        if stream not in self.busy:
            self.ready.append(stream)

    # --- what goes next

    def gathered(self, most: int) -> Parcel | None:
        """One event; of a batch as many as there are, a stream's own in order."""
        if not self.ready:
            return None
        if most == 1 or self.streams[self.ready[0]][0].alone:
            stream = self.ready.popleft()
            return Parcel((self._pop(stream),))
        entries: list[Entry] = []
        while self.ready and len(entries) < most:
            stream = self.ready.popleft()
            if self.streams[stream][0].alone:
                self.ready.append(stream)
                break
            while stream in self.streams and len(entries) < most and not self.streams[stream][0].alone:
                entries.append(self._pop(stream))
        entries.sort(key=lambda entry: entry.seq)
        return Parcel(tuple(entries)) if entries else None

    def _pop(self, stream: Stream) -> Entry:
        waiting = self.streams[stream]
        entry = waiting.popleft()
        if not waiting:
            del self.streams[stream]
        return entry

    def parked_due(self, now: Millis) -> Parcel | None:
        for stream, waiting in self.blocked.items():
            first = waiting[0]
            if stream not in self.busy and first.next_at is not None and first.next_at <= now:
                return Parcel((first,))
        return None

    def sent(self, parcel: Parcel) -> None:
        self.busy.update(entry.stream for entry in parcel.entries)

    # --- what became of it

    def settle(self, entry: Entry) -> None:
        if not entry.parked:
            del self.unsettled[entry.seq]
            return
        del self.parked[entry.seq]
        waiting = self.blocked[entry.stream]
        waiting.popleft()
        if waiting:
            waiting[0].next_at = Millis(0)
        else:
            del self.blocked[entry.stream]

    def free(self, stream: Stream) -> None:
        """It may send again."""
        self.busy.discard(stream)
        if stream in self.streams:
            self.ready.append(stream)

    def again(self, parcel: Parcel, *, front: bool) -> None:
        """Unsent, as it were, the oldest first: what stands before them all holds the cursor back. At the back where the receiver
        failed: the next probe is another message."""
        for entry in reversed(parcel.entries):
            if not entry.parked:
                self.streams.setdefault(entry.stream, deque()).appendleft(entry)
        streams = dict.fromkeys(entry.stream for entry in parcel.entries)
        for stream in reversed(streams) if front else streams:
            self.busy.discard(stream)
            if stream in self.streams:
                (self.ready.appendleft if front else self.ready.append)(stream)
                if not front:
                    self.suspects[stream] = None

    def try_suspects(self) -> None:
        """Something has passed: was it they that failed, or the receiver? The answer must not wait for all that was read meanwhile,
        or a life that is short never has it."""
        if self.suspects:
            first = [stream for stream in self.suspects if stream in self.streams and stream not in self.busy]
            self.ready = deque(dict.fromkeys((*first, *self.ready)))
            self.suspects.clear()

    def park(self, entry: Entry, next_at: Millis | None, error: str) -> None:
        entry.next_at, entry.error = next_at, error
        if not entry.parked:
            entry.parked = True
            self.unsettled.pop(entry.seq, None)
            self.parked[entry.seq] = entry
            self.blocked.setdefault(entry.stream, deque()).append(entry)

    def refused(self) -> Entry | None:
        """Of those that are parked, the one whose next try is due first."""
        first = [waiting[0] for waiting in self.blocked.values() if waiting[0].next_at is not None]
        return min(first, key=lambda entry: entry.next_at or 0, default=None)

    def try_refused(self, now: Millis) -> None:
        """What is parked is due now, whatever its schedule says."""
        for waiting in self.blocked.values():
            first = waiting[0]
            if first.next_at is not None:
                first.next_at = min(first.next_at, now)

    def settled_to(self, read_to: int) -> int:
        first = next(iter(self.unsettled), None)
        return read_to if first is None else first - 1

    def next_at(self) -> Millis | None:
        """Of what can be sent: at once, or when the first parked one is due."""
        if self.ready:
            return Millis(0)
        times = [each[0].next_at for stream, each in self.blocked.items() if stream not in self.busy]
        return min((time for time in times if time is not None), default=None)
