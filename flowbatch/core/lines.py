"""Ready work of a fair-share queue: a group a shape as in any queue, and in it a line a share.

The group's head is the head of the line whose share has the lowest key. Lines are ordered by a heap that is corrected where it is
looked at: what has become dearer is found out of place at the top, what has become cheaper is put in anew.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

from msgspec import field

from flowbatch.core.ready import Entry, Group
from flowbatch.core.shares import FairShares, Share

Rank = tuple[int, int, int]  # (key of the share, job number, index): of equal keys the earliest job


class Line(Group, eq=False, kw_only=True):
    """Of one share in one group; its entries are ordered by `priority`, then as in any queue."""

    share: Share
    group: FairGroup
    stamp: int = 0  # the last place given: older ones mean nothing

    def rank(self) -> None:
        """A new place in the group's order."""
        if self.heap:
            self.stamp = self.group.next_stamp()
            self.group.place(((self.share.key, *self.heap[0][2:4]), self.stamp, self))


class FairGroup(Group, eq=False, kw_only=True):
    """`heap`, of the FIFO groups, stays empty here."""

    shares: FairShares
    lines: dict[str, Line] = field(default_factory=dict)
    order: list[tuple[Rank, int, Line]] = field(default_factory=list)
    stamps: int = 0

    @property
    def empty(self) -> bool:
        return not self.lines

    def entries(self) -> Iterator[Entry]:
        for line in self.lines.values():
            yield from line.heap

    def push(self, entry: Entry) -> None:
        name = entry.job.spec.share or ""
        line = self.lines.get(name)
        if line is None:
            share = self.shares.of(name)
            line = self.lines[name] = Line(self.key, share=share, group=self)
            share.lines.append(line)
        line.push(entry)
        line.sift()  # each line has its place by what is in its heap
        if line.heap[0] is entry:
            line.rank()

    def next_stamp(self) -> int:
        """No two places have the same: lines are never compared."""
        self.stamps += 1
        return self.stamps

    def place(self, place: tuple[Rank, int, Line]) -> None:
        heapq.heappush(self.order, place)
        if len(self.order) > 4 * len(self.lines) + 64:
            self.order = [each for each in self.order if each[1] == each[2].stamp]
            heapq.heapify(self.order)

    def reorder(self) -> None:
        """All keys are new: one heap made anew costs less than a place for each line."""
        order: list[tuple[Rank, int, Line]] = []
        for line in self.lines.values():
            if line.heap:
                line.stamp = self.next_stamp()
                order.append(((line.share.key, *line.heap[0][2:4]), line.stamp, line))
        heapq.heapify(order)
        self.order = order

    def head(self) -> Entry | None:
        while self.order:
            rank, stamp, line = self.order[0]
            if stamp != line.stamp:
                heapq.heappop(self.order)
                continue
            entry = line.head()
            if entry is None:
                heapq.heappop(self.order)
                self.close(line)
                continue
            now = (line.share.key, entry.job_no, entry.lo)
            if now == rank:
                return entry
            heapq.heapreplace(self.order, (now, stamp, line))
        return None

    def close(self, line: Line) -> None:
        """Nothing of the line is ready any more; the next push makes a new one."""
        line.stamp = 0
        del self.lines[line.share.name]
        line.share.lines.remove(line)

    def take(self, entry: Entry, upto: int) -> None:
        line = self.lines[entry.job.spec.share or ""]
        line.take(entry, upto)
        line.rank()  # what comes next may be of an earlier job, where `priority` had put this one first

    def head_key(self, entry: Entry) -> Rank:
        share = self.lines[entry.job.spec.share or ""].share
        return (share.key, entry.job_no, entry.lo)

    def rival(self) -> int | None:
        """A lower bound of the keys of the shares that come after the first; None where there are none."""
        order = self.order
        if len(order) < 3:
            return order[1][0][0] if len(order) == 2 else None
        return min(order[1][0][0], order[2][0][0])
