"""What is RUNNABLE now, as ranges of indices grouped by what they need.

A queue has a group per (priority, shape, kind); a group is a heap of ranges `(front, job number, first index)`: retries (front
0) before the rest (1), then the order of submission. Placing k tasks of a range is one division. Entries are not searched for
when a task is cancelled: an index that is no longer RUNNABLE is passed over when its turn comes.

What `max_running` holds back is parked with the job, a heap per shape. While the job is below its limit, each shape that has
parked entries has one of its entries in the group too, so that the end of a task brings back one entry and not all.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Queue
from flowbatch.model.places import PlaceStatus
from flowbatch.model.resources import Resources
from flowbatch.model.rows import QueueRow
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.core.state import Job

RESTING_RUNNABLE = int(Status.RUNNABLE)
DEPARTED_RUNNABLE = RESTING_RUNNABLE | 8


class GroupKey(NamedTuple):
    priority: int
    shape: Resources
    kind: str  # process | docker: where a `local` environment sends it


class Entry(NamedTuple):
    front: int  # 0: a retry; 1
    job_no: int
    lo: int
    seq: int  # makes entries comparable without comparing jobs
    hi: int  # exclusive
    job: Job


@dataclass(slots=True, eq=False)
class Group:
    key: GroupKey
    heap: list[Entry] = field(default_factory=list)
    blocked_since: Millis | None = None  # its head did not fit then, and still does not

    def head(self) -> Entry | None:
        """The first entry, whose first index is RUNNABLE and whose job is below its max_running; or None."""
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


@dataclass(slots=True, eq=False)
class QueueState:
    spec: Queue
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    live: int = 0
    seq: int = 0
    declared: Queue | None = None  # by the settings, when they were last looked at
    status: PlaceStatus = PlaceStatus.VALID

    def take(self, row: QueueRow) -> None:
        """It is what the row says now; what waits and runs in it stays."""
        self.spec, self.declared, self.status = row.spec, row.declared, row.status

    def row(self) -> QueueRow:
        return QueueRow(self.spec.name, self.spec, self.declared, self.status)

    @classmethod
    def of(cls, row: QueueRow) -> QueueState:
        return cls(row.spec, declared=row.declared, status=row.status)

    def add(self, job: Job, lo: int, hi: int, *, front: int, shape: Resources) -> None:
        """The RUNNABLE children [lo, hi) of the job become ready."""
        self.seq += 1
        self.push(shape, Entry(front, job.no, lo, self.seq, hi, job))

    def push(self, shape: Resources, entry: Entry) -> None:
        key = GroupKey(entry.job.spec.priority, shape, entry.job.spec.kind)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key)
        heapq.heappush(group.heap, entry)

    def unpark(self, job: Job) -> None:
        """A child of the job has ended: of each shape that its max_running held back, one entry is ready again."""
        for shape, parked in list(job.parked.items()):
            self.push(shape, unparked(job, shape, parked))
