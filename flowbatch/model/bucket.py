"""A token bucket: how many of something may come in a while, and how many at once."""

from __future__ import annotations


class Bucket:
    """`rate`: of a second. `burst`: at once; unless given what a second brings, and at least one. Times in milliseconds."""

    __slots__ = ("at_ms", "burst", "left", "rate")

    def __init__(self, rate: float, now: int, burst: float | None = None) -> None:
        self.rate, self.at_ms = rate, now
        self.burst = self.left = max(rate if burst is None else burst, 1.0)

    def take(self, now: int) -> bool:
        self.left = min(self.burst, self.left + max(0, now - self.at_ms) * self.rate / 1000)
        self.at_ms = now
        if self.left < 1:
            return False
        self.left -= 1
        return True
