"""The store of a dry run: whatever it keeps back, what it leaves is what a durable one would have."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowbatch.model.ids import Millis
from flowbatch.model.rows import Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.ports import Store
from flowbatch.store import gathering
from flowbatch.store.gathering import GatheringStore
from tests.store.opening import a_store, query
from tests.store.rows import T0, attempt_row, child_event, job_row, run_row, spec, submission, task_row

TABLES = ("run", "run_plan", "job", "job_plan", "task", "attempt", "event")


async def play(store: Store) -> None:
    await store.commit(submission(1, spec(size=40)))
    for index in range(40):
        await store.commit(Writes(tasks={(100, index): task_row(100, index, Status.STARTING)}))
        await store.commit(
            Writes(
                tasks={(100, index): task_row(100, index, Status.FAILED)},
                attempts=[attempt_row(100, index)] if index % 3 else [],
                events=[child_event(1, 100, index)],
            )
        )
    await store.commit(
        Writes(
            runs={1: run_row(1, generation=1)},
            tasks={(100, 0): task_row(100, 0, Status.STARTING, attempt=2)},
            reopened=[(100, 0, 3)],
        )
    )
    await store.commit(
        Writes(jobs={100: job_row(100, 1, Status.FAILED)}, runs={1: run_row(1, RunStatus.FAILED, generation=1)})
    )


@pytest.mark.parametrize("kept", [0, 7, 20_000])
async def test_in_the_end_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setattr(gathering, "ROWS_KEPT", kept)
    durable, gathered = tmp_path / "durable", tmp_path / "gathered"
    async with a_store(durable) as store:
        await store.load()
        await play(store)
    async with a_store(gathered) as store:
        keeping = GatheringStore(store)
        await keeping.load()
        await play(keeping)
        if kept == 20_000:  # up to where the reopened tasks had to be read, and nothing since
            assert query(gathered, "SELECT count(*), max(attempt) FROM task") == [(40, 1)]
        await keeping.close()
    for table in TABLES:
        order = "" if table == "event" else " ORDER BY 1, 2, 3"
        sql = f"SELECT * FROM {table}{order}"
        assert query(gathered, sql) == query(durable, sql) != [], table


async def test_what_is_read_is_written_first(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        keeping = GatheringStore(store)
        await keeping.load()
        await play(keeping)
        loaded = await keeping.load_run(run_row(1).id)
        assert loaded is not None
        assert ([row.idx for row in loaded.tasks], [len(each.indices) for each in loaded.plain]) == ([0], [39])
        assert await keeping.collect(Millis(T0 + 2000)) == 1
        assert query(tmp_path, "SELECT count(*) FROM run") == [(0,)]
