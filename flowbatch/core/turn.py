"""One turn in the making: what has changed so far, and what follows from it but is not worked through yet."""

from __future__ import annotations

from collections import deque

from msgspec import Struct, field
from msgspec.json import encode

from flowbatch.core.members import Seat
from flowbatch.core.queues import QueueState
from flowbatch.core.state import EnvironmentState, Job, Live, Odd, Run, State
from flowbatch.core.tokens import TokenState
from flowbatch.model.effects import Answer, Effect
from flowbatch.model.ending import Halt, Verdict
from flowbatch.model.events import ChildEvents, EventKind, EventRow
from flowbatch.model.ids import AttemptKey, Millis, RunId
from flowbatch.model.jobspec import JobPlan, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import AttemptRow, ImageRow, JobRow, MemberRow, RunRow, TaskRow, Writes
from flowbatch.model.status import FAILED, RUNNABLE, SUCCEEDED, RunStatus, Status

FRESH = Odd()


class Turn(Struct, eq=False):
    """`out` of the handlers. Rows of tasks are written as they change, those of jobs and runs once at the end."""

    state: State
    now: Millis
    writes: Writes = field(default_factory=Writes)
    effects: list[Effect] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)  # changed
    runs: dict[int, Run] = field(default_factory=dict)  # changed
    settled_children: deque[tuple[Job, int, int]] = field(default_factory=deque)  # [lo, hi) became terminal
    settled_jobs: deque[Job] = field(default_factory=deque)
    settled_runs: deque[Run] = field(default_factory=deque)
    reloaded: list[RunId] = field(default_factory=list)
    shared: dict[str, QueueState] = field(default_factory=dict)  # fair-share queues whose usage may have changed
    tokens: dict[str, TokenState] = field(default_factory=dict)  # changed

    # --- rows

    def new_run(self, run: Run, plan: RunPlan) -> None:
        self.writes.new_runs.append((run.no, plan))
        self.runs[run.no] = run

    def new_job(self, job: Job, plan: JobPlan) -> None:
        self.writes.new_jobs.append((job.no, None if job.run is None else job.run.no, plan))
        self.jobs[job.no] = job

    def live_row(self, live: Live) -> None:
        """The row of a task that holds capacity."""
        job, idx = live.job, live.key.idx
        odd = job.odd.get(idx, FRESH)
        self.writes.tasks[job.no, idx] = TaskRow(
            job.no, idx, live.status, live.key.attempt, odd.base, odd.lost, odd.memory_mib, live.environment.spec.name,
            live.life, live.halt, None, live.started_at, None, None, None, live.halt_reason, False,
            None if live.node is None else live.node.name, odd.cancelled,
        )  # fmt: skip

    def ended_row(self, live: Live, status: Status, verdict: Verdict, stopped_at: Millis) -> None:
        """The row of a task whose attempt has ended and was the last."""
        job, idx = live.job, live.key.idx
        odd = job.odd.get(idx, FRESH)
        self.writes.tasks[job.no, idx] = TaskRow(
            job.no, idx, status, live.key.attempt, odd.base, odd.lost, odd.memory_mib, live.environment.spec.name,
            live.life, live.halt, None, live.started_at, stopped_at, verdict.exit_code, verdict.reason,
            verdict.status_reason, verdict.truncated, None if live.node is None else live.node.name, odd.cancelled,
        )  # fmt: skip

    def waiting_row(self, job: Job, idx: int, status: Status, status_reason: str | None = None) -> None:
        """The row of a task that holds nothing: it waits, or it ended without (a further) attempt."""
        odd = job.odd.get(idx, FRESH)
        stopped_at = self.now if status.terminal else None
        self.writes.tasks[job.no, idx] = TaskRow(
            job.no, idx, status, job.attempts[idx], odd.base, odd.lost, odd.memory_mib, None, self.state.life, Halt.NONE,
            odd.not_before, None, stopped_at, None, None, status_reason, False, None, odd.cancelled,
        )  # fmt: skip

    def past_attempt(self, live: Live, verdict: Verdict, stopped_at: Millis) -> None:
        self.writes.attempts.append(
            AttemptRow(
                live.job.no, live.key.idx, live.key.attempt, live.environment.spec.name, live.started_at, stopped_at,
                verdict.exit_code, verdict.reason, verdict.status_reason, verdict.truncated,
            )
        )  # fmt: skip

    def member_row(self, live: Live, member: int, seat: Seat) -> None:
        _, idx, attempt, _ = live.key
        verdict = seat.verdict
        end = (None, None, None, None, False) if verdict is None else (
            verdict.end, verdict.exit_code, verdict.reason, verdict.status_reason, verdict.truncated
        )  # fmt: skip
        self.writes.members[live.job.no, idx, attempt, member] = MemberRow(
            live.job.no, idx, attempt, member, seat.status, seat.life, seat.asked, seat.address, seat.due_at,
            seat.started_at, seat.stopped_at, *end,
        )  # fmt: skip

    def image_row(self, live: Live, key: AttemptKey, image: str) -> None:
        if image:
            self.writes.images.append(ImageRow(live.job.no, key.idx, key.attempt, key.member, image))

    def touch(self, job: Job) -> None:
        self.jobs[job.no] = job

    def touch_run(self, run: Run) -> None:
        self.runs[run.no] = run

    def environment_row(self, environment: EnvironmentState) -> None:
        """Of the engine's own; those of a run are in its plan and do not change."""
        self.writes.environments[environment.name] = environment.row()

    def queue_row(self, queue: QueueState) -> None:
        self.writes.queues[queue.spec.name] = queue.row()

    def share_rows(self, queue: QueueState) -> None:
        """The usage of its shares is written at the end of the turn."""
        self.shared[queue.spec.name] = queue

    def answer(self, ticket: int, error: str | None = None, value: object = None) -> None:
        self.effects.append(Answer(ticket, error, value))

    # --- events

    def run_event(self, run: Run) -> None:
        self.writes.events.append(
            EventRow(
                self.now, EventKind.RUN, run.no, None, None, None, run.status, None, None, run.status_reason, run_detail(run)
            )
        )  # fmt: skip

    def job_event(self, job: Job, verdict: Verdict | None = None, attempt: int | None = None) -> None:
        """A single, or an array's parent, has a new status."""
        self.writes.events.append(
            EventRow(
                self.now, EventKind.JOB, None if job.run is None else job.run.no, job.no, None, attempt, job.status,
                None if verdict is None else verdict.exit_code, None if verdict is None else verdict.reason,
                job.status_reason, job_detail(job),
            )
        )  # fmt: skip

    def children_logged(self, job: Job) -> ChildEvents:
        """Asked for by the settings, or by a sink of the run."""
        return self.state.child_events if job.run is None else job.run.child_events

    def child_event(
        self, job: Job, idx: int, status: Status, verdict: Verdict | None, reason: str | None,
        started_at: Millis | None = None,
    ) -> None:  # fmt: skip
        """Only where someone subscribes to children. That resting children became RUNNABLE together is not told a million times:
        the next thing told of each is its STARTING, or its end."""
        wanted = self.children_logged(job)
        if wanted is ChildEvents.ALL or (wanted is ChildEvents.ENDS and status >= SUCCEEDED):
            self.writes.events.append(
                EventRow(
                    self.now, EventKind.CHILD, None if job.run is None else job.run.no, job.no, idx,
                    job.attempts[idx] or None, status, None if verdict is None else verdict.exit_code,
                    None if verdict is None else verdict.reason, reason,
                    None if started_at is None else f'{{"started_at": {started_at}}}',
                )
            )  # fmt: skip

    def node_event(self, live: Live, node: int, status: Status, seat: Seat) -> None:
        """A node of a multi-node parallel job has a new status: that of the member that stands for it."""
        job, over = live.job, status.terminal
        verdict, began = (seat.verdict, seat.started_at) if over else (None, None)
        self.writes.events.append(
            EventRow(
                self.now, EventKind.NODE, None if job.run is None else job.run.no, job.no, node, live.key.attempt,
                status, None if verdict is None else verdict.exit_code, None if verdict is None else verdict.reason,
                None if verdict is None else verdict.status_reason, None if began is None else f'{{"started_at": {began}}}',
            )
        )  # fmt: skip

    def blocked_event(self, job: Job) -> None:
        """A job at the head of its queue can never start as the places of that are now; of an array its parent."""
        self.writes.events.append(
            EventRow(
                self.now, EventKind.QUEUE, None if job.run is None else job.run.no, job.no, None, None, RUNNABLE,
                None, None, job.blocked,
            )
        )  # fmt: skip

    # --- the end of the turn

    def outcome(self) -> Outcome:
        self.writes.jobs = {no: job_row(job) for no, job in self.jobs.items()}
        for name, queue in self.shared.items():
            if queue.fair is not None:
                self.writes.usage.update(queue.fair.rows(name))
        self.writes.runs = {no: run_row(run) for no, run in self.runs.items()}
        for name, token in self.tokens.items():
            self.writes.tokens[name] = token.row()
        return Outcome(self.state.turn, self.writes, self.effects)


def run_detail(run: Run) -> str | None:
    """How many of its jobs ended how, once it is over."""
    if run.status is RunStatus.RUNNING:
        return None
    return encode({"jobs": {"SUCCEEDED": len(run.jobs) - run.failed, "FAILED": run.failed}}).decode()


def job_detail(job: Job) -> str | None:
    """Of an end: since when it ran, and of an array's parent how its children ended."""
    if not job.status.terminal:
        return None
    more: dict[str, object] = {} if job.started_at is None else {"started_at": job.started_at}
    if job.array:
        ends = (SUCCEEDED, FAILED)
        more["children"] = {status.name: job.counts[status] for status in ends}
    return encode(more).decode() if more else None


def job_row(job: Job) -> JobRow:
    return JobRow(
        job.no, job.id, None if job.run is None else job.run.no, job.stage, job.status, job.rest, job.rest_reason,
        job.rest_at, job.generation, job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at,
        job.started_at, job.stopped_at,
    )  # fmt: skip


def run_row(run: Run) -> RunRow:
    return RunRow(
        run.no, run.plan.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason,
        run.created_at, run.deadline_at, run.finally_at, run.stopped_at,
    )  # fmt: skip
