"""`why`: one sentence on what a task waits for, with the figures behind it. Reads, changes nothing."""

from __future__ import annotations

from flowbatch.core import tokens
from flowbatch.core.dependencies import satisfied
from flowbatch.core.members import Crew
from flowbatch.core.queues import QueueState
from flowbatch.core.rooms import vcpus_of
from flowbatch.core.shares import FairShares
from flowbatch.core.state import Job, State
from flowbatch.core.why_places import explain_place
from flowbatch.model.ids import Millis, TaskKey
from flowbatch.model.jobspec import Stage, title_of
from flowbatch.model.queues import reason_code
from flowbatch.model.resources import Resources, vcpus_text
from flowbatch.model.status import Status


def explain(state: State, job: Job, index: int | None, now: Millis) -> str:
    """`index` is None for the job as a whole; of an array that is its most telling child."""
    if job.array and index is None:
        return explain_array(state, job, now)
    status = Status(job.status_of(index or 0))
    name = job.spec.key if index is None else f"{job.spec.key}:{index}"
    return f"{name} {explain_task(state, job, index or 0, status, now)}"


def explain_array(state: State, job: Job, now: Millis) -> str:
    counts = ", ".join(f"{job.counts[status]} {status.name}" for status in Status if job.counts[status])
    head = f"{job.spec.key} is {job.status.name}: {counts or 'no children'}"
    for status in (Status.RUNNABLE, Status.PENDING):
        if job.counts[status]:
            index = next(i for i in range(job.tasks) if job.status_of(i) == status)
            return f"{head}; child {index} {explain_task(state, job, index, status, now)}"
    return head


def explain_task(state: State, job: Job, index: int, status: Status, now: Millis) -> str:
    match status:
        case Status.SUBMITTED | Status.PENDING:
            return explain_pending(job, index)
        case Status.RUNNABLE:
            return explain_runnable(state, job, index, now)
        case Status.STARTING | Status.RUNNING:
            live = state.live[TaskKey(job.id, index)]
            since = "" if live.started_at is None else f" for {(now - live.started_at) / 1000:.0f} s"
            crew = f"; {alive_text(live.crew)}" if live.crew is not None else ""
            stop = f"; it was asked to stop ({live.halt.name.lower()})" if live.halt else ""
            return f"is {status.name}{since} in environment {title_of(live.environment.name)}, attempt {live.key.attempt}{crew}{stop}"
        case Status.SUCCEEDED | Status.FAILED:
            return f"has ended: {status.name}, {job.status_reason or 'see `show`'}"


def alive_text(crew: Crew) -> str:
    """`3 of 4 nodes run`; of a task of several containers, these."""
    layout, seats = crew.layout, crew.seats
    shown = [member for member in range(len(seats)) if not layout.parts[member].holder]
    running = sum(seats[member].status is Status.RUNNING for member in shown)
    what = "nodes" if layout.nodes == len(shown) else "containers"
    waiting = [layout.label(member) for member in shown if seats[member].status is Status.RUNNABLE]
    waits = f", {', '.join(waiting[:3])}{' …' if len(waiting) > 3 else ''} wait" if waiting else ""
    return f"{running} of {len(shown)} {what} run{waits}"


def explain_pending(job: Job, index: int) -> str:
    waits = [
        f"{source.spec.key} ({describe(source)}) to {verb(when)}"
        for source, when in job.wholes
        if not satisfied(when, source.status)
    ]
    waits += [
        f"{source.spec.key}:{child} ({Status(source.status_of(child)).name}) to succeed"
        for source, child in job.singles
        if source.status_of(child) != Status.SUCCEEDED
    ]
    waits += [
        f"{source.spec.key}:{index} ({Status(source.status_of(index)).name}) to {verb(when)}"
        for source, when in job.sources
        if not satisfied(when, source.status_of(index))
    ]
    if job.spec.sequential and index and job.status_of(index - 1) != Status.SUCCEEDED:
        waits.append(f"child {index - 1} ({Status(job.status_of(index - 1)).name}), since the array is sequential")
    if job.stage is Stage.FINALLY and job.run is not None and job.run.stage is Stage.MAIN:
        waits.append(f"the run to end ({job.run.open_main} jobs are open)")
    return f"is PENDING: it waits for {' and '.join(waits)}" if waits else "is PENDING, and nothing holds it back"


