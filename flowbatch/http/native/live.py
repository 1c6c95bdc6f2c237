"""Turns of the engine, told to those who listen: what has changed of a run, and that there are new events.

Nothing here grows with a slow listener. A feed holds which jobs have changed, not how; events are read from the store behind a
cursor. What a turn costs here grows with what it changed, and is nothing where nobody listens. Memory is looked at between turns
alone: within one it is ahead of the disk, and what it says may never have been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from flowbatch.core.state import Job, Run
from flowbatch.engine.loop import Engine
from flowbatch.http.native.shapes import ChildProgress, EventSaid, JobProgress, ProgressSaid, RunProgress
from flowbatch.model.events import EventKind, EventRow
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
        self.closed = anyio.Event()
        self._engine = engine
        self._news = anyio.Event()
        self._by_run: dict[int, list[RunFeed]] = {}
        self._by_job: dict[int, list[RunFeed]] = {}
        self._waiting: list[RunFeed] = []  # for the end of a turn
        self._turned: anyio.Event | None = None  # wanted by who waits for the end of a turn
        engine.observe(self.on_turn)

    def close(self) -> None:
        """Every listener is sent away."""
        self.closing = True
        self.closed.set()
        self._wake()
        for feeds in self._by_run.values():
            for feed in feeds:
                feed.wake.set()

    def on_turn(self, outcome: Outcome) -> None:
        writes = outcome.writes
        if self._turned is not None:
            self._turned.set()
            self._turned = None
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
        waiting, self._waiting = self._waiting, []
        for feed in waiting:
            feed.take_picture()

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

    def picture(self, feed: RunFeed) -> None:
        """Now, or as soon as the turn that is under way is durable."""
        if self._engine.in_turn:
            self._waiting.append(feed)
        else:
            feed.take_picture()

    async def open_feed(self, run: RunView) -> RunFeed:
        """Of a run that is open or has ended; to be closed. One that ends in this very turn has left memory, and the store not yet."""
        while True:
            run = self.reader.run(run.id)
            made = self._feed(run)
            if made.run is not None or run.status is not RunStatus.RUNNING:
                return made
            self._turned = self._turned or anyio.Event()
            await self._turned.wait()

    def _feed(self, run: RunView) -> RunFeed:
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
    shut: set[int] = field(default_factory=set)  # jobs that have ended, as far as was told
    said: ProgressSaid | None = None  # the picture, once it is taken
    pictured: anyio.Event = field(default_factory=anyio.Event)
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

    async def first(self) -> ProgressSaid:
        """All there is. Of a run that has ended before, what happened."""
        if self.run is None:
            return self.stored()
        self.changed = set(self.jobs)
        said = await self.next()
        for job in self.run.jobs:
            if job.array:
                self.tell_stored_children(job.id)
        said.children, self.children = [*said.children, *self.children], []
        return said

    async def next(self) -> ProgressSaid:
        """What has changed since the message before."""
        self.pictured = anyio.Event()
        self.live.picture(self)
        await self.pictured.wait()
        assert self.said is not None
        said, self.said = self.said, None
        self.waits = said.waits = self.live.hold_ups()
        said.events = self.events(said)
        return said

    def take_picture(self) -> None:
        assert self.run is not None
        self.wake = anyio.Event()
        children, self.children = self.children, []
        changed, self.changed = self.changed, set()
        self.shut.update(no for no in changed if self.jobs[no].status.terminal)
        self.said = ProgressSaid(
            run=run_progress(self.run),
            jobs=[job_progress(self.jobs[no]) for no in sorted(changed)],
            children=children,
            over=self.run.status is not RunStatus.RUNNING,
        )
        self.pictured.set()

    def events(self, said: ProgressSaid) -> list[EventSaid]:
        """Of the run and its jobs, behind those that were told. What the store knows beyond the picture comes with the next one, and
        so does the rest where there are very many."""
        reader = self.live.reader
        last = reader.last_seq()
        found = reader.events(after=self.cursor, run=self.view, limit=EVENTS_PAGE)
        self.cursor = last if len(found) < EVENTS_PAGE else found[-1].seq
        for at, event in enumerate(found):
            if self.is_ahead(event.row, said):
                self.cursor = event.seq - 1
                found = found[:at]
                break
        if self.cursor < last:
            self.wake.set()
            said.over = False
        return [EventSaid.of(each) for each in found if each.row.kind in TOLD]

    def is_ahead(self, row: EventRow, said: ProgressSaid) -> bool:
        """The end of something that has not ended in the picture."""
        if row.kind is EventKind.RUN:
            return row.status != RunStatus.RUNNING and said.run.status is RunStatus.RUNNING
        ended = row.kind is EventKind.JOB and Status(row.status).terminal
        return ended and row.job in self.jobs and row.job not in self.shut

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
        said = ProgressSaid(
            run=run_progress(run), jobs=[stored_progress(job) for job in jobs], children=self.children, over=False
        )
        while not said.over:
            said.over = True
            said.events += self.events(said)
        return said


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
