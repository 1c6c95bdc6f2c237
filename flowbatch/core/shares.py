"""Who has used how much of a fair-share queue, and whose turn it is (aws-batch.md §9.4).

AWS publishes that the share with the lowest weighted usage is served next, that running and recently finished jobs count in
vCPU-seconds, and that old usage counts less; not by what curve. Here:

- A share uses what its attempts hold, from their placement to their release, as integers: thousandths of a vCPU × milliseconds.
- The window W = max(600 s, shareDecaySeconds) is 60 cells. Usage of the cell that is k cells old counts (2·(60-k) - 1) / 120: the
  line 1 - age/W, taken at the middle of each cell. In integers, with S = Σ used and M = Σ used·cell, that is
  2·M + (2·(60 - cell of now) - 1)·S, so that time passing costs nothing and a cell that leaves the window one subtraction.
- What an attempt holds counts a minute ahead. Without it, a share that has used a second less than another would be given all
  that comes free at once; with it, they alternate within a minute of each other.
- The key of a share is that sum × its weight, × the number of active shares where a prefix (`UserA*`) has it: they split it.
  The lowest key is served; of equal ones the earliest job. Keys follow every placement and release of their share, and the
  clock every five seconds, so that what is looked at for a placement is what has changed and not all shares.
- computeReservation keeps (reservation/100)^active of the vCPUs free for shares that are not active yet. What runs alone may
  exceed it: a reservation never keeps a queue from working.

A share is active while it has jobs that have not ended, or usage inside the window. Usage is stored a row a cell; what is held
is derived from what lives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.model.ids import Millis
from flowbatch.model.queues import WEIGHT_ONE, FairShare
from flowbatch.model.rows import UsageKey, UsageRow

if TYPE_CHECKING:
    from flowbatch.core.lines import Line

CELLS: Final = 60
WINDOW_MS_MIN: Final = 600_000
TICK_MS: Final = 5_000
AHEAD_MS: Final = 60_000
ACTIVE_MAX: Final = 500


class Share(Struct, eq=False):
    name: str
    weight: int
    entry: str | None  # of the policy, where it is a prefix: its weight is split
    jobs: int = 0  # that have not ended
    held_milli: int = 0  # vCPUs of its live attempts
    counted_at: Millis | None = None  # until then, what it held is in the cells
    cells: dict[int, int] = field(default_factory=dict)  # number of a cell → milli-vCPU × ms, in ascending order
    total: int = 0  # Σ used
    moment: int = 0  # Σ used × number of the cell
    key: int = 0
    lines: list[Line] = field(default_factory=list)  # its ready work, a line a group
    unsaved: set[int] = field(default_factory=set)  # cells that differ from their rows

    def add(self, cell: int, used: int) -> None:
        self.cells[cell] = self.cells.get(cell, 0) + used
        self.total += used
        self.moment += used * cell
        self.unsaved.add(cell)

    def trim(self, newest: int) -> None:
        """Drops what has left the window whose last cell this is."""
        while self.cells and (cell := next(iter(self.cells))) <= newest - CELLS:
            used = self.cells.pop(cell)
            self.total -= used
            self.moment -= used * cell
            self.unsaved.add(cell)


class FairShares:
    """Of one queue: its active shares, by name."""

    __slots__ = (
        "exact",
        "held_milli",
        "members",
        "policy",
        "prefixes",
        "saves",
        "shares",
        "strays",
        "tick",
        "width_ms",
    )

    def __init__(self, policy: FairShare) -> None:
        self.policy = policy
        self.width_ms = -(-max(policy.decay_ms, WINDOW_MS_MIN) // CELLS)
        self.exact = {name: weight for name, weight in policy.weights if not name.endswith("*")}
        self.prefixes = [(name, weight) for name, weight in policy.weights if name.endswith("*")]
        self.shares: dict[str, Share] = {}
        self.members: dict[str, int] = {}  # prefix → its active shares
        self.saves: dict[str, Share] = {}  # shares whose rows are to be written with this turn
        self.strays: list[UsageKey] = []  # rows of a policy with another window
        self.held_milli = 0
        self.tick = -1

    # --- who is active

    def of(self, name: str) -> Share:
        """The share, active from now on."""
        share = self.shares.get(name)
        if share is None:
            weight, entry = self.exact.get(name, WEIGHT_ONE), None
            for prefix, its_weight in self.prefixes:
                if name.startswith(prefix[:-1]):
                    weight, entry = its_weight, prefix
            share = self.shares[name] = Share(name, weight, entry)
            before = self.saves.get(name)
            if before is not None:  # it was here until now, and its rows are still to go
                share.unsaved |= before.unsaved
                self.saves[name] = share
            self.recount(entry, 1)
        return share

    def recount(self, entry: str | None, change: int) -> None:
        """A prefix has an active share more or less: the others' part of its weight changes."""
        if entry is not None:
            self.members[entry] = self.members.get(entry, 0) + change
            for share in self.shares.values():
                if share.entry == entry:
                    self.weigh(share)

    def enter(self, name: str) -> None:
        self.of(name).jobs += 1

    def leave(self, name: str) -> None:
        share = self.shares[name]
        share.jobs -= 1
        self.drop_idle(share)

    def drop_idle(self, share: Share) -> None:
        if not (share.jobs or share.held_milli or share.total):
            for line in list(share.lines):  # what is left in them has ended
                line.group.close(line)
            share.unsaved.update(share.cells)
            share.cells.clear()
            del self.shares[share.name]
            self.saves[share.name] = share
            self.recount(share.entry, -1)

    # --- usage

    def hold(self, name: str, vcpus_milli: int, now: Millis) -> None:
        """The share has so much more, or less, from now on; what it held until now is counted."""
        share = self.of(name)
        self.count(share, now)
        share.held_milli += vcpus_milli
        self.held_milli += vcpus_milli
        share.unsaved.add(self.touch(share, now))
        self.saves[name] = share
        self.weigh(share)

    def touch(self, share: Share, now: Millis) -> int:
        """The cell of now, which exists from now on: its row says until when the share is counted."""
        cell = max(now // self.width_ms, next(reversed(share.cells), 0))  # the newest, where the clock was set back
        if cell not in share.cells:
            share.cells[cell] = 0
        return cell

    def count(self, share: Share, now: Millis) -> None:
        """What the share held since it was last counted goes into the cells."""
        since = share.counted_at
        newest = now // self.width_ms
        if since is not None and since < now and share.held_milli:
            cell = max(since // self.width_ms, newest - CELLS + 1)
            at = max(since, cell * self.width_ms)
            while at < now:
                end = min((cell + 1) * self.width_ms, now)
                share.add(cell, share.held_milli * (end - at))
                at, cell = end, cell + 1
        share.counted_at = now if since is None else Millis(max(since, now))  # a clock set back counts nothing twice
        share.trim(newest)

    def advance(self, now: Millis) -> None:
        """Every five seconds, before a placement: what is held is counted, what is old leaves, and all keys are as of now."""
        tick = now // TICK_MS
        if tick == self.tick:
            return
        self.tick = tick
        at = Millis(tick * TICK_MS)
        for share in list(self.shares.values()):
            if share.held_milli and share.counted_at is not None and share.counted_at < at:
                self.count(share, at)
            elif share.total:
                share.trim(at // self.width_ms)
            if not share.jobs:
                self.drop_idle(share)
        groups = {}
        for share in self.shares.values():
            counted_at = share.counted_at
            share.key = self.key_at(share, at if counted_at is None or counted_at < at else counted_at)
            for line in share.lines:
                groups[id(line.group)] = line.group
        for group in groups.values():
            group.reorder()

    def weigh(self, share: Share) -> None:
        """Its key anew, and its place in the order of each group."""
        share.key = self.key_at(share, Millis(max(self.tick * TICK_MS, share.counted_at or 0)))
        for line in share.lines:
            line.rank()

    def key_at(self, share: Share, at: Millis) -> int:
        usage = 0
        if share.total:
            usage = 2 * share.moment + (2 * (CELLS - at // self.width_ms) - 1) * share.total
        return (usage + 2 * CELLS * AHEAD_MS * share.held_milli) * self.weight_of(share)

    def weight_of(self, share: Share) -> int:
        return share.weight if share.entry is None else share.weight * self.members[share.entry]

    # --- how much

    def turns(self, share: Share, vcpus_milli: int, rival: int | None, now: Millis) -> int:
        """How many tasks of that size the share may have in a row before the rival's key is the lower one; at least one. With the
        first of them what the share has held until now is counted, which the others come after."""
        each = 2 * CELLS * AHEAD_MS * vcpus_milli * self.weight_of(share)
        if rival is None or not each:
            return 2**31
        key = share.key
        if rival - key > each and share.held_milli and share.counted_at is not None and share.counted_at < now:
            counted = replace(share, cells=dict(share.cells), unsaved=set())
            self.count(counted, now)
            key = self.key_at(counted, now)
        return max(1, -(-(rival - key) // each))

    def cap_milli(self, vcpus_milli: int) -> int:
        """Of so many vCPUs, what active shares may have together."""
        active, reserved = len(self.shares), self.policy.reservation
        if not reserved:
            return vcpus_milli
        whole = int(100**active)
        return vcpus_milli * (whole - int(reserved**active)) // whole

    def room(self, need_milli: int, vcpus_milli: int, kept_milli: int) -> int:
        """How many tasks of that size the reservation leaves room for; `kept_milli` is for another job that waits."""
        if not need_milli or not self.policy.reservation:
            return 2**31
        left = self.cap_milli(vcpus_milli) - kept_milli - self.held_milli
        if left < need_milli and not self.held_milli and not kept_milli:
            return 1
        return max(0, left // need_milli)

    # --- rows

    def rows(self, queue: str) -> Iterator[tuple[UsageKey, UsageRow | None]]:
        """Takes what this turn has changed; None: the row goes."""
        yield from ((key, None) for key in self.strays)
        self.strays.clear()
        for name, share in self.saves.items():
            for cell in sorted(share.unsaved):
                at = Millis(cell * self.width_ms)
                used = share.cells.get(cell)
                row = None if used is None else UsageRow(queue, name, at, used, share.counted_at or at)
                yield (queue, name, at), row
            share.unsaved.clear()
        self.saves.clear()

    def restore(self, rows: Iterable[UsageRow]) -> None:
        """Of an earlier life, or of a policy with another window: usage goes to the cell in which its own began."""
        for row in sorted(rows, key=lambda row: row.at):
            share = self.of(row.share)
            cell = row.at // self.width_ms
            share.add(cell, row.used)
            share.counted_at = Millis(max(row.until, share.counted_at or 0))
            if cell * self.width_ms == row.at:
                share.unsaved.discard(cell)
            self.weigh(share)

    def resume(self, name: str, vcpus_milli: int) -> None:
        """What lives already is held, and counted from where its rows end."""
        share = self.of(name)
        share.held_milli += vcpus_milli
        self.held_milli += vcpus_milli
        self.weigh(share)

    def inherit(self, before: FairShares | None, queue: str) -> None:
        """The usage of another policy's window; its rows are replaced."""
        if before is None:
            return
        self.strays = before.all_rows(queue)
        for name, share in before.shares.items():
            at = [Millis(cell * before.width_ms) for cell in share.cells]
            until = share.counted_at or Millis(0)
            self.restore(
                UsageRow(queue, name, each, used, until) for each, used in zip(at, share.cells.values(), strict=True)
            )
        for name, share in self.shares.items():
            if share.counted_at is not None:  # a row that says until when, also where all usage leaves with the window
                self.touch(share, share.counted_at)
            share.unsaved.update(share.cells)
            self.saves[name] = share

    def forget(self, queue: str) -> None:
        """The queue goes, and its usage with it."""
        self.strays = self.all_rows(queue)
        self.shares.clear()
        self.saves.clear()

    def all_rows(self, queue: str) -> list[UsageKey]:
        """That may be stored: those of cells that have left the window, too."""
        shares = (*self.saves.values(), *self.shares.values())
        cells = [(share.name, cell) for share in shares for cell in (*share.cells, *share.unsaved)]
        return [*self.strays, *((queue, name, Millis(cell * self.width_ms)) for name, cell in cells)]
