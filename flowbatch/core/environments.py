"""Environments as stored objects: what the settings declare is taken over at the start of a life, what people ask is judged by
AWS's rules (aws-batch.md §10.1, §10.2)."""

from __future__ import annotations

from flowbatch.core.capacity import EnvironmentState
from flowbatch.core.declared import reconciled, take_environment, take_queue
from flowbatch.core.queues import QueueState
from flowbatch.core.state import State
from flowbatch.core.turn import Turn
from flowbatch.model.places import PlaceStatus, is_of_run
from flowbatch.model.stimuli import Configure


def on_configure(state: State, stimulus: Configure, out: Turn) -> None:
    """The engine's own environments and queues become what the settings say now; queues first, for they use environments."""
    declare_queues(state, stimulus, out)
    declare_environments(state, stimulus, out)
    state.places_changed()


def declare_queues(state: State, stimulus: Configure, out: Turn) -> None:
    rows = {name: queue.row() for name, queue in state.queues.items() if not is_of_run(name)}
    busy = {job.spec.queue for job in state.jobs.values() if not job.status.terminal}
    changes = reconciled({**rows, **state.deleted_queues}, stimulus.queues, take_queue, busy.__contains__)
    for name, row in changes.items():
        state.deleted_queues.pop(name, None)
        out.writes.queues[name] = row
        if row is None:
            state.queues.pop(name, None)
        elif row.status is PlaceStatus.DELETED:
            state.deleted_queues[name] = row
        elif name in state.queues:
            state.queues[name].take(row, state)
        else:
            state.add_queue(QueueState.of(row))


def declare_environments(state: State, stimulus: Configure, out: Turn) -> None:
    rows = {name: place.row() for name, place in state.environments.items() if not is_of_run(name)}
    named = {name for queue in state.queues.values() for name in queue.spec.environments}

    def in_use(name: str) -> bool:
        held = state.environments.get(name)
        return name in named or (held is not None and held.live > 0)

    changes = reconciled({**rows, **state.deleted_environments}, stimulus.environments, take_environment, in_use)
    for name, row in changes.items():
        state.deleted_environments.pop(name, None)
        out.writes.environments[name] = row
        if row is None:
            state.environments.pop(name, None)
        elif row.status is PlaceStatus.DELETED:
            state.deleted_environments[name] = row
        elif name in state.environments:
            state.environments[name].take(row)
            out.environment_row(state.environments[name])  # a node that is gone may have to stay for what runs there
        else:
            state.environments[name] = EnvironmentState.of(row)
