"""Environments as stored objects: what the settings declare is taken over at the start of a life; what people ask is judged by
AWS's rules (aws-batch.md §10.1, §10.2)."""

from __future__ import annotations

from msgspec.structs import replace

from flowbatch.core import lifecycle, queue_changes
from flowbatch.core.capacity import EnvironmentState
from flowbatch.core.declared import reconciled, take_environment
from flowbatch.core.reclaim import host_reason
from flowbatch.core.state import Live, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.ending import Halt
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment
from flowbatch.model.place_commands import CreateEnvironment, DeleteEnvironment, EnvironmentChange, UpdateEnvironment
from flowbatch.model.places import PlaceStatus, is_of_run
from flowbatch.model.resources import Resources, vcpus_text
from flowbatch.model.rows import EnvironmentRow
from flowbatch.model.stimuli import Configure

TAGS = "compute-environment"
STILL_ATTACHED = "Cannot delete, found existing JobQueue relationship"  # AWS's words (aws-batch.md §14.2)
NO_SCALING_DOWN = (  # AWS's words
    "Manually scaling down compute environment is not supported. Disconnecting job queues from compute environment will cause "
    "it to scale-down to minvCpus."
)
JOB_TIMEOUT_MINUTES_MAX = 7200


def on_configure(state: State, stimulus: Configure, out: Turn) -> None:
    """The engine's own environments and queues become what the settings say now; queues first, for they use environments."""
    state.host.limit, state.host.fixed = stimulus.host, stimulus.host_fixed
    queue_changes.declare(state, stimulus.queues, out)
    declare(state, stimulus.environments, out)
    state.places_changed()


def declare(state: State, environments: tuple[Environment, ...], out: Turn) -> None:
    rows = {name: place.row() for name, place in state.environments.items() if not is_of_run(name)}
    named = {name for queue in state.queues.values() for name in queue.spec.environments}

    def in_use(name: str) -> bool:
        held = state.environments.get(name)
        return name in named or (held is not None and held.live > 0)

    changes = reconciled({**rows, **state.deleted_environments}, environments, take_environment, in_use)
    for name, row in changes.items():
        state.deleted_environments.pop(name, None)
        out.writes.environments[name] = row
        if row is None:
            state.environments.pop(name, None)
        elif name in state.environments:
            state.environments[name].take(row)
            out.environment_row(state.environments[name])  # a node that is gone may have to stay for what runs there
        else:
            state.environments[name] = EnvironmentState.of(row)


def restore(state: State, row: EnvironmentRow) -> None:
    """From the store, before what runs in it."""
    state.environments[row.name] = EnvironmentState.of(row)
    if row.status is not PlaceStatus.VALID:
        state.leaving.add(row.name)
    if row.replace_at is not None:
        state.timers.add(row.replace_at, TimerKind.REPLACE, (row.name, 0, 0))


# --- commands


def find(state: State, name: str) -> EnvironmentState | str:
    """The engine's own of that name, or a sentence that says why there is none."""
    found = state.environments.get(name)
    if is_of_run(name):
        return f"environment {name} belongs to the workflow file of a run: it changes with the file alone"
    if found is None:
        names = sorted(each for each in state.environments if not is_of_run(each))
        return (
            f"there is no environment {name!r}; there {'is' if len(names) == 1 else 'are'} {', '.join(names) or 'none'}"
        )
    return found


def on_create(state: State, command: CreateEnvironment, out: Turn) -> None:
    spec = command.environment
    refused = None
    if spec.name in state.environments:
        refused = f"Object already exists: there is an environment {spec.name}"
    elif not spec.enabled:
        refused = f"environment {spec.name}: state: it must be created ENABLED"
    refused = refused or wrong_sizes(state, spec) or wrong_desired(spec, command.desired_vcpus_milli)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    state.deleted_environments.pop(spec.name, None)
    made = EnvironmentState(spec=spec, desired_vcpus_milli=command.desired_vcpus_milli)
    state.environments[spec.name] = made
    out.environment_row(made)
    out.writes.tags[TAGS, spec.name] = command.tags or None
    state.places_changed()
    out.answer(command.ticket, value={"environment": spec.name})


