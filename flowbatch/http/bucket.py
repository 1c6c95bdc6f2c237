"""How many calls a key may make: a bucket that each second fills."""

from __future__ import annotations


class Bucket:
    """Calls of one key: as many at once as a second brings."""

    __slots__ = ("at_ms", "left", "rate")

    def __init__(self, rate: float, now: int) -> None:
        self.rate, self.left, self.at_ms = rate, max(rate, 1.0), now

    def take(self, now: int) -> bool:
        self.left = min(max(self.rate, 1.0), self.left + (now - self.at_ms) * self.rate / 1000)
        self.at_ms = now
        if self.left < 1:
            return False
        self.left -= 1
        return True
