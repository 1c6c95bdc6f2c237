"""A queue: its ready work in groups, how much of it lives, and whose turn it is where shares divide it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from flowbatch.core.lines import FairGroup
from flowbatch.core.ready import Entry, Group, GroupKey, unparked
from flowbatch.core.shares import FairShares
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Queue
from flowbatch.model.places import PlaceStatus
from flowbatch.model.resources import Resources
from flowbatch.model.rows import HeadRow, QueueRow, UsageRow

if TYPE_CHECKING:
    from flowbatch.core.state import Job, State


class QueueState(Struct, eq=False):
    spec: Queue
    groups: dict[GroupKey, Group] = field(default_factory=dict)
    live: int = 0
    seq: int = 0
    fair: FairShares | None = None  # where it has a fair-share policy
    moved_at: Millis | None = None  # when something of it was placed last, in this life
    blocks: bool = False  # a job of it was found to be blocked, in this life
    stuck: HeadRow | None = None  # its head, where that is blocked
    stuck_until: Millis | None = None  # when the limit's timer comes, once it is set
    declared: Queue | None = None  # by the settings, when they were last looked at
    status: PlaceStatus = PlaceStatus.VALID

    def __post_init__(self) -> None:
        self.fair = None if self.spec.policy is None else FairShares(self.spec.policy)

    def take(self, row: QueueRow, state: State) -> None:
        """It is what the row says now; what waits and runs in it stays."""
        self.declared, self.status = row.declared, row.status
        self.respec(row.spec, state)

    def row(self) -> QueueRow:
        return QueueRow(self.spec.name, self.spec, self.declared, self.status)

    @classmethod
    def of(cls, row: QueueRow) -> QueueState:
        return cls(row.spec, declared=row.declared, status=row.status)

    def add(self, job: Job, lo: int, hi: int, *, front: int, shape: Resources) -> None:
        """The RUNNABLE children [lo, hi) of the job become ready."""
        self.seq += 1
        self.push(shape, Entry(self.rank_of(job), front, job.no, lo, self.seq, hi, job))

    def rank_of(self, job: Job) -> int:
        """Within a share `priority` comes before the order of submission; elsewhere there is a group for each."""
        return 0 if self.fair is None else -job.spec.priority

    def push(self, shape: Resources, entry: Entry) -> None:
        key = self.key_of(entry.job, shape)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(key) if self.fair is None else FairGroup(key, shares=self.fair)
        group.push(entry)

    def key_of(self, job: Job, shape: Resources) -> GroupKey:
        spec = job.spec
        nodes = spec.members is not None and spec.members.nodes is not None
        return GroupKey(spec.priority if self.fair is None else 0, shape, spec.kind, spec.tokens, nodes)

    def unpark(self, job: Job) -> None:
        """A child of the job has ended: of each shape that its max_running held back, one entry is ready again."""
        for shape, parked in list(job.parked.items()):
            self.push(shape, unparked(job, shape, parked))

    def respec(self, spec: Queue, state: State) -> None:
        """Another spec for the same queue. Where its policy is another one, what waits is ordered anew; usage is kept."""
        before, self.spec = self.fair, spec
        if spec.policy == (None if before is None else before.policy):
            return
        self.fair = None if spec.policy is None else FairShares(spec.policy)
        jobs = [job for job in state.jobs.values() if job.spec.queue == spec.name]
        if self.fair is not None:
            self.fair.inherit(before, spec.name)
            for job in jobs:
                if not job.status.terminal:
                    self.fair.enter(job.spec.share or "")
            for live in state.live.values():
                if live.queue is self:
                    self.fair.resume(live.job.spec.share or "", live.resources.vcpus_milli)
        groups, self.groups = self.groups, {}
        for group in groups.values():
            for entry in group.entries():
                self.push(group.key.shape, entry._replace(rank=self.rank_of(entry.job)))
        for job in jobs:
            for parked in job.parked.values():  # of one job: their order stays
                parked[:] = [entry._replace(rank=self.rank_of(job)) for entry in parked]


def usage_of(rows: Iterable[UsageRow]) -> dict[str, list[UsageRow]]:
    """By queue."""
    found: dict[str, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(row.queue, []).append(row)
    return found
