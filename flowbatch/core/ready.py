"""What is RUNNABLE now, as ranges of indices grouped by what they need.

A queue has a group per (priority, shape, kind); a group is a heap of ranges `(front, job number, first index)`: retries (front
0) before the rest (1), then the order of submission. Placing k tasks of a range is one division. Entries are not searched for
when a task is cancelled: an index that is no longer RUNNABLE is passed over when its turn comes.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Queue
from flowbatch.model.resources import Resources
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
            first = next_runnable(job.cells, entry.lo, entry.hi)
            if first < 0 or (job.run is not None and job.run.held):
                heapq.heappop(self.heap)  # a held run finds its ready work again by its cells, when it is resumed
            elif limit is not None and job.running >= limit:
                heapq.heappop(self.heap)
                job.parked.append((entry.front, first, entry.hi))
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
            heapq.heappop(self.heap)
        else:
            heapq.heapreplace(self.heap, entry._replace(lo=upto))


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

    def add(self, job: Job, lo: int, hi: int, *, front: int, shape: Resources) -> None:
        """The RUNNABLE children [lo, hi) of the job become ready."""
        key = GroupKey(job.spec.priority, shape, job.spec.kind)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key)
        self.seq += 1
        heapq.heappush(group.heap, Entry(front, job.no, lo, self.seq, hi, job))

    def unpark(self, job: Job) -> None:
        """A child of the job has ended: what its max_running held back is ready again."""
        parked, job.parked = job.parked, []
        for front, lo, hi in parked:
            self.add(job, lo, hi, front=front, shape=job.resources_of(lo))
