"""Queues as stored objects: declared by the settings, changed by people, deleted with their jobs (aws-batch.md §9.1)."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.core import commands, scheduling_policies
from flowbatch.core.declared import reconciled, take_queue
from flowbatch.core.queues import QueueState
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.jobspec import Queue
from flowbatch.model.place_commands import CreateQueue, DeleteQueue, QueueChange, UpdateQueue
from flowbatch.model.places import QUEUE_ENVIRONMENTS_MAX, PlaceStatus, is_of_run
from flowbatch.model.rows import QueueRow

TAGS = "job-queue"
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
    refused = f"Object already exists: there is a queue {spec.name}" if spec.name in state.queues else None
    refused = refused or wrong_environments(state, spec.name, spec.environments)
    if spec.policy_name:
        policy = state.scheduling.get(spec.policy_name)
        refused = refused or scheduling_policies.absent(state, spec.policy_name)
        spec = replace(spec, policy=policy)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    state.deleted_queues.pop(spec.name, None)
    made = QueueState(spec)
    state.add_queue(made)
    out.queue_row(made)
    out.writes.tags[TAGS, spec.name] = command.tags or None
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
        refused = refused or wrong_policy(state, found, change)
    if refused is not None or isinstance(found, str):
        out.answer(command.ticket, refused)
        return
    spec = changed(found.spec, change)
    if change.policy_name and change.policy_name in state.scheduling:
        spec = replace(spec, policy_name=change.policy_name, policy=state.scheduling[change.policy_name])
    scheduling_policies.respec(state, found, spec, out)
    state.places_changed()
    out.answer(command.ticket, value={"queue": command.name})


def wrong_policy(state: State, found: QueueState, change: QueueChange) -> str | None:
    """A policy may be swapped, and neither given to a FIFO queue nor dropped (aws-batch.md §9.1)."""
    name = change.policy_name
    if name is None or name == scheduling_policies.name_of(state, found.spec):
        return None
    if found.spec.policy is None:
        return f"queue {found.spec.name} is FIFO: a scheduling policy is given to a queue when it is created"
    if not name:
        return f"queue {found.spec.name} has a scheduling policy: it can be replaced by another one, not removed"
    return scheduling_policies.absent(state, name)


def changed(spec: Queue, change: QueueChange) -> Queue:
    limit = spec.max_running if change.max_running is None else change.max_running or None
    return replace(
        spec,
        enabled=spec.enabled if change.enabled is None else change.enabled,
        priority=spec.priority if change.priority is None else change.priority,
        environments=spec.environments if change.environments is None else change.environments,
        max_running=limit,
        limits=spec.limits if change.limits is None else change.limits,
        orders=spec.orders if change.environments is None else change.orders,
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
    if found.fair is not None:
        found.fair.forget(name)
        out.share_rows(found)
    out.writes.tags[TAGS, name] = None
    row = found.row()._replace(status=PlaceStatus.DELETED)
    if found.declared is not None:
        state.deleted_queues[name] = row
    out.writes.queues[name] = None if found.declared is None else row
    state.places_changed()
    return True
