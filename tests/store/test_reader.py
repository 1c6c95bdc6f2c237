"""What people are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbatch.errors import InputError, StoreError
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.store.reader import Reader
from flowbatch.store.results import FailureGroup
from tests.store import rows
from tests.store.opening import a_store, inside, query
from tests.store.rows import T0, attempt_row, job_id, job_row, run_id, run_row, spec, submission, task_row

APP = "Essential container in task exited"


async def filled(folder: Path) -> Path:
    """Run 1 (film): a single, an array of 2,500 with some children gone on, an empty array. Runs 2 and 3 (census) follow."""
    async with a_store(folder) as store:
        await store.load()
        await store.commit(submission(1, spec("fetch"), spec("render", 2500), spec("none", 0)))
        await store.commit(submission(2, spec("count", 4), workflow="census"))
        await store.commit(submission(3, spec("count", 4), workflow="census"))
        failed = [task_row(101, i, Status.FAILED, attempt=3, exit_code=i % 2) for i in (5, 6, 7)]
        await store.commit(Writes(
            jobs={
                100: job_row(100, 1, Status.SUCCEEDED),
                200: job_row(200, 2, Status.FAILED, rest=Status.FAILED, rest_reason="Dependent Job failed", rest_at=T0),
            },
            runs={2: run_row(2, RunStatus.FAILED)},
            tasks={
                (100, 0): task_row(100, 0, Status.SUCCEEDED, attempt=2),
                **{(101, row.idx): row for row in failed},
                (101, 1500): task_row(101, 1500, Status.RUNNING),
                (200, 1): task_row(200, 1, Status.SUCCEEDED),
            },
            attempts=[attempt_row(100, 0, 1), attempt_row(101, 5, 1), attempt_row(101, 5, 2)],
            events=[
                rows.job_event(1, 100, Status.SUCCEEDED), rows.child_event(1, 101, 5, Status.FAILED),
                rows.job_event(2, 200, Status.FAILED), rows.run_event(2, RunStatus.FAILED),
                rows.child_event(1, 101, 6, Status.FAILED),
            ],
        ))  # fmt: skip
    return folder / "flowbatch.db"


async def test_runs_the_newest_first_in_pages(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        first = reader.runs(limit=2)
        assert [(run.no, run.id, run.workflow) for run in first] == [(3, run_id(3), "census"), (2, run_id(2), "census")]
        assert [run.no for run in reader.runs(limit=2, before=first[-1].no)] == [1]
        assert [run.no for run in reader.open_runs()] == [1, 3]
        assert reader.has_run(run_id(2))
        assert not reader.has_run("2")
        assert reader.ended_before(Millis(T0 + 1001)) == 1
        assert reader.ended_before(T0) == 0


async def test_jobs_are_counted_with_those_that_rest(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        fetch, render, none = reader.jobs(reader.run("film"))
        assert (fetch.name, fetch.size, fetch.status, fetch.counts) == (
            "fetch", None, Status.SUCCEEDED, {Status.SUCCEEDED: 1},
        )  # fmt: skip
        assert list(render.counts.items()) == [(Status.PENDING, 2496), (Status.RUNNING, 1), (Status.FAILED, 3)]
        assert (none.size, none.counts) == (0, {})
        assert reader.job(job_id(101)) == render
        assert reader.job("nobody") is None


async def test_tasks_are_all_there_in_order(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        fetch, render, none = reader.jobs(reader.run("film"))
        everything = list(reader.tasks(render))
        assert [task.index for task in everything] == list(range(2500))
        assert (everything[3].id, everything[3].status) == (f"{job_id(101)}:3", Status.PENDING)
        assert everything[3].attempts == 0
        assert (everything[5].status, everything[5].exit_code, everything[5].attempts) == (Status.FAILED, 1, 3)
        assert [task.index for task in reader.tasks(render, status=Status.FAILED)] == [5, 6, 7]
        assert [task.index for task in reader.tasks(render, [(4, 6), (2499, 9999)])] == [4, 5, 6, 2499]
        assert next(reader.tasks(render, status=Status.SUCCEEDED), None) is None
        assert list(reader.tasks(none)) == []
        [only] = reader.tasks(fetch)
        assert (only.id, only.index, only.status) == (job_id(100), None, Status.SUCCEEDED)
        assert reader.task(fetch) == only
        assert reader.task(render, 7) == everything[7]


async def test_resting_tasks_say_why_they_failed(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        [count] = reader.jobs(reader.run(run_id(2)))
        task = reader.task(count, 0)
        assert (task.status, task.status_reason, task.stopped_at) == (Status.FAILED, "Dependent Job failed", T0)


async def test_attempts_end_with_the_tasks_own(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    async with a_store(tmp_path) as store:  # 1500 waits for its second attempt, 1501 has been placed once
        waits = task_row(101, 1500, Status.RUNNABLE, environment=None, started_at=None, not_before=Millis(T0 + 9))
        starting = task_row(101, 1501, Status.STARTING, started_at=None)
        await store.commit(Writes(
            tasks={(101, 1500): waits, (101, 1501): starting}, attempts=[attempt_row(101, 1500, 1)]
        ))  # fmt: skip
    with Reader(path) as reader:
        fetch, render, _ = reader.jobs(reader.run("film"))
        assert [each.key for each in reader.attempts(fetch)] == [AttemptKey(job_id(100), 0, n) for n in (1, 2)]
        assert [(each.key.attempt, each.exit_code) for each in reader.attempts(render, 5)] == [(1, 1), (2, 1), (3, 1)]
        assert [(each.key.attempt, each.stopped_at) for each in reader.attempts(render, 1500)] == [(1, T0 + 50)]
        assert [(each.key.attempt, each.stopped_at) for each in reader.attempts(render, 1501)] == [(1, None)]
        assert reader.attempts(render, 9) == []
        assert reader.task(render, 1500).not_before == T0 + 9


async def test_failures_are_grouped_by_how(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        assert reader.failures(reader.run("film")) == [
            FailureGroup(job_id(101), "render", 2500, 1, None, APP, 2, AttemptKey(job_id(101), 5, 3)),
            FailureGroup(job_id(101), "render", 2500, 0, None, APP, 1, AttemptKey(job_id(101), 6, 3)),
        ]
        assert reader.failures(reader.run(run_id(2))) == [
            FailureGroup(job_id(200), "count", 4, None, None, "Dependent Job failed", 3, None)
        ]


async def test_a_plan_is_whole_again(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        [(_, plan)] = submission(1, spec("fetch"), spec("render", 2500), spec("none", 0)).new_runs
        assert reader.plan(reader.run("film")) == plan
        assert reader.source(reader.run("film")) == plan.source
        assert reader.job_plan(reader.jobs(reader.run("film"))[1]) == plan.jobs[1]


async def test_events_in_order_and_of_one_run(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        everything = reader.events()
        assert [event.seq for event in everything] == list(range(1, reader.last_seq() + 1))
        assert reader.events(after=5, limit=2) == everything[5:7]
        film = [event for event in everything if event.row.run == 1]
        assert reader.events(run=reader.run("film")) == film
        assert reader.events(run=reader.run("film"), after=film[2].seq, limit=1) == film[3:4]
        assert [event.row.run for event in reader.events(run=reader.run(run_id(2)))] == [2, 2, 2, 2]
        assert (film[-1].run_id, film[-1].job_id, film[-1].job, film[-1].row.idx) == (
            run_id(1),
            job_id(101),
            "render",
            6,
        )


@pytest.mark.parametrize(
    ("text", "run", "job", "indices", "failed", "attempt", "index"),
    [
        ("last", 3, None, None, False, None, None),
        ("census", 3, None, None, False, None, None),
        ("film", 1, None, None, False, None, None),
        ("00000002", 2, None, None, False, None, None),
        (run_id(2), 2, None, None, False, None, None),
        ("film/fetch", 1, 100, None, False, None, 0),
        ("film/fetch#1", 1, 100, None, False, 1, 0),
        ("film/render", 1, 101, None, False, None, None),
        ("film/render:7", 1, 101, ((7, 7),), False, None, 7),
        ("film/render:7-8", 1, 101, ((7, 8),), False, None, None),
        ("film/render:failed", 1, 101, None, True, None, None),
        ("film/render:5#2", 1, 101, ((5, 5),), False, 2, 5),
        (job_id(101), 1, 101, None, False, None, None),
        (f"{job_id(101)}:5", 1, 101, ((5, 5),), False, None, 5),
        (f"film/{job_id(101)}", 1, 101, None, False, None, None),
    ],
)
async def test_addresses_find(
    tmp_path: Path, text: str, run: int, job: int | None, indices: object, failed: bool, attempt: int | None,
    index: int | None,
) -> None:  # fmt: skip
    with Reader(await filled(tmp_path)) as reader:
        found = reader.resolve(text)
    assert found.run_id == run_id(run)
    assert found.job_id == (None if job is None else job_id(job))
    assert (found.indices, found.failed, found.attempt, found.index) == (indices, failed, attempt, index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flim", r"no run has this id or workflow \(did you mean 'film'\?\)"),
        ("zzz", r"no run has this id or workflow$"),
        ("0000", r"several runs begin so: 00000001-\S+, 00000002-\S+, 00000003-\S+; give more"),
        ("film/rendr", r"run \S+ \(film\) has no job 'rendr' \(did you mean 'render'\?\)"),
        ("film/fetch:0", "fetch is a single job"),
        ("film/fetch:failed", "fetch is a single job"),
        ("film/render:2500", "render has no child 2500; its indices are 0 to 2499"),
        ("film/render:5-9999", "render has no child 9999"),
        ("film/none:0", "its indices are none"),
        ("film/render#1", "an attempt is that of one child: render:INDEX#1"),
        ("film/render:1-2#1", "an attempt is that of one child"),
        (f"{job_id(999)}:1", "no job has this id"),
        (f"{job_id(101)}#1", "several nodes"),
    ],
)
async def test_addresses_that_mean_nothing_say_why(tmp_path: Path, text: str, message: str) -> None:
    with Reader(await filled(tmp_path)) as reader, pytest.raises(InputError, match=message):
        reader.resolve(text)


async def test_a_run_that_is_being_collected_shows_nowhere(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    async with a_store(tmp_path) as store:
        await inside(store, lambda db: db.execute("DELETE FROM run_plan WHERE run = 2"))
        assert await store.load_run(run_id(2)) is None
    with Reader(path) as reader:
        assert [run.no for run in reader.runs()] == [3, 1]
        assert not reader.has_run(run_id(2))
        assert reader.ended_before(Millis(2**50)) == 0
        with pytest.raises(InputError):
            reader.run(run_id(2))


def test_an_unborn_store_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "flowbatch.db"
    with pytest.raises(InputError, match="there is no store here"):
        Reader(path)
    path.touch()
    with Reader(path) as reader:
        assert not reader.has_run(run_id(1))
        assert reader.runs() == []
        with pytest.raises(InputError, match="nothing has run here yet"):
            reader.run("last")
    assert path.read_bytes() == b""


async def test_what_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader:
        reader._deadline_s = 0.01
        with pytest.raises(StoreError, match=r"no answer within 0\.01 s"):
            reader.rows("WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n")
        assert len(reader.runs()) == 3


async def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    with Reader(await filled(tmp_path)) as reader, pytest.raises(StoreError, match="readonly"):
        reader.rows("DELETE FROM run")


async def test_a_store_of_an_older_version_is_left_to_the_engine(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    query(tmp_path, "PRAGMA user_version = 0")
    with pytest.raises(StoreError, match="older flowbatch"):
        Reader(path)


async def test_reading_goes_on_while_writing(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec("render", 1000)))
        with Reader(tmp_path / "flowbatch.db") as reader:
            with reader.snapshot():
                [before] = reader.jobs(reader.run("film"))
                await store.commit(Writes(tasks={(100, i): task_row(100, i) for i in range(600)}))
                [same] = reader.jobs(reader.run("film"))
            [after] = reader.jobs(reader.run("film"))
    assert before == same
    assert before.counts == {Status.PENDING: 1000}
    assert after.counts == {Status.PENDING: 400, Status.RUNNING: 600}
