"""The dispatcher's core in a world of faults: one seed, virtual time, a receiver that lies, engines that crash. Holds it to I6.

python -m tests.hooks.sim SEED      replays one
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, field
from typing import Any

from flowbatch.hooks.backlog import Parcel
from flowbatch.hooks.digest import Closed, DigestWindow
from flowbatch.hooks.filters import stream_of
from flowbatch.hooks.health import FIRST_MS, GIVE_UP_MS, SCHEDULE, Answer, Health, Outcome
from flowbatch.hooks.window import PARKED_MAX, READ_AHEAD, WIDTH, Window
from flowbatch.hooks.words import Tally
from flowbatch.model.events import EventKind, EventRow, LoggedEvent
from flowbatch.model.ids import Millis
from flowbatch.model.notify import Dead, Parked, SinkProgress, Trouble
from flowbatch.model.status import RunStatus, Status

STEPS: int = 30_000
COMMIT = -1
NOTHING = Answer(Outcome.DELIVERED)
PROBES = 5  # of different jobs, before a receiver is said to be gone
SPINS = 8  # rounds in which nothing happens at all
HOUR = 3_600_000


@dataclass
class Disk:
    """What the store has of the sink."""

    cursor: int = 0
    parked: dict[int, Parked] = field(default_factory=dict)
    dead: dict[int, Dead] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    digest: tuple[int, int] | None = None
    trouble: Trouble | None = None
    closed: bool = False
    disabled: str | None = None
    writes: int = 0

    def commit(self, progress: SinkProgress) -> bool:
        assert progress.cursor >= self.cursor, f"the cursor goes back from {self.cursor} to {progress.cursor}"
        assert not self.closed, "it goes on after its end"
        self.writes += 1
        self.cursor, self.digest, self.trouble = progress.cursor, progress.digest, progress.trouble
        for row in progress.park:
            self.parked[row.seq] = row
        for seq in progress.unpark:
            self.parked.pop(seq, None)
        for dead in progress.dead:
            self.dead[dead.seq] = dead
        self.gaps += progress.gaps
        self.closed, self.disabled = progress.close, progress.disable
        return progress.close


class World:
    window_class = Window
    digest_class = DigestWindow

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.now = Millis(1_700_000_000_000)
        self.disk = Disk()
        self.is_digest = rng.random() < 0.2
        self.batch = rng.choice((1, 1, 1, 5, 100))
        self.rate = rng.choice((None, None, None, 1, 50))
        self.width = 1 if self.rate is not None else WIDTH
        self.of_run = rng.random() < 0.6
        self.log: list[LoggedEvent] = []
        self.total = rng.choice((5, 40, 200, 600))
        self.streams = rng.choice((1, 3, 30, 500))
        self.wanted_share = rng.choice((1.0, 0.7, 0.05))
        self.unwanted: set[int] = set()
        poisoned = (0.0, 0.02, 0.02) if self.is_digest else (0.0, 0.0, 0.02)
        self.poison = {seq for seq in range(1, self.total) if rng.random() < rng.choice(poisoned)}
        self.poisoned_as = rng.choice((Outcome.MESSAGE, Outcome.MESSAGE, Outcome.ENDPOINT))
        self.cured_at = self.now + rng.choice((0, HOUR, 200 * HOUR, 10_000 * HOUR))
        self.faults = rng.choice((0.0, 0.05, 0.3, 0.9))
        self.down = [self._outage() for _ in range(rng.choice((0, 0, 1, 3)))]
        self.crashes = rng.choice((0.0, 0.002, 0.02))
        self.epoch: int = 0
        self.agenda: list[tuple[int, int, int, tuple[int, Any, Answer]]] = []
        self.count = 0
        self.delivered: dict[int, int] = {}  # seq → how often
        self.order: dict[tuple[int, int], list[int]] = {}  # stream → seqs by their first delivery
        self.flying: dict[int, set[int]] = {}  # request → seqs, of this life
        self.requests = 0
        self.messages: dict[tuple[int, int], bytes] = {}  # digest's range → what was in it
        self.down_requests = 0
        self.not_before = self.now  # what the receiver asked for with Retry-After, in this life
        self.probed: list[
            tuple[int, tuple[int, int]]
        ] = []  # when, and of which stream, since something was delivered last
        self.over = False
        self.revivals = rng.choice((0, 1, 3)) if self.is_digest else 0  # how often somebody asks for what was given up
        self.revived: set[int] = set()  # their events
        self.pending: SinkProgress | None = None  # on its way to the disk
        self.spins = self.answers = 0
        self.last_round: object = None
        self.begin_life()

    def _outage(self) -> tuple[int, int]:
        begin = self.now + int(self.rng.random() * 2 * HOUR)
        return begin, begin + self.rng.choice((20_000, HOUR, 6 * HOUR, 30 * HOUR))

    # --- the log

    def grow(self) -> None:
        for _ in range(self.rng.choice((1, 1, 3, 40, 400))):
            if len(self.log) < self.total:
                self.append()

    def append(self) -> None:
        seq = len(self.log) + 1
        if seq == self.total:
            row = EventRow(self.now, EventKind.RUN, 1, None, None, None, RunStatus.FAILED, None, None, None)
        else:
            job = self.rng.randrange(self.streams)
            row = EventRow(self.now, EventKind.JOB, 1, job, None, 1, self.rng.choice(list(Status)), None, None, None)
            if self.rng.random() > self.wanted_share:
                self.unwanted.add(seq)
        self.log.append(LoggedEvent(seq, row, None, None))
        if self.window is not None:
            self.window.woken()

    # --- the engine

    window: Window | DigestWindow | None = None

    def begin_life(self) -> None:
        self.epoch += 1
        self.flying.clear()
        self.not_before = self.now
        disk, health = self.disk, Health.of(self.disk.trouble)
        run = 1 if self.of_run else None
        if self.is_digest:
            made = self.digest_class("s", disk.cursor, 120_000, health, None, run)
            if disk.digest is not None:
                first, last = disk.digest
                tally = self.tally_of(first, last)
                assert tally.last is not None
                made.restore(Closed(first, last, tally.last.row.at, tally), self.now)
            for row in sorted(disk.parked.values(), key=lambda row: row.seq):
                assert row.first is not None
                tally = self.tally_of(row.first, row.seq)
                assert tally.last is not None
                made.revive(Closed(row.first, row.seq, tally.last.row.at, tally), self.now)
            self.window = made
        else:
            window = self.window_class("s", disk.cursor, health, self.width, self.batch, self.rate, None, run)
            rows = sorted(disk.parked.values(), key=lambda row: row.seq)
            window.restore([(row, self.log[row.seq - 1]) for row in rows], self.now)
            self.window = window
        over = next((event.seq for event in self.log if event.row.kind is EventKind.RUN), None)
        if self.of_run and over is not None:
            self.window.over_at = over

    def tally_of(self, first: int, last: int) -> Tally:
        tally = Tally()
        for event in self.log[first - 1 : last]:
            if event.seq not in self.unwanted:
                tally.add(event)
        return tally

    def later(self, time: int, news: tuple[int, Any, Answer]) -> None:
        """An answer on its way; a crash loses it."""
        self.count += 1
        self.agenda.append((time, self.count, self.epoch, news))
        self.agenda.sort(key=lambda entry: entry[:2], reverse=True)

    def turn(self) -> None:
        """Read a page, send, persist: what a lane does in one round."""
        window = self.window
        assert window is not None
        before = (self.now, self.requests, self.disk.writes, window.read_to, self.epoch, self.answers)
        self.round(window)
        after = (self.now, self.requests, self.disk.writes, window.read_to, self.epoch, self.answers)
        self.spins = self.spins + 1 if before == after and after == self.last_round else 0
        self.last_round = after
        assert self.spins < SPINS, f"it spins at {self.now}: {window.next_at()}"

    def round(self, window: Window | DigestWindow) -> None:
        room = window.wants()
        if room:
            window.more = False
            page = self.log[window.read_to : window.read_to + min(room, 256)]
            to = page[-1].seq if page else window.read_to
            window.read(page, [each.seq not in self.unwanted for each in page], to, to < len(self.log), [], self.now)
        self.send()
        progress = window.progress(self.now)
        if progress is not None:
            assert self.pending is None, "two are written at once"
            self.pending = progress
            if self.rng.random() < self.crashes * 10:
                self.crash()
                return
            self.later(self.now + self.rng.choice((0, 0, 1, 5, 300)), (COMMIT, None, NOTHING))
        self.look()

    def send(self) -> None:
        window = self.window
        assert window is not None
        for parcel in window.due(self.now):
            self.post(parcel)

    def post(self, parcel: Parcel | Closed) -> None:
        """The receiver has it at once, and answers later; or has it not."""
        self.requests += 1
        number = self.requests
        assert self.now >= self.not_before, f"asked {self.not_before - self.now} ms before the Retry-After was over"
        if isinstance(parcel, Closed):
            known = [self.disk.digest, *((row.first, row.seq) for row in self.disk.parked.values())]
            assert (parcel.first, parcel.last) in known, "a digest is sent before it is on disk"
            assert not self.flying, "two digests are on their way"
            seqs = [each.seq for each in self.log[parcel.first - 1 : parcel.last] if each.seq not in self.unwanted]
        else:
            seqs = [entry.seq for entry in parcel.entries]
            streams = [entry.stream for entry in parcel.entries]
            mine = set(streams)
            for other in self.flying.values():
                assert not mine & {stream_of(self.log[seq - 1].row) for seq in other}, "two of one job are in flight"
            self.probed += [(self.now, stream) for stream in mine]
        self.flying[number] = set(seqs)
        answer, has_it, after = self.receive(seqs)
        if answer.outcome is Outcome.DELIVERED:
            self.probed.clear()
        if has_it:
            self.take(parcel, seqs)
        if any(begin <= self.now < end for begin, end in self.down):
            self.down_requests += 1
        self.later(self.now + after, (number, parcel, answer))

    def receive(self, seqs: list[int]) -> tuple[Answer, bool, int]:
        rng = self.rng
        if any(begin <= self.now < end for begin, end in self.down):
            return Answer(Outcome.ENDPOINT, 0, "connection refused"), False, 1
        if self.now < self.cured_at and self.poison & set(seqs):
            status = 400 if self.poisoned_as is Outcome.MESSAGE else 500
            return Answer(self.poisoned_as, status, "poison"), False, 5
        if rng.random() < self.faults:
            kind = rng.randrange(5)
            if kind == 0:
                return Answer(Outcome.ENDPOINT, 500, "500"), False, 5
            if kind == 1:
                return Answer(Outcome.ENDPOINT, 0, "no answer"), rng.random() < 0.5, 15_000
            if kind == 2:
                return Answer(Outcome.ENDPOINT, 0, "reset"), True, 5  # processed, and nobody knows
            if kind == 3:
                return Answer(Outcome.ENDPOINT, 429, "429", 0, rng.choice((0, 2000, 60_000))), False, 5
            return Answer(Outcome.MESSAGE, 413, "413"), False, 5
        return Answer(Outcome.DELIVERED, 200, "", 5), True, rng.choice((1, 5, 40))

    def take(self, parcel: Parcel | Closed, seqs: list[int]) -> None:
        if isinstance(parcel, Closed):
            body = repr((parcel.at, parcel.tally.detail())).encode()
            known = self.messages.setdefault((parcel.first, parcel.last), body)
            assert known == body, f"a repeat is another digest: {known!r} {body!r}"
        for seq in seqs:
            self.delivered[seq] = self.delivered.get(seq, 0) + 1
            if self.delivered[seq] == 1:
                self.order.setdefault(stream_of(self.log[seq - 1].row), []).append(seq)

    def look(self) -> None:
        window = self.window
        if isinstance(window, Window):
            held = len(window.backlog.unsettled)
            assert held <= READ_AHEAD + self.width * self.batch + 256, f"{held} events are held"
            assert len(window.backlog.parked) <= PARKED_MAX + READ_AHEAD * 2, "too many are parked"
            assert len(self.flying) <= self.width, "more in flight than the window is wide"
            if window.health.since is not None:
                assert len(self.flying) <= self.width

    def step(self) -> None:
        if len(self.log) < self.total and self.rng.random() < 0.3:
            self.grow()
        window = self.window
        assert window is not None
        times = [time for time in (window.next_at(), self.agenda[-1][0] if self.agenda else None) if time is not None]
        if window.wants():
            times.append(self.now)
        if not times and len(self.log) < self.total:
            self.grow()
            return
        if times:
            self.now = Millis(max(self.now, min(times)))
        if self.rng.random() < 0.2:
            self.send()  # who has an answer asks what is due, also while something is being written
        while self.agenda and self.agenda[-1][0] <= self.now:
            _, _, epoch, (number, parcel, answer) = self.agenda.pop()
            if epoch != self.epoch:
                continue
            if number == COMMIT:
                self.commit()
            else:
                del self.flying[number]
                self.answers += 1
                if answer.retry_after_ms is not None:
                    self.not_before = max(self.not_before, Millis(self.now + max(answer.retry_after_ms, FIRST_MS)))
                window.answered(parcel, answer, self.now, self.rng.random())
        if self.rng.random() < self.crashes:
            self.crash()
        if not self.over:
            self.turn()

    def commit(self) -> None:
        assert self.pending is not None
        assert self.window is not None
        closed = self.disk.commit(self.pending)
        self.pending = None
        self.answers += 1
        self.over = self.window.persisted(closed=closed) or self.over

    def crash(self) -> None:
        """What was being written is on disk, or it is not."""
        if self.pending is not None and self.rng.random() < 0.5:
            self.disk.commit(self.pending)
        self.pending = None
        if self.disk.closed or self.disk.disabled is not None:
            self.over = True  # the next life does not open it
        else:
            self.begin_life()

    def revive(self) -> None:
        """As `redeliver --dead` does: what was given up is parked, and the sink begins anew by its row."""
        disk = self.disk
        if not (self.revivals and disk.dead) or self.pending is not None or disk.disabled is not None:
            return
        self.revivals -= 1
        for dead in disk.dead.values():
            assert dead.first is not None
            self.revived.update(range(dead.first, dead.seq + 1))
            disk.parked[dead.seq] = Parked(dead.seq, 0, Millis(0), dead.error, dead.first)
        disk.dead.clear()
        disk.closed = self.over = False
        self.begin_life()

    def run(self) -> World:
        for _ in range(STEPS):
            if self.over or self.settled() or (self.revivals and self.rng.random() < 0.01):
                self.revive()
            if self.over or self.settled():
                break
            self.step()
        else:
            raise AssertionError(f"not over after {STEPS} steps: {self.window}"[:2000])
        self.judge()
        return self

    def settled(self) -> bool:
        """Of a sink without an end: all is told, and it is on disk."""
        if self.of_run or len(self.log) < self.total or self.disk.cursor < self.total - 1000:
            return False
        window = self.window
        assert window is not None
        return window.idle() and window.draft.since is None and self.pending is None

    def judge(self) -> None:
        """I6."""
        disk = self.disk
        if disk.disabled is not None:
            self.judge_disabled()
            return
        for seq in range(1, self.total + 1):
            if seq in self.unwanted:
                assert seq not in self.delivered, f"event {seq} was not wanted"
                continue
            told = seq in self.delivered or seq in disk.dead
            if self.is_digest and not told:
                told = any(first <= seq <= last for first, last in self.ranges())
            assert told, f"event {seq} was never delivered, and nothing says so"
        for stream, every in self.order.items():
            seqs = [seq for seq in every if seq not in self.revived]  # which came when somebody asked for them
            assert seqs == sorted(seqs), f"stream {stream}: first deliveries in the order {seqs}"
        for dead in disk.dead.values():
            assert dead.tries > len(SCHEDULE), f"{dead} was given up too early"
        if self.of_run:
            assert disk.closed, "its run is over, and it was not closed"
            assert not disk.parked, "closed with parked messages"
        if self.is_digest:
            assert not disk.parked, "what was asked for again has not come"
        assert sum(SCHEDULE) < GIVE_UP_MS

    def judge_disabled(self) -> None:
        """Only when it was the receiver: whoever waits was tried, and none of them passed."""
        assert self.faults or self.down or self.poison, "disabled for nothing"
        window = self.window
        if isinstance(window, Window) and not self.of_crash():
            tried = {stream for _, stream in self.probed}
            waiting = set(window.backlog.streams)
            missing = len(waiting - tried)
            assert len(tried) >= min(PROBES, len(tried) + missing), (
                f"of {len(waiting)} jobs only {len(tried)} were tried"
            )

    def of_crash(self) -> bool:
        """It was disabled on the disk, and the life that knew why is over."""
        return self.window is None or self.window.disabled is None

    def ranges(self) -> list[tuple[int, int]]:
        """Of digests that are dead."""
        return [(dead.first, dead.seq) for dead in self.disk.dead.values() if dead.first is not None]


if __name__ == "__main__":
    World(int(sys.argv[1])).run()
