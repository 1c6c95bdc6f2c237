"""Queues as stored objects: declared by the settings, changed by people, deleted with their jobs (aws-batch.md §9.1)."""

from __future__ import annotations

from dataclasses import replace

from flowbatch.core import commands
from flowbatch.core.declared import reconciled, take_queue
from flowbatch.core.queues import QueueState
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.jobspec import Queue
from flowbatch.model.place_commands import CreateQueue, DeleteQueue, QueueChange, UpdateQueue
from flowbatch.model.places import QUEUE_ENVIRONMENTS_MAX, PlaceStatus, is_of_run
from flowbatch.model.rows import QueueRow

DELETED = "JobQueue deleted"  # AWS's words (aws-batch.md §1.2)


def declare(state: State, queues: tuple[Queue, ...], out: Turn) -> None:
    rows = {name: queue.row() for name, queue in state.queues.items() if not is_of_run(name)}
    busy = {job.spec.queue for job in state.jobs.values() if not job.status.terminal}
    changes = reconciled({**rows, **state.deleted_queues}, queues, take_queue, busy.__contains__)
    for name, row in changes.items():
        state.deleted_queues.pop(name, None)
        out.writes.queues[name] = row
        if row is None:
            state.queues.pop(name, None)
        elif name in state.queues:
            state.queues[name].take(row, state)
        else:
            state.add_queue(QueueState.of(row))


def restore(state: State, row: QueueRow) -> None:
    state.add_queue(QueueState.of(row))
    if row.status is not PlaceStatus.VALID:
        state.leaving.add(row.name)


def find(state: State, name: str) -> QueueState | str:
    """The engine's own of that name, or a sentence that says why there is none."""
    found = state.queues.get(name)
    if is_of_run(name):
        return f"queue {name} belongs to the workflow file of a run: it changes with the file alone"
    if found is None:
        names = sorted(each for each in state.queues if not is_of_run(each))
        return f"there is no queue {name!r}; there {'is' if len(names) == 1 else 'are'} {', '.join(names) or 'none'}"
    return found


def wrong_environments(state: State, name: str, environments: tuple[str, ...]) -> str | None:
    """1 to 3 that are there and VALID (aws-batch.md §9.1)."""
    if not 1 <= len(environments) <= QUEUE_ENVIRONMENTS_MAX:
        return f"queue {name}: environments: 1 to {QUEUE_ENVIRONMENTS_MAX} are possible, not {len(environments)}"
    for each in environments:
        found = state.environments.get(each)
        if found is None or is_of_run(each):
            return f"queue {name}: environments: there is no environment {each!r}"
        if found.status is not PlaceStatus.VALID:
            return f"queue {name}: environments: {each} is {found.status}, only VALID ones can be attached"
    return None


def on_create(state: State, command: CreateQueue, out: Turn) -> None:
    spec = command.queue
    refused = f"queue {spec.name} exists already" if spec.name in state.queues else None
    refused = refused or wrong_environments(state, spec.name, spec.environments)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    state.deleted_queues.pop(spec.name, None)
    made = QueueState(spec)
    state.add_queue(made)
    out.queue_row(made)
    state.places_changed()
    out.answer(command.ticket, value={"queue": spec.name})


def on_update(state: State, command: UpdateQueue, out: Turn) -> None:
    found = find(state, command.name)
    refused = found if isinstance(found, str) else None
    change = command.change
    if isinstance(found, QueueState):
        if found.status is not PlaceStatus.VALID:
            refused = f"queue {command.name} is being deleted"
        elif change.environments is not None:
            refused = wrong_environments(state, command.name, change.environments)
    if refused is not None or isinstance(found, str):
        out.answer(command.ticket, refused)
        return
    found.respec(changed(found.spec, change), state)
    out.queue_row(found)
    state.places_changed()
    out.answer(command.ticket, value={"queue": command.name})


def changed(spec: Queue, change: QueueChange) -> Queue:
    limit = spec.max_running if change.max_running is None else change.max_running or None
    return replace(
        spec,
        enabled=spec.enabled if change.enabled is None else change.enabled,
        priority=spec.priority if change.priority is None else change.priority,
        environments=spec.environments if change.environments is None else change.environments,
        max_running=limit,
    )


def on_delete(state: State, command: DeleteQueue, out: Turn) -> None:
    """It must be DISABLED; its environments need not be detached. All its jobs are terminated."""
    found = find(state, command.name)
    refused = found if isinstance(found, str) else None
    if isinstance(found, QueueState) and found.spec.enabled:
        refused = f"Cannot delete, queue {command.name} is ENABLED: disable it first"
    if refused is not None or isinstance(found, str):
        out.answer(command.ticket, refused)
        return
    found.status = PlaceStatus.DELETING
    state.leaving.add(command.name)
    out.queue_row(found)
    reached = 0
    for job in list(state.jobs.values()):
        if job.spec.queue == command.name:
            reached += commands.terminate_job(state, job, None, DELETED, out)
    out.answer(command.ticket, value={"queue": command.name, "status": found.status, "terminated": reached})


def settle_one(state: State, found: QueueState, out: Turn) -> bool:
    """True once nothing is left of a queue that is being deleted."""
    if found.status is not PlaceStatus.DELETING:
        return True
    name = found.spec.name
    if found.live or any(job.spec.queue == name and not job.status.terminal for job in state.jobs.values()):
        return False
    del state.queues[name]
    row = found.row()._replace(status=PlaceStatus.DELETED)
    if found.declared is not None:
        state.deleted_queues[name] = row
    out.writes.queues[name] = None if found.declared is None else row
    state.places_changed()
    return True
