"""Three-word builders of rows, and strategies that make any of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flowbatch.model.ending import Halt
from flowbatch.model.events import EventKind, EventRow
from flowbatch.model.ids import JobId, Millis, RunId
from flowbatch.model.jobspec import JobPlan, JobSpec, RunPlan, Stage
from flowbatch.model.resources import Resources
from flowbatch.model.rows import AttemptRow, JobRow, RunRow, TaskRow, Writes
from flowbatch.model.status import RunStatus, Status

T0 = Millis(1_700_000_000_000)


def run_id(no: int) -> RunId:
    return RunId(f"{no:08x}-0000-4000-8000-000000000000")


def job_id(no: int) -> JobId:
    return JobId(f"{no:08x}-0000-4000-9000-000000000000")


def run_row(no: int = 1, status: RunStatus = RunStatus.RUNNING, **changed: Any) -> RunRow:
    stopped_at = None if status is RunStatus.RUNNING else Millis(T0 + 1000)
    row = RunRow(no, run_id(no), status, Stage.MAIN, Halt.NONE, False, 0, None, T0, None, None, stopped_at)
    return row._replace(**changed)


def job_row(no: int = 1, run: int | None = 1, status: Status = Status.PENDING, **changed: Any) -> JobRow:
    stopped_at = Millis(T0 + 900) if status.terminal else None
    row = JobRow(
        no, job_id(no), run, Stage.MAIN, status, Status.PENDING, None, None, 0, False, False, False, None, T0, None,
        stopped_at,
    )  # fmt: skip
    return row._replace(**changed)


def task_row(job: int = 1, idx: int = 0, status: Status = Status.RUNNING, **changed: Any) -> TaskRow:
    ended = status.terminal
    row = TaskRow(
        job, idx, status, 1, 0, 0, 0, "default", 1, Halt.NONE, None, Millis(T0 + 100), Millis(T0 + 200) if ended else None,
        (0 if status is Status.SUCCEEDED else 3) if ended else None, None,
        "Essential container in task exited" if ended else None,
    )  # fmt: skip
    return row._replace(**changed)


def attempt_row(job: int = 1, idx: int = 0, attempt: int = 1, **changed: Any) -> AttemptRow:
    row = AttemptRow(job, idx, attempt, "default", T0, Millis(T0 + 50), 1, None, "Essential container in task exited")
    return row._replace(**changed)


def run_event(run: int = 1, status: RunStatus = RunStatus.RUNNING) -> EventRow:
    return EventRow(T0, EventKind.RUN, run, None, None, None, status, None, None, None)


def job_event(run: int = 1, job: int = 1, status: Status = Status.PENDING) -> EventRow:
    return EventRow(T0, EventKind.JOB, run, job, None, None, status, None, None, None)


def child_event(run: int = 1, job: int = 1, idx: int = 0, status: Status = Status.SUCCEEDED) -> EventRow:
    return EventRow(T0, EventKind.CHILD, run, job, idx, 1, status, 0, None, "Essential container in task exited")


def spec(key: str = "render", size: int | None = None, **changed: Any) -> JobSpec:
    return JobSpec(key, "default", ("true",), Resources(1000), size, **changed)


def submission(run: int = 1, *specs: JobSpec, first_job: int | None = None, workflow: str = "film") -> Writes:
    """A run with its jobs, as the turn of its submission writes it; jobs are numbered from `first_job` (run * 100)."""
    first = run * 100 if first_job is None else first_job
    plans = [JobPlan(job_id(first + i), each) for i, each in enumerate(specs)]
    plan = RunPlan(run_id(run), workflow, tuple(plans), file=f"/w/{workflow}.yaml", source="jobs: {}\n")
    return Writes(
        new_runs=[(run, plan)],
        new_jobs=[(first + i, run, each) for i, each in enumerate(plans)],
        runs={run: run_row(run)},
        jobs={first + i: job_row(first + i, run) for i in range(len(plans))},
        events=[run_event(run), *(job_event(run, first + i) for i in range(len(plans)))],
    )


# --- anything

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
optional_words = st.none() | words
counts = st.integers(0, 2**31)
times = st.integers(0, 2**53).map(Millis)
exits = st.none() | st.integers(0, 255)


@st.composite
def any_run(draw: st.DrawFn, no: int) -> RunRow:
    stage = draw(st.sampled_from(Stage))
    return RunRow(
        no, run_id(no), RunStatus.RUNNING, stage, draw(st.sampled_from([Halt.NONE, Halt.TERMINATE])), draw(st.booleans()),
        draw(counts), draw(optional_words), draw(times), draw(st.none() | times),
        draw(times) if stage is Stage.FINALLY else None, None,
    )  # fmt: skip


@st.composite
def any_job(draw: st.DrawFn, no: int, run: int) -> JobRow:
    status = draw(st.sampled_from(Status))
    rest = draw(st.sampled_from([each for each in Status if not each.live]))
    return JobRow(
        no, job_id(no), run, draw(st.sampled_from(Stage)), status, rest, draw(optional_words),
        draw(times) if rest.terminal else None, draw(counts), draw(st.booleans()), draw(st.booleans()),
        draw(st.booleans()), draw(optional_words), draw(times), draw(st.none() | times),
        draw(times) if status.terminal else None,
    )  # fmt: skip


@st.composite
def any_task(draw: st.DrawFn, job: int) -> TaskRow:
    status = draw(st.sampled_from(Status))
    return TaskRow(
        job, draw(st.integers(0, 9999)), status, draw(st.integers(1, 500)), draw(counts), draw(counts), draw(counts),
        draw(words) if status.live else draw(optional_words), draw(counts), draw(st.sampled_from(Halt)),
        draw(st.none() | times), draw(st.none() | times), draw(times) if status.terminal else None, draw(exits),
        draw(optional_words), draw(optional_words), draw(st.booleans()), draw(optional_words), draw(st.booleans()),
    )  # fmt: skip


@st.composite
def any_attempt(draw: st.DrawFn, job: int) -> AttemptRow:
    return AttemptRow(
        job, draw(st.integers(0, 9999)), draw(st.integers(1, 500)), draw(optional_words), draw(st.none() | times),
        draw(times), draw(exits), draw(optional_words), draw(optional_words), draw(st.booleans()),
    )  # fmt: skip


@st.composite
def any_event(draw: st.DrawFn) -> EventRow:
    numbers = st.none() | counts
    return EventRow(
        draw(times), draw(st.sampled_from(EventKind)), draw(numbers), draw(numbers), draw(numbers), draw(numbers),
        draw(st.integers(0, 6)), draw(exits), draw(optional_words), draw(optional_words),
    )  # fmt: skip
