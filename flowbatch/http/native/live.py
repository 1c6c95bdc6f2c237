"""Turns of the engine, told to those who listen: what has changed of a run, and that there are new events.

Nothing here grows with a slow listener. A feed holds which jobs have changed, not how; events are read from the store behind a
cursor. What a turn costs here grows with what it changed, and is nothing where nobody listens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from flowbatch.core.state import Job, Run
from flowbatch.engine.loop import Engine
from flowbatch.http.native.shapes import ChildProgress, EventSaid, JobProgress, ProgressSaid, RunProgress
from flowbatch.model.events import EventKind
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import TaskRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.store.reader import Reader
from flowbatch.store.results import JobView, RunView

CHILDREN_TOLD: Final = 6  # failed children of an array
EVENTS_PAGE: Final = 500
TOLD: Final = (EventKind.RUN, EventKind.JOB)
HoldUps = Callable[[], list[tuple[str, str]]]


def nothing() -> list[tuple[str, str]]:
    return []


class Live:
    """`hold_ups`: what everything waits for now. `slow_s`: how long a listener may leave what it is sent unread."""

    def __init__(self, engine: Engine, reader: Reader, hold_ups: HoldUps = nothing, *, slow_s: float = 30.0) -> None:
        self.reader = reader
        self.hold_ups = hold_ups
        self.slow_s = slow_s
        self.closing = False
        self._engine = engine
        self._news = anyio.Event()
        self._by_run: dict[int, list[RunFeed]] = {}
        self._by_job: dict[int, list[RunFeed]] = {}
        engine.observe(self.on_turn)

    def close(self) -> None:
        """Every listener is sent away."""
        self.closing = True
        self._wake()
        for feeds in self._by_run.values():
            for feed in feeds:
                feed.wake.set()

    def on_turn(self, outcome: Outcome) -> None:
        writes = outcome.writes
        if writes.events:
            self._wake()
        if not self._by_run:
            return
        for row in writes.tasks.values():
            for feed in self._by_job.get(row.job, ()):
                feed.on_task(row)
        for no in writes.jobs:
            for feed in self._by_job.get(no, ()):
                feed.on_job(no)
        for no in writes.runs:
            for feed in self._by_run.get(no, ()):
                feed.wake.set()
        for event in writes.events:
            for feed in self._by_run.get(event.run, ()) if event.run is not None else ():
                feed.wake.set()

    def _wake(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    @property
    def news(self) -> anyio.Event:
        """Set once there may be events that are not there now. To be taken before one looks."""
        return self._news

    @property
    def followers(self) -> int:
        """Feeds of runs that are open."""
        return sum(map(len, self._by_run.values()))

    def feed(self, run: RunView) -> RunFeed:
        """Of a run that is open or has ended; to be closed."""
        live = self._engine.machine.state.runs.get(run.id)
        made = RunFeed(self, run, live)
        if live is not None:
            self._by_run.setdefault(run.no, []).append(made)
            for job in live.jobs:
                self._by_job.setdefault(job.no, []).append(made)
        return made

    def drop(self, feed: RunFeed) -> None:
        self._by_run.get(feed.view.no, []).remove(feed)
        if not self._by_run[feed.view.no]:
            del self._by_run[feed.view.no]
        for no in feed.jobs:
            self._by_job[no].remove(feed)
            if not self._by_job[no]:
                del self._by_job[no]


@dataclass(slots=True)
class RunFeed:
    """One listener's look at one run. `run`: None where it had ended before."""

    live: Live
    view: RunView
    run: Run | None
    jobs: dict[int, Job] = field(init=False)
    wake: anyio.Event = field(default_factory=anyio.Event)
    changed: set[int] = field(default_factory=set)
    children: list[ChildProgress] = field(default_factory=list)
    begun: set[int] = field(default_factory=set)
    told: dict[int, set[tuple[int, int]]] = field(default_factory=dict)  # job → failed children and their attempts
    cursor: int = 0
    waits: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = {} if self.run is None else {job.no: job for job in self.run.jobs}

    def close(self) -> None:
        if self.run is not None:
            self.live.drop(self)
            self.run = None

    # --- the engine's turns

    def on_job(self, no: int) -> None:
        self.changed.add(no)
        self.wake.set()

    def on_task(self, row: TaskRow) -> None:
        self.on_job(row.job)
        if self.jobs[row.job].array:
            self.tell_child(row)

    def tell_child(self, row: TaskRow) -> None:
        failed = row.status is Status.FAILED and bool(row.attempt)
        told = self.told.setdefault(row.job, set())
        if row.status >= Status.RUNNING and row.job not in self.begun:
            self.begun.add(row.job)
        elif not failed:
            return
        if failed:
            if len(told) >= CHILDREN_TOLD or (row.idx, row.attempt) in told:
                return
            told.add((row.idx, row.attempt))
        self.children.append(
            ChildProgress(
                job=row.job, idx=row.idx, status=row.status, attempt=row.attempt, exit_code=row.exit_code,
                reason=row.reason, status_reason=row.status_reason,
            )
        )  # fmt: skip

    # --- messages

    def first(self) -> ProgressSaid:
        """All there is. Only what has happened is told of an ended run."""
        if self.run is None:
            return self.stored()
        for job in self.run.jobs:
            if job.array and job.counts[Status.FAILED]:
                self.tell_stored_children(job.id)
        self.changed = set(self.jobs)
        return self.next()

    def next(self) -> ProgressSaid:
        """What has changed since the message before."""
        assert self.run is not None
        self.wake = anyio.Event()
        children, self.children = self.children, []
        changed, self.changed = self.changed, set()
        waits = self.live.hold_ups()
        self.waits = waits
        return ProgressSaid(
            run=run_progress(self.run),
            jobs=[job_progress(self.jobs[no]) for no in sorted(changed)],
            events=self.events(),
            children=children,
            waits=waits,
            over=self.run.status is not RunStatus.RUNNING,
        )

    def events(self) -> list[EventSaid]:
        """Of the run and its jobs, behind those that were told; where there are very many the rest comes with the next message."""
        reader = self.live.reader
        last = reader.last_seq()
        found = reader.events(after=self.cursor, run=self.view, limit=EVENTS_PAGE)
        if len(found) == EVENTS_PAGE:
            self.cursor = found[-1].seq
            self.wake.set()
        else:
            self.cursor = max([last, *(each.seq for each in found[-1:])])
        return [EventSaid.of(each) for each in found if each.row.kind in TOLD]

    def tell_stored_children(self, job_id: str) -> None:
        job = self.live.reader.job(job_id)
        if job is None or not job.counts.get(Status.FAILED):
            return
        for task in self.live.reader.tasks(job, status=Status.FAILED):
            told = self.told.setdefault(job.no, set())
            if len(told) >= CHILDREN_TOLD:
                return
            if task.attempts and task.index is not None:
                told.add((task.index, task.attempts))
                self.children.append(
                    ChildProgress(
                        job=job.no, idx=task.index, status=task.status, attempt=task.attempts, exit_code=task.exit_code,
                        reason=task.reason, status_reason=task.status_reason,
                    )
                )  # fmt: skip

    def stored(self) -> ProgressSaid:
        """A run that has left the engine's memory."""
        reader = self.live.reader
        run = reader.run(self.view.id)
        jobs = reader.jobs(run)
        for job in jobs:
            self.tell_stored_children(job.id)
        events: list[EventSaid] = []
        while True:
            events += self.events()
            if not self.wake.is_set():
                break
            self.wake = anyio.Event()
        return ProgressSaid(
            run=run_progress(run), jobs=[stored_progress(job) for job in jobs], events=events, children=self.children,
            over=True,
        )  # fmt: skip


def run_progress(run: Run | RunView) -> RunProgress:
    row = run.row if isinstance(run, RunView) else run
    return RunProgress(
        id=run.id, no=run.no, workflow=run.workflow, status=run.status, status_reason=row.status_reason,
        created_at=row.created_at, stopped_at=row.stopped_at,
    )  # fmt: skip


def job_progress(job: Job) -> JobProgress:
    return JobProgress(
        id=job.id, no=job.no, key=job.key, status=job.status, status_reason=job.status_reason, size=job.size,
        tasks=job.tasks, counts=list(job.counts), running=job.running, skipped=job.skipped, started_at=job.started_at,
        stopped_at=job.stopped_at,
    )  # fmt: skip


def stored_progress(job: JobView) -> JobProgress:
    row = job.row
    return JobProgress(
        id=job.id, no=job.no, key=job.name, status=job.status, status_reason=row.status_reason, size=job.size,
        tasks=job.tasks, counts=[job.counts.get(status, 0) for status in Status], running=0, skipped=row.skipped,
        started_at=row.started_at, stopped_at=row.stopped_at,
    )  # fmt: skip
