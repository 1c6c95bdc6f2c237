"""What is RUNNABLE now, as ranges of indices grouped by what they need.

A queue has a group per (priority, shape, kind, tokens, nodes), so that all of a group may run in the same places; a group is a heap of ranges `(front, job number, first index)`: retries (front
0) before the rest (1), then the order of submission. Placing k tasks of a range is one division. Entries are not searched for
when a task is cancelled: an index that is no longer RUNNABLE is passed over when its turn comes.

A queue with a fair-share policy has no priority in that, and a line a share in it (lines.py).

What `max_running` holds back is parked with the job, a heap per shape. While the job is below its limit, each shape that has
parked entries has one of its entries in the group too, so that the end of a task brings back one entry and not all.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct, field

from flowbatch.model.ids import Millis
from flowbatch.model.resources import Resources
from flowbatch.model.status import Status
from flowbatch.model.tokens import Demand

if TYPE_CHECKING:
    from flowbatch.core.state import Job

RESTING_RUNNABLE = int(Status.RUNNABLE)
DEPARTED_RUNNABLE = RESTING_RUNNABLE | 8


class GroupKey(NamedTuple):
    priority: int  # 0 in a fair-share queue: there it orders what is within a share
    shape: Resources
    kind: str  # process | docker: where a `local` environment sends it
    tokens: Demand = ()
    nodes: bool = False  # of multi-node jobs, which run neither on Spot nor on nodes of people's own


class Entry(NamedTuple):
    rank: int  # -priority in a fair-share queue, else 0: groups have it
    front: int  # 0: a retry; 1
    job_no: int
    lo: int
    seq: int  # makes entries comparable without comparing jobs
    hi: int  # exclusive
    job: Job


class Group(Struct, eq=False):
    key: GroupKey
    heap: list[Entry] = field(default_factory=list)
    blocked_since: Millis | None = None  # its head did not fit then, and still does not
    token_since: Millis | None = None  # its head needs tokens, could not start then, and still cannot
    latest: Entry | None = None  # not in the heap yet: children that become ready one by one, in order, are one range

    @property
    def empty(self) -> bool:
        return not self.heap and self.latest is None

    def entries(self) -> Iterator[Entry]:
        """In no order; some may have nothing left that is ready."""
        yield from self.heap
        if self.latest is not None:
            yield self.latest

    def push(self, entry: Entry) -> None:
        latest = self.latest
        if latest is None:
            self.latest = entry
        elif latest.hi == entry.lo and latest.job is entry.job and latest.front == entry.front:
            self.latest = Entry(latest.rank, latest.front, latest.job_no, latest.lo, latest.seq, entry.hi, latest.job)
        else:
            heapq.heappush(self.heap, latest)
            self.latest = entry

    def sift(self) -> None:
        """What was pushed last takes its place in the heap."""
        if self.latest is not None:
            heapq.heappush(self.heap, self.latest)
            self.latest = None

    def head_key(self, entry: Entry) -> tuple[int, ...]:
        """Of its head, among those of its queue: smaller is served first. The last two are the job's number and the index."""
        return (-self.key.priority, entry.front, entry.job_no, entry.lo)

    def head(self) -> Entry | None:
        """The first entry, whose first index is RUNNABLE and whose job is below its max_running; or None."""
        self.sift()
        while self.heap:
            entry = self.heap[0]
            job = entry.job
            limit = job.spec.max_running
            first = first_ready(job, entry.lo, entry.hi, self.key.shape)
            if first < 0 or job.held:
                self.drop(entry)  # a held run finds its ready work again by its cells, when it is resumed
            elif limit is not None and job.running >= limit:
                heapq.heappop(self.heap)
                heapq.heappush(job.parked.setdefault(self.key.shape, []), entry._replace(lo=first))
            elif first != entry.lo:
                entry = entry._replace(lo=first)
                heapq.heapreplace(self.heap, entry)
                if self.heap[0] is entry:
                    return entry
            else:
                return entry
        return None

    def rival(self) -> int | None:
        """Of another share in a fair-share queue: a lower bound of its key."""
        return None

    def take(self, entry: Entry, upto: int) -> None:
        """The head entry has been worked through to before `upto`."""
        if upto >= entry.hi:
            self.drop(entry)
        else:
            heapq.heapreplace(self.heap, entry._replace(lo=upto))

    def drop(self, entry: Entry) -> None:
        """The head entry is of no more use; what its job has parked may follow it."""
        heapq.heappop(self.heap)
        parked = entry.job.parked.get(self.key.shape)
        if parked:
            heapq.heappush(self.heap, unparked(entry.job, self.key.shape, parked))


def unparked(job: Job, shape: Resources, parked: list[Entry]) -> Entry:
    """Takes the first parked entry of that shape."""
    entry = heapq.heappop(parked)
    if not parked:
        del job.parked[shape]
    return entry


def first_ready(job: Job, lo: int, hi: int, shape: Resources) -> int:
    """The first index in [lo, hi) that may start in this shape, or -1. One that has grown, or waits for its backoff, has an
    entry or a timer of its own."""
    index = next_runnable(job.cells, lo, hi)
    if job.odd or shape != job.spec.resources:
        while index >= 0 and not belongs_here(job, index, shape):
            index = next_runnable(job.cells, index + 1, hi)
    return index


def belongs_here(job: Job, index: int, shape: Resources) -> bool:
    odd = job.odd.get(index)
    return (odd is None or odd.not_before is None) and job.resources_of(index) == shape


def next_runnable(cells: bytearray, lo: int, hi: int) -> int:
    """The first RUNNABLE index in [lo, hi), or -1."""
    if lo < hi and cells[lo] & 7 == RESTING_RUNNABLE:
        return lo
    resting = cells.find(RESTING_RUNNABLE, lo, hi)
    departed = cells.find(DEPARTED_RUNNABLE, lo, hi if resting < 0 else resting)
    return resting if departed < 0 else departed
