"""`retry` of a run that has ended: it comes back from the store, where another's retry may be on its way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio

from flowbatch.model.ids import JobId
from flowbatch.model.stimuli import Retry, Target
from tests.engine.rig import Rig, planned

TEXT = """
environments: {here: {backend: fake, vcpus: 3}}
jobs:
  fails: {command: [pretend], x-fake: {exit: 1}}
  after: {command: [pretend], needs: fails}
"""


async def test_two_at_once_are_two_generations(tmp_path: Path) -> None:
    """Each fails again in its own turn, so that the run has left the memory before the other comes: what that finds in the store must
    be what the first has made of it."""
    rig = Rig(tmp_path, planned(TEXT))
    after = next(job.id for job in rig.plan.jobs if job.spec.key == "after")
    async with rig.engine() as engine:
        await rig.to_the_end(engine)
        errors: list[str | None] = []

        async def retry() -> None:
            answer = await engine.ask(lambda ticket: Retry(ticket, Target(rig.plan.id, JobId(after))))
            errors.append(answer.error)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(retry)
    assert errors == [None] * 3
    with sqlite3.connect(tmp_path / "flowbatch.db") as db:
        assert db.execute("SELECT generation FROM job WHERE id = ?", (after,)).fetchall() == [(3,)]
    db.close()
