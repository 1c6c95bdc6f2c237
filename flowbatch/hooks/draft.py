"""What is to be written of a sink next. One progress is on its way at a time; what happens meanwhile is gathered for the next one."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

from flowbatch.model.ids import Millis
from flowbatch.model.notify import Ack, Dead, Parked, SinkProgress, Trouble

PERSIST_MS: Final = 250
PASSED_MS: Final = 60_000  # of what nobody wanted; far less than the age at which events are collected
PERSIST_ACKS: Final = 64  # requests
PERSIST_ACKS_MAX: Final = 4096  # events, of whatever requests


class Draft(Struct):
    key: str
    full: int = PERSIST_ACKS  # acks

    acks: list[Ack] = field(default_factory=list)
    park: dict[int, Parked] = field(default_factory=dict)  # by seq
    unpark: list[int] = field(default_factory=list)
    dead: list[Dead] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    failures: int = 0
    since: Millis | None = None  # something is to be written
    urgent: bool = False
    passed_at: Millis | None = None  # since then more of the log was passed over than is written
    writing: bool = False  # one is on its way

    def changed(self, now: Millis, *, urgent: bool = False) -> None:
        if self.since is None:
            self.since = now
        self.urgent = self.urgent or urgent

    def passed(self, now: Millis) -> None:
        """Events that are not wanted were looked at. Unwritten, they would be missed by a later life once they are collected."""
        if self.passed_at is None:
            self.passed_at = now

    def lost(self, first: int, last: int, now: Millis) -> None:
        """Events of this closed range were collected before they were delivered."""
        self.gaps.append((first, last))
        self.changed(now, urgent=True)

    def due(self, now: Millis, *, at_once: bool = False) -> bool:
        if self.writing:
            return False
        if self.since is None:
            return self.passed_at is not None and now - self.passed_at >= PASSED_MS
        return at_once or self.urgent or len(self.acks) >= self.full or now - self.since >= PERSIST_MS

    def next_at(self) -> Millis | None:
        if self.writing:
            return None
        if self.since is not None:
            return Millis(self.since + PERSIST_MS)
        return None if self.passed_at is None else Millis(self.passed_at + PASSED_MS)

    def take(
        self,
        now: Millis,
        cursor: int,
        trouble: Trouble | None,
        disable: str | None,
        *,
        close: bool,
        digest: tuple[int, int] | None = None,
    ) -> SinkProgress:
        made = SinkProgress(
            self.key, now, cursor, tuple(self.acks), tuple(self.park.values()), tuple(self.unpark), tuple(self.dead),
            tuple(self.gaps), self.failures, trouble, digest, disable, close,
        )  # fmt: skip
        self.acks, self.park, self.unpark, self.dead, self.gaps = [], {}, [], [], []
        self.failures, self.since, self.passed_at, self.urgent, self.writing = 0, None, None, False, True
        return made