def verb(when: str) -> str:
    return {"success": "succeed", "failure": "fail"}.get(when, "end")


def describe(job: Job) -> str:
    if not job.array:
        return job.status.name
    done = job.counts[Status.SUCCEEDED] + job.counts[Status.FAILED]
    return f"{done} of {job.tasks} children have ended"


def explain_runnable(state: State, job: Job, index: int, now: Millis) -> str:
    odd = job.odd.get(index)
    if odd is not None and odd.not_before is not None and odd.not_before > now:
        return (
            f"is RUNNABLE: attempt {job.attempts[index] + 1} starts in {(odd.not_before - now) / 1000:.0f} s (backoff)"
        )
    if job.shelved:
        return "is RUNNABLE: it has no run and waits for a server; `flowbatch serve` continues it"
    if job.run is not None and job.run.held:
        return f"is RUNNABLE: its run was interrupted; `flowbatch resume {job.run.id[:8]}` continues it"
    if state.draining:
        return "is RUNNABLE: the engine is draining and starts nothing new"
    limit = job.spec.max_running
    if limit is not None and job.running >= limit:
        return f"is RUNNABLE: {job.running} of its array run already, and max_running is {limit}"
    queue = state.queue_of(job)
    if queue.spec.max_running is not None and queue.live >= queue.spec.max_running:
        return f"is RUNNABLE: queue {title_of(queue.spec.name)} runs {queue.live}, and its max_running is {queue.spec.max_running}"
    need = job.resources_of(index)
    if job.spec.tokens:
        group = queue.groups.get(queue.key_of(job, need))
        missing = None if group is None else tokens.explain(state, group, now)
        if missing is not None:
            return f"is RUNNABLE: it needs {missing}"
    blocked = "" if job.blocked is None else f", blocked ({reason_code(job.blocked)})"
    places = [explain_place(state, queue, environment, need, now) for environment, _ in state.places_of(job)]
    if not places and job.spec.nodes is not None:
        queue_name = title_of(queue.spec.name)
        return f"is RUNNABLE: a multi-node job needs a MANAGED environment that is not Spot, and queue {queue_name} has none"
    if not places:
        return (
            f"is RUNNABLE{blocked}: no environment of queue {title_of(queue.spec.name)} can run a {job.spec.kind} job"
        )
    shares = "" if queue.fair is None or blocked else explain_share(state, queue, queue.fair, job, need, now)
    return f"is RUNNABLE{blocked}: it needs {need}; {'; '.join(places)}{shares}"


def explain_share(state: State, queue: QueueState, fair: FairShares, job: Job, need: Resources, now: Millis) -> str:
    """What the queue's policy has to do with it: its reservation, or whose turn it is."""
    fair.advance(now)
    share = fair.of(job.spec.share or "")
    most = vcpus_of(state, queue)
    if fair.room(need.vcpus_milli, most, 0) == 0:
        return (
            f"; queue {title_of(queue.spec.name)} keeps vCPUs for shares that are not active yet: its {len(fair.shares)} active "
            f"shares may have {vcpus_text(fair.cap_milli(most))} of {vcpus_text(most)}, and have {vcpus_text(fair.held_milli)}"
        )
    before = sum(other.key < share.key for other in fair.shares.values() if other.lines)
    first = (
        "it is the turn of its share"
        if not before
        else f"{before} other share{'s come' if before > 1 else ' comes'} first"
    )
    return f"; share {share.name} holds {vcpus_text(share.held_milli)} vCPU, and {first}"