def wrong_sizes(state: State, spec: Environment) -> str | None:
    """min ≤ max, and all minima fit the host together."""
    least, most = spec.min_vcpus_milli, spec.capacity.vcpus_milli
    if spec.managed and least > most:
        return f"environment {spec.name}: min_vcpus ({vcpus_text(least)}) must not be more than max_vcpus ({vcpus_text(most)})"
    if spec.spot and least:
        return f"environment {spec.name}: min_vcpus: Spot keeps nothing, it has what others leave; leave it out"
    others = sum(each.spec.min_vcpus_milli for each in state.environments.values() if each.name != spec.name)
    limit = state.host.limit
    if limit is not None and least and least + others > limit.vcpus_milli:
        return (
            f"environment {spec.name}: min_vcpus ({vcpus_text(least)}) and what others keep ({vcpus_text(others)}) are more than "
            f"the host has ({vcpus_text(limit.vcpus_milli)} vCPUs)"
        )
    return None


def on_update(state: State, command: UpdateEnvironment, out: Turn) -> None:
    found = find(state, command.name)
    if isinstance(found, str):
        out.answer(command.ticket, found)
        return
    change = command.change
    spec = changed(found.spec, change)
    refused = update_refused(found, change, command) or wrong_sizes(state, spec)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    replaces = infrastructure(found.spec) != infrastructure(spec)
    found.spec = spec
    if change.desired_vcpus_milli is not None:
        found.desired_vcpus_milli, found.idle_since = change.desired_vcpus_milli, out.now
    if replaces and found.live:
        begin_replacing(state, found, command, out)
    out.environment_row(found)
    state.places_changed()
    out.answer(command.ticket, value={"environment": found.name, "status": found.status, "running": found.live})


def changed(spec: Environment, change: EnvironmentChange) -> Environment:
    room = spec.capacity
    room = Resources(
        room.vcpus_milli if change.max_vcpus_milli is None else change.max_vcpus_milli,
        room.memory_mib if change.memory_mib is None else change.memory_mib,
        room.gpus if change.gpus is None else change.gpus,
    )
    return replace(
        spec,
        capacity=room,
        enabled=spec.enabled if change.enabled is None else change.enabled,
        min_vcpus_milli=spec.min_vcpus_milli if change.min_vcpus_milli is None else change.min_vcpus_milli,
        scale_down_ms=spec.scale_down_ms if change.scale_down_ms is None else change.scale_down_ms,
        notice_ms=spec.notice_ms if change.notice_ms is None else change.notice_ms,
        backend=spec.backend if change.backend is None else change.backend,
        cpu=spec.cpu if change.cpu is None else change.cpu,
        spot=spec.spot if change.spot is None else change.spot,
        share_vcpus_milli=spec.share_vcpus_milli if change.share_vcpus_milli is None else change.share_vcpus_milli,
        aws=spec.aws if change.aws is None else change.aws,
    )


def infrastructure(spec: Environment) -> tuple[object, ...]:
    """What tasks run on: a change of it does not reach those that run."""
    return spec.backend, spec.cpu, spec.spot


def update_refused(found: EnvironmentState, change: EnvironmentChange, command: UpdateEnvironment) -> str | None:
    spec, name = found.spec, found.name
    if found.status is PlaceStatus.DELETING:
        return f"environment {name} is being deleted"
    sizes = (
        change.min_vcpus_milli,
        change.max_vcpus_milli,
        change.desired_vcpus_milli,
        change.memory_mib,
        change.gpus,
        change.spot,
    )
    if not spec.managed and any(each is not None for each in sizes):
        return f"environment {name} is UNMANAGED: its nodes say what there is (`flowbatch environments nodes add`)"
    if spec.managed and change.share_vcpus_milli is not None:
        return f"environment {name} is MANAGED: unmanagedvCpus is for UNMANAGED ones"
    if change.backend is not None and "fake" in (change.backend, spec.backend) and change.backend != spec.backend:
        return f"environment {name}: backend: neither from nor to fake, whose tasks are made up"
    new = changed(spec, change)
    if refused := new.runs_elsewhere():
        return f"environment {name}: {refused}"
    if infrastructure(new) != infrastructure(spec) and found.status is PlaceStatus.UPDATING:
        return f"environment {name} is being updated: wait until it is VALID again"
    if not 1 <= command.job_timeout_minutes <= JOB_TIMEOUT_MINUTES_MAX:
        return (
            f"environment {name}: job timeout: 1 to {JOB_TIMEOUT_MINUTES_MAX} minutes are possible, "
            f"not {command.job_timeout_minutes}"
        )
    desired = change.desired_vcpus_milli
    if desired is None:
        return None
    return wrong_desired(new, desired) or (NO_SCALING_DOWN if desired < found.desired_vcpus_milli else None)


