"""The library's way to the engine: submissions with their shelf, and what became of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from flowbatch.engine.loop import Engine
from flowbatch.errors import InputError
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import RunPlan
from flowbatch.model.rows import ShelfRow
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import Shelve, SubmitRun
from flowbatch.store.reader import Reader

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan


class EngineDesk:
    """`pin`: the plan as the engine takes it, with every place that it may run in. `database`: the store, to read."""

    def __init__(self, engine: Engine, database: Path, pin: Callable[[Plan], RunPlan]) -> None:
        self._engine = engine
        self._database = database
        self._pin = pin

    async def submit(self, plan: Plan, shelf: ShelfRow) -> None:
        """The run and the row, in one transaction. Raises InputError where the engine refuses the run."""
        pinned = self._pin(plan)
        answer = await self._engine.ask(lambda ticket: SubmitRun(ticket, pinned, shelf))
        if answer.error is not None:
            raise InputError(answer.error)

    async def shelve(self, shelf: ShelfRow) -> None:
        await self._engine.ask(lambda ticket: Shelve(ticket, shelf))

    def is_open(self, name: str) -> bool:
        """Whether a run that this file made has not ended. Asked when a time has come, and there are few open runs."""
        return any(run.plan.origin == name for run in self._engine.machine.state.runs.values())

    async def result(self, run: RunId) -> tuple[RunStatus, dict[str, object]] | None:
        """How a run ended; None while it goes on."""
        if run in self._engine.machine.state.runs:
            return None
        return await anyio.to_thread.run_sync(self._read_result, run)

    def _read_result(self, run: RunId) -> tuple[RunStatus, dict[str, object]] | None:
        with Reader(self._database) as reader, reader.snapshot():
            view = reader.run(run)
            jobs = reader.jobs(view)
        if view.status is RunStatus.RUNNING:
            return None
        return view.status, {
            "run": view.id,
            "workflow": view.workflow,
            "status": view.status.name,
            "status_reason": view.row.status_reason,
            "created_at": view.row.created_at,
            "stopped_at": view.row.stopped_at,
            "jobs": {
                job.name: {
                    "id": job.id,
                    "status": job.status.name,
                    "status_reason": job.row.status_reason,
                    "counts": {status.name: count for status, count in job.counts.items()},
                }
                for job in jobs
            },
        }
