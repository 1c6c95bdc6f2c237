"""The library's way to the engine: submissions with their shelf, and what became of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import anyio.to_thread
from msgspec.structs import replace

from flowbatch.engine.loop import Engine
from flowbatch.errors import FlowbatchError, InputError
from flowbatch.model.access import AuditRow
from flowbatch.model.ids import RunId
from flowbatch.model.jobspec import RunPlan
from flowbatch.model.rows import ShelfRow
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import Audit, Audited, Shelve, SubmitRun
from flowbatch.store.reader import Reader

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan


class Warden(Protocol):
    """Says what the files of a folder may, and writes the record of it."""

    def allow(self, plan: Plan, name: str, content: bytes) -> AuditRow:
        """Raises InputError where the folder's principal may not do all that the run comes to."""

    def refused(self, name: str, content: bytes, error: FlowbatchError) -> AuditRow: ...


class EngineDesk:
    """`pin`: the plan as the engine takes it, with every place that it may run in. `database`: the store, to read. `prefix`: of the
    names of this library's files in the store, where there are several libraries."""

    def __init__(
        self, engine: Engine, database: Path, pin: Callable[[Plan], RunPlan], warden: Warden, prefix: str = ""
    ) -> None:
        self._engine = engine
        self._database = database
        self._pin = pin
        self._warden = warden
        self._prefix = prefix

    def allow(self, plan: Plan, name: str, content: bytes) -> None:
        """Whether it may ever run. Raises InputError."""
        self._warden.allow(plan, name, content)

    def refuse(self, name: str, content: bytes, error: FlowbatchError) -> None:
        self._engine.post(Audit((self._warden.refused(self._prefix + name, content, error),)))

    async def submit(self, plan: Plan, shelf: ShelfRow) -> None:
        """The run, the row and the record of the call, in one transaction. Raises InputError where it is not allowed, or the
        engine refuses it."""
        stored = shelf._replace(name=self._prefix + shelf.name)
        row = self._warden.allow(plan, stored.name, shelf.content.encode())
        pinned = replace(self._pin(plan), origin=stored.name)
        answer = await self._engine.ask(lambda ticket: Audited(SubmitRun(ticket, pinned, stored), row))
        if answer.error is not None:
            raise InputError(answer.error)

    async def shelve(self, shelf: ShelfRow) -> None:
        stored = shelf._replace(name=self._prefix + shelf.name)
        await self._engine.ask(lambda ticket: Shelve(ticket, stored))

    def is_open(self, name: str) -> bool:
        """Whether a run that this file made has not ended. Asked when a time has come, and there are few open runs."""
        return any(run.plan.origin == self._prefix + name for run in self._engine.machine.state.runs.values())

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
