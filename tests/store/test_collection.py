"""Dropping what ended long ago, all of it and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from flowbatch.model.ids import ALONE, Millis
from flowbatch.model.rows import ImageRow, Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.store import collection
from flowbatch.store.health import Health
from flowbatch.store.reader import Reader
from flowbatch.store.writer import SqliteStore
from tests.store import rows
from tests.store.opening import a_store, inside, query
from tests.store.rows import T0, attempt_row, job_row, run_row, spec, submission, task_row

EVERYTHING = """
SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM run_plan), (SELECT count(*) FROM job),
  (SELECT count(*) FROM job_plan), (SELECT count(*) FROM task), (SELECT count(*) FROM attempt),
  (SELECT count(*) FROM event), (SELECT count(*) FROM image), (SELECT count(*) FROM job_token)
"""


async def a_run(store: SqliteStore, no: int, stopped_at: int | None) -> None:
    """An array of 20, all of it run, with a child's event between those of others."""
    job = no * 100
    await store.commit(submission(no, replace(spec("render", 20), tokens=(("licence", 1),))))
    ended = stopped_at is not None
    status = Status.SUCCEEDED if ended else Status.RUNNING
    await store.commit(Writes(
        tasks={(job, i): task_row(job, i, status) for i in range(20)},
        attempts=[attempt_row(job, 3)],
        images=[ImageRow(job, 3, 1, ALONE, "sha256:1")],
        events=[rows.child_event(no, job, i) for i in range(20)],
    ))  # fmt: skip
    if ended:
        await store.commit(Writes(
            runs={no: run_row(no, RunStatus.SUCCEEDED, stopped_at=Millis(stopped_at or 0))},
            jobs={job: job_row(job, no, Status.SUCCEEDED)},
            events=[rows.job_event(no, job, Status.SUCCEEDED), rows.run_event(no, RunStatus.SUCCEEDED)],
        ))  # fmt: skip


async def test_ended_runs_go_with_all_that_is_theirs(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.load()
        for no, stopped_at in ((1, T0 + 10), (2, None), (3, T0 + 30), (4, T0 + 5)):
            await a_run(store, no, stopped_at)
        assert await store.collect(T0) == 0
        assert await store.collect(Millis(T0 + 20)) == 2
        assert query(tmp_path, "SELECT no FROM run") == [(2,), (3,)]
        assert query(tmp_path, EVERYTHING) == [(2, 2, 2, 2, 40, 2, 22 + 24, 2, 2)]
        assert query(tmp_path, "SELECT DISTINCT run FROM event") == [(2,), (3,)]
        assert [row.no for row, _ in (await store.load()).runs] == [2]
        assert await store.collect(Millis(T0 + 31)) == 1
    with Health(tmp_path / "flowbatch.db") as health:
        assert (health.violations(), health.damage()) == ([], [])


async def test_a_crash_on_the_way_leaves_a_run_that_is_hidden_and_collected_next(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.load()
        await a_run(store, 1, T0 + 10)
        steps = await inside(store, lambda db: collection.steps(db, 1))
        for done in range(1, len(steps)):
            await inside(store, steps[done - 1])
            with Reader(tmp_path / "flowbatch.db") as reader:
                assert reader.runs() == []
            with Health(tmp_path / "flowbatch.db") as health:
                assert health.violations() == []
        assert await store.collect(Millis(T0 + 11)) == 1
        assert query(tmp_path, EVERYTHING) == [(0, 0, 0, 0, 0, 0, 0, 0, 0)]


async def test_a_call_takes_a_bounded_number_of_runs(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        for no in range(1, collection.RUNS_A_CALL + 3):
            await store.commit(submission(no, spec()))
            await store.commit(Writes(
                runs={no: run_row(no, RunStatus.FAILED)}, jobs={no * 100: job_row(no * 100, no, Status.FAILED)}
            ))  # fmt: skip
        counts = [await store.collect(Millis(T0 + 5000)) for _ in range(3)]
    assert counts == [collection.RUNS_A_CALL, 2, 0]


@pytest.mark.slow
async def test_space_goes_back_to_the_disk(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=10_000, items=tuple(f"some/path/{i}.exr" for i in range(10_000)))))
        await store.commit(Writes(tasks={(100, i): task_row(100, i, Status.FAILED) for i in range(10_000)}))
        await store.commit(Writes(
            runs={1: run_row(1, RunStatus.FAILED)}, jobs={100: job_row(100, 1, Status.FAILED)},
        ))  # fmt: skip
        await inside(store, lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        full = (tmp_path / "flowbatch.db").stat().st_size
        assert await store.collect(Millis(T0 + 5000)) == 1
        await inside(store, lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        assert (tmp_path / "flowbatch.db").stat().st_size < full / 4
