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


@dataclass(slots=True, eq=False)
class Interval:
    """vCPUs of one attempt, from its placement to its release."""

    share: str
    vcpus_milli: int
    placed_at: int


@dataclass(slots=True)
class Account:
    """Of one share: what is held, and what was held and never changes again."""

    held: list[Interval] = field(default_factory=list)
    past: dict[int, int] = field(default_factory=dict)  # by cell
    changed: int = 0  # when an attempt of it was placed or released last


@dataclass(slots=True)
class Book:
    """Of one queue: every interval that ever was, by share."""

    policy: FairShare
    accounts: dict[str, Account] = field(default_factory=dict)
    cell_ms: int = field(init=False)

    def __post_init__(self) -> None:
        self.cell_ms = -(-max(self.policy.decay_ms, 600_000) // CELLS)

    def place(self, share: str, vcpus_milli: int, now: int) -> Interval:
        interval = Interval(share, vcpus_milli, now)
        account = self.accounts.setdefault(share, Account())
        account.held.append(interval)
        account.changed = max(account.changed, now)
        return interval

    def release(self, interval: Interval, now: int) -> None:
        account = self.accounts[interval.share]
        account.held.remove(interval)
        account.changed = max(account.changed, now)
        self.spread(interval, now, account.past)

    def cells(self, share: str, now: int) -> dict[int, int]:
        """What was used until now, which is not before its last change, in each cell of the window that ends with now's."""
        account = self.accounts.get(share)
        if account is None:
            return {}
        found = dict(account.past)
        for each in account.held:
            self.spread(each, now, found)
        newest = now // self.cell_ms
        return {cell: used for cell, used in found.items() if used and newest - CELLS < cell <= newest}

    def spread(self, interval: Interval, end: int, found: dict[int, int]) -> None:
        """Adds to each cell what of the interval, up to its end, lies in it."""
        width, first, vcpus = self.cell_ms, interval.placed_at, interval.vcpus_milli
        while first < end:
            cell = first // width
            last = min(end, (cell + 1) * width)
            found[cell] = found.get(cell, 0) + vcpus * (last - first)
            first = last

    def held(self, share: str) -> int:
        account = self.accounts.get(share)
        return 0 if account is None else sum(each.vcpus_milli for each in account.held)

    def changed(self, share: str) -> int:
        account = self.accounts.get(share)
        return 0 if account is None else account.changed

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
            share for share in self.accounts if self.held(share) or self.cells(share, max(at, self.changed(share)))
        }

    def cap_milli(self, vcpus_milli: int, active: int) -> int:
        whole = int(100**active)
        return vcpus_milli * (whole - int(self.policy.reservation**active)) // whole
