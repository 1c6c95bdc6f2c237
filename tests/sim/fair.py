"""Fair share a second time, from the words of aws-batch.md §9.4 alone: intervals of held vCPUs, and sums over all of them.

Usage counts per cell of a sixtieth of the window, 2·(60-age) - 1 at an age of so many cells; what is held now counts a minute
ahead; a share's key is that times its weight; the lowest is served, of equal ones the earliest job.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from flowbatch.model.queues import FairShare

CELLS: Final = 60
TICK_MS: Final = 5_000
MINUTE_MS: Final = 60_000


@dataclass(slots=True)
class Interval:
    """vCPUs of one attempt, from its placement to its release."""

    vcpus_milli: int
    placed_at: int
    released_at: int | None = None
    spread: dict[int, int] | None = None  # over cells, once it is released: it never changes again


@dataclass(slots=True)
class Book:
    """Of one queue: every interval that ever was, by share."""

    policy: FairShare
    intervals: dict[str, list[Interval]] = field(default_factory=dict)
    cell_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.cell_ms = -(-max(self.policy.decay_ms, 600_000) // CELLS)

    def place(self, share: str, vcpus_milli: int, now: int) -> Interval:
        interval = Interval(vcpus_milli, now)
        self.intervals.setdefault(share, []).append(interval)
        return interval

    def cells(self, share: str, now: int) -> dict[int, int]:
        """What was used until now in each cell of the window that ends with now's."""
        newest = now // self.cell_ms
        found: dict[int, int] = {}
        for each in self.intervals.get(share, ()):
            if each.released_at is None or each.released_at > now:
                spread = self.spread(each, now)
            else:
                if each.spread is None:
                    each.spread = self.spread(each, each.released_at)
                spread = each.spread
            for cell, used in spread.items():
                if newest - CELLS < cell <= newest:
                    found[cell] = found.get(cell, 0) + used
        return found

    def spread(self, interval: Interval, end: int) -> dict[int, int]:
        """Cell → what of the interval, up to its end, lies in it."""
        width, first, vcpus = self.cell_ms, interval.placed_at, interval.vcpus_milli
        found = {}
        while first < end:
            cell = first // width
            last = min(end, (cell + 1) * width)
            found[cell] = vcpus * (last - first)
            first = last
        return found

    def held(self, share: str) -> int:
        return sum(each.vcpus_milli for each in self.intervals.get(share, ()) if each.released_at is None)

    def changed(self, share: str) -> int:
        """When an attempt of it was placed or released last."""
        times = [each.placed_at for each in self.intervals.get(share, ())]
        times += [each.released_at for each in self.intervals.get(share, ()) if each.released_at is not None]
        return max(times, default=0)

    def weight(self, share: str, active: Iterable[str]) -> int:
        for entry, weight in self.policy.weights:
            if entry == share:
                return weight
            if entry.endswith("*") and share.startswith(entry[:-1]):
                return weight * sum(each.startswith(entry[:-1]) for each in active)
        return 10_000

    def key(self, share: str, now: int, active: Iterable[str]) -> int:
        """As the clock stood at the last five seconds, or when the share changed last."""
        at = max(now // TICK_MS * TICK_MS, self.changed(share))
        newest = at // self.cell_ms
        usage = sum(used * (2 * (CELLS - (newest - cell)) - 1) for cell, used in self.cells(share, at).items())
        return (usage + 2 * CELLS * MINUTE_MS * self.held(share)) * self.weight(share, active)

    def active(self, jobs: Iterable[str], now: int) -> set[str]:
        """Those with jobs that have not ended, or with usage inside the window."""
        at = now // TICK_MS * TICK_MS
        return set(jobs) | {
            share for share in self.intervals if self.held(share) or self.cells(share, max(at, self.changed(share)))
        }

    def cap_milli(self, vcpus_milli: int, active: int) -> int:
        whole = int(100**active)
        return vcpus_milli * (whole - int(self.policy.reservation**active)) // whole
