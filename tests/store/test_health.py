"""What `doctor` is told of the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.store import laws, migrate
from flowbatch.store.health import Health
from tests.store import rows
from tests.store.opening import a_store, query
from tests.store.rows import attempt_row, job_row, run_row, spec, submission, task_row


async def healthy(folder: Path) -> Path:
    async with a_store(folder) as store:
        await store.load()
        await store.commit(submission(1, spec("fetch"), spec("render", 4)))
        await store.commit(submission(2, spec("fetch")))
        await store.commit(Writes(
            jobs={100: job_row(100, 1, Status.RUNNING), 200: job_row(200, 2, Status.FAILED)},
            runs={2: run_row(2, RunStatus.FAILED)},
            tasks={(100, 0): task_row(100, 0), (101, 1): task_row(101, 1, Status.FAILED),
                   (200, 0): task_row(200, 0, Status.FAILED)},
            events=[rows.job_event(1, 100, status) for status in (Status.RUNNABLE, Status.STARTING, Status.RUNNING)]
            + [rows.job_event(2, 200, Status.FAILED), rows.run_event(2, RunStatus.FAILED)],
        ))  # fmt: skip
    return folder / "flowbatch.db"


async def test_figures(tmp_path: Path) -> None:
    with Health(await healthy(tmp_path)) as health:
        totals = health.totals()
        assert health.damage() == []
        assert health.violations() == []
    assert totals.size_bytes == (tmp_path / "flowbatch.db").stat().st_size
    assert (totals.version, totals.lives, totals.runs, totals.open_runs, totals.jobs, totals.events) == (
        migrate.latest(),
        1,
        2,
        1,
        3,
        10,
    )
    assert len(totals.instance) == 16


@pytest.mark.parametrize(
    ("sql", "law"),
    [
        ("UPDATE run SET status = 2, stopped_at = 1 WHERE no = 1", "an ended run has no open job"),
        ("UPDATE run SET status = 1 WHERE no = 2", "a run with a FAILED job is not SUCCEEDED"),
        ("UPDATE job SET status = 6, stopped_at = 1 WHERE no = 100", "an ended job has no open child"),
        ("UPDATE job SET status = 6, stopped_at = 1 WHERE no = 101", "no child of an ended job waits"),
        ("UPDATE job SET status = 2 WHERE no = 100", "a single's status is its task's"),
        ("UPDATE task SET idx = 4 WHERE job = 101", "every index lies within its job"),
        ("UPDATE task SET attempt = 2 WHERE job = 101", "attempts stay within their budget"),
        (
            "INSERT INTO attempt (job, idx, attempt, stopped_at) VALUES (101, 1, 2, 0)",
            "no past attempt is ahead of its task",
        ),
        (
            "INSERT INTO member (job, idx, attempt, member, status, life, asked, truncated) VALUES (101, 1, 1, 0, 3, 1, 0, 0)",
            "members end with their attempt",
        ),
        ("UPDATE task SET life = 2 WHERE job = 100", "every attempt was placed in a known life"),
        ("UPDATE event SET status = 0 WHERE run = 2 AND kind = 1", "a run is what its last event says"),
        ("UPDATE event SET status = 6 WHERE job = 101", "a job is what its last event says"),
        ("DELETE FROM event WHERE job = 100 AND status IN (2, 3)", "jobs went by legal edges alone"),
        ("DELETE FROM run WHERE no = 1", "what a row refers to is there"),
    ],
)
async def test_each_law_finds_what_breaks_it(tmp_path: Path, sql: str, law: str) -> None:
    path = await healthy(tmp_path)
    query(tmp_path, sql)
    with Health(path) as health:
        found = health.violations()
    assert law in {each.law for each in found}
    assert all(each.example for each in found)


def test_each_law_is_planted(tmp_path: Path) -> None:
    [mark] = [mark for mark in test_each_law_finds_what_breaks_it.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert {law for _, law in mark.args[1]} == set(laws.LAWS)


async def test_history_of_a_task_is_no_violation(tmp_path: Path) -> None:
    path = await healthy(tmp_path)
    async with a_store(tmp_path) as store:
        await store.commit(
            Writes(tasks={(101, 2): task_row(101, 2, attempt=2, base=1)}, attempts=[attempt_row(101, 2)])
        )
    with Health(path) as health:
        assert health.violations() == []