def wrong_desired(spec: Environment, desired: int) -> str | None:
    """0 says nothing."""
    if not desired or spec.min_vcpus_milli <= desired <= spec.capacity.vcpus_milli:
        return None
    return (
        f"environment {spec.name}: desired_vcpus ({vcpus_text(desired)}) must lie between min_vcpus "
        f"({vcpus_text(spec.min_vcpus_milli)}) and max_vcpus ({vcpus_text(spec.capacity.vcpus_milli)})"
    )


def begin_replacing(state: State, found: EnvironmentState, command: UpdateEnvironment, out: Turn) -> None:
    """An infrastructure update: what runs is stopped now, or has some minutes left (updatePolicy)."""
    found.status = PlaceStatus.UPDATING
    found.updated_at = out.now
    minutes = 0 if command.terminate_jobs else command.job_timeout_minutes
    found.replace_at = Millis(out.now + minutes * 60_000)
    state.leaving.add(found.name)
    if minutes:
        state.timers.add(found.replace_at, TimerKind.REPLACE, (found.name, 0, 0))
    else:
        replace_now(state, found, out)


def replace_now(state: State, found: EnvironmentState, out: Turn) -> None:
    for live in outdated(state, found):
        if live.halt is Halt.NONE:
            lifecycle.halt(state, live, Halt.RECLAIM, host_reason(found, live.node), out)


def on_replace_due(state: State, name: str, out: Turn) -> None:
    found = state.environments.get(name)
    if found is not None and found.status is PlaceStatus.UPDATING and (found.replace_at or 0) <= out.now:
        replace_now(state, found, out)


def outdated(state: State, found: EnvironmentState) -> list[Live]:
    """What began before the update; what is STARTING begins after it."""
    since = found.updated_at or 0
    ours = (live for live in state.live.values() if live.environment is found)
    return [live for live in ours if live.started_at is not None and live.started_at <= since]


def on_delete(state: State, command: DeleteEnvironment, out: Turn) -> None:
    found = find(state, command.name)
    refused = found if isinstance(found, str) else None
    if isinstance(found, EnvironmentState):
        attached = [name for name, queue in state.queues.items() if found.name in queue.spec.environments]
        if found.spec.enabled:
            refused = f"Cannot delete, environment {found.name} is ENABLED: disable it first"
        elif attached:
            refused = f"{STILL_ATTACHED} ({', '.join(sorted(attached))})"
    if refused is not None or isinstance(found, str):
        out.answer(command.ticket, refused)
        return
    found.status = PlaceStatus.DELETING
    state.leaving.add(found.name)
    out.environment_row(found)
    out.answer(command.ticket, value={"environment": found.name, "status": found.status, "running": found.live})


def settle(state: State, out: Turn) -> None:
    """Before placement: what was UPDATING or DELETING and has nothing left of it is VALID again, or gone."""
    for name in sorted(state.leaving):
        found, queue = state.environments.get(name), state.queues.get(name)
        done = (found is None or settle_one(state, found, out)) and (
            queue is None or queue_changes.settle_one(state, queue, out)
        )
        if done:
            state.leaving.discard(name)


def settle_one(state: State, found: EnvironmentState, out: Turn) -> bool:
    if found.status is PlaceStatus.UPDATING:
        if outdated(state, found):
            return False
        found.status, found.updated_at, found.replace_at = PlaceStatus.VALID, None, None
        out.environment_row(found)
    elif found.status is PlaceStatus.DELETING:
        if found.live:
            return False
        del state.environments[found.name]
        out.writes.tags[TAGS, found.name] = None
        row = found.row()._replace(status=PlaceStatus.DELETED)
        if found.declared is not None:
            state.deleted_environments[found.name] = row
        out.writes.environments[found.name] = None if found.declared is None else row
        state.places_changed()
    return True
