"""Whether a run may be submitted: its queues are there and take jobs, its shares are theirs, its jobs can be held."""

from __future__ import annotations

from flowbatch.core.blocked import misfit
from flowbatch.core.shares import ACTIVE_MAX
from flowbatch.core.state import State
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import Environment, JobSpec, Queue, RunPlan, title_of
from flowbatch.model.places import PlaceStatus, is_of_run


def refusal(state: State, plan: RunPlan, now: Millis, *, must_fit: bool) -> str | None:
    """The first reason against the run, in a sentence; None where it may come.

    `must_fit`: a job that can never fit is refused, as of a workflow file (semantics.md 18); else it is taken, and blocked.
    """
    queues = {name: queue.spec for name, queue in state.queues.items() if queue.status is PlaceStatus.VALID}
    queues |= {queue.name: queue for queue in plan.queues if is_of_run(queue.name)}
    environments = {name: environment.spec for name, environment in state.environments.items()}
    environments |= {place.name: place for place in plan.environments if is_of_run(place.name)}
    if state.host.fixed:  # else what is declared is taken as given
        environments = {name: state.host.capped(state.environments, place) for name, place in environments.items()}
    shares: dict[str, set[str]] = {}
    for job in plan.jobs:
        spec = job.spec
        queue = queues.get(spec.queue)
        if queue is None:
            return f"unknown queue {spec.queue!r}"
        against = of_queue(spec, queue) or (of_size(spec, queue, environments) if must_fit else None)
        if against is not None:
            return against
        if queue.policy is not None:
            shares.setdefault(queue.name, set()).add(spec.share or "")
    for name, wanted in shares.items():
        against = of_shares(state, queues[name], wanted, now)
        if against is not None:
            return against
    return None


def of_queue(spec: JobSpec, queue: Queue) -> str | None:
    title = title_of(queue.name)
    if not queue.enabled:
        return f"queue {title} is DISABLED: it takes no jobs until it is ENABLED again; job {spec.key} was for it"
    return of_share(spec, queue)


def of_share(spec: JobSpec, queue: Queue) -> str | None:
    """shareIdentifier and fair-share policy need each other (aws-batch.md §9.3, §9.4)."""
    title = title_of(queue.name)
    if queue.policy is None and spec.share is not None:
        return f"job {spec.key}: queue {title} is FIFO, and a shareIdentifier is for queues with a fair-share policy"
    if queue.policy is not None and spec.share is None:
        return f"job {spec.key}: queue {title} has a fair-share policy, and its jobs need a shareIdentifier"
    return None


def of_size(spec: JobSpec, queue: Queue, environments: dict[str, Environment]) -> str | None:
    return misfit(spec, [environments[name] for name in queue.environments if name in environments])


def of_shares(state: State, queue: Queue, wanted: set[str], now: Millis) -> str | None:
    known = state.queues.get(queue.name)
    fair = None if known is None else known.fair
    if fair is not None:
        fair.advance(now)
    active = set() if fair is None else fair.shares.keys()
    more = sorted(wanted - active)
    room = ACTIVE_MAX - len(active)
    if len(more) <= room:
        return None
    return (
        f"queue {title_of(queue.name)} can have {ACTIVE_MAX} active shares, and has {len(active)}: share {more[room]!r} would be "
        "one more; a share is active until its jobs have ended and its usage has left the decay window"
    )
