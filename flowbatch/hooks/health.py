"""How long a receiver that fails is left alone, and when a message is given up (reliability.md §4). Pure: time and chance are handed in."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from flowbatch.model.ids import Millis
from flowbatch.model.notify import Trouble

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
FIRST_MS: Final = SECOND
SHORT_MS: Final = 5 * MINUTE  # the longest pause within the first hour
# The waits of a message that is refused: 75 hours in all; and the later ones of a receiver that is down.
SCHEDULE: Final = (
    5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR,
)  # fmt: skip
LONG: Final = SCHEDULE[2:]
GIVE_UP_MS: Final = 5 * 24 * HOUR  # a receiver that fails so long is disabled,
TRIED_MS: Final = HOUR  # if it has been tried for so long since we were away ourselves: off, asleep, without a network
RETRY_AFTER_MAX_MS: Final = 24 * HOUR
JITTER: Final = 0.1
START: Final = Millis(0)


class Outcome(Enum):
    DELIVERED = auto()
    ENDPOINT = auto()  # nobody there, or not now: the next message would fare no better
    MESSAGE = auto()  # this one is refused
    GONE = auto()  # 410: nothing is wanted here any more


class Answer(Struct, frozen=True):
    """What became of a request."""

    outcome: Outcome
    status: int = 0  # of HTTP
    error: str = ""
    latency_ms: int = 0
    retry_after_ms: int | None = None


def message_wait_ms(tries: int, draw: float) -> int | None:
    """After so many tries; None: it is given up. `draw` in [0, 1)."""
    return None if tries > len(SCHEDULE) else int(SCHEDULE[tries - 1] * (1 + JITTER * draw))


class Health(Struct):
    """Of a receiver. While `since` is set it fails, and gets one message at a time, not before `next_at`."""

    since: Millis | None = None
    tries: int = 0
    error: str = ""
    next_at: Millis = START
    pause_ms: int = FIRST_MS
    held_until: Millis = START  # it asked for that itself: no answer to what was asked before ends it
    tried_since: Millis = START  # tries have come when they were due from then on

    @classmethod
    def of(cls, trouble: Trouble | None) -> Health:
        """A new life tries at once: much may have changed."""
        return cls() if trouble is None else cls(trouble.since, trouble.tries, trouble.error)

    def trouble(self) -> Trouble | None:
        return None if self.since is None else Trouble(self.since, self.tries, self.error)

    def succeeded(self, now: Millis) -> bool:
        """Whether it had failed, and fails no more."""
        if self.since is None or now < self.held_until:
            return False
        self.since, self.tries, self.error, self.pause_ms = None, 0, "", FIRST_MS
        return True

    def failed(self, now: Millis, answer: Answer, draw: float) -> None:
        if self.since is None:
            self.since, self.tries = now, 0
            self.tried_since, self.pause_ms = now, FIRST_MS
        elif now - self.next_at >= TRIED_MS:  # a new life, or this machine slept: that it failed before says little
            self.tried_since, self.pause_ms = now, FIRST_MS
        self.tries += 1
        self.error = answer.error
        down = now - self.tried_since
        if down < HOUR:  # decorrelated jitter: from the first pause to three times the last one
            self.pause_ms = min(SHORT_MS, int(FIRST_MS + draw * (3 * self.pause_ms - FIRST_MS)))
        else:
            step = next((wait for wait in LONG if down < 3 * wait), LONG[-1])
            self.pause_ms = int(step * (1 - JITTER * draw))
        pause_ms = self.pause_ms
        if answer.retry_after_ms is not None:
            pause_ms = max(min(answer.retry_after_ms, RETRY_AFTER_MAX_MS), FIRST_MS)
            self.held_until = Millis(max(self.held_until, now + pause_ms))
        self.next_at = Millis(max(self.held_until, now + pause_ms))

    def refused(self, now: Millis, answer: Answer, wait_ms: int) -> None:
        """A message that no later one may overtake: until it is tried again the receiver gets nothing."""
        if self.since is None:
            self.since, self.tries = now, 0
        self.tries += 1
        self.error, self.next_at = answer.error, Millis(now + wait_ms)

    def hasten(self, now: Millis) -> None:
        """Somebody wants it tried now, and no sooner than it asked for itself."""
        if self.since is not None:
            self.next_at = max(self.held_until, min(self.next_at, now))

    def hopeless(self, now: Millis) -> bool:
        return self.since is not None and now - self.since >= GIVE_UP_MS and now - self.tried_since >= TRIED_MS
