"""A job at the head of its queue that is blocked: an event tells of it (`Batch Job Queue Blocked`, aws-batch.md §11.2), and after a time it
is cancelled, where the queue has such a limit (jobStateTimeLimitActions, §9.5).

The clock runs for one job of a queue at a time, from the turn in which it stands at the head and is blocked; it is stored, so that a
restart does not set it back, nor tell of it again. Of an array the RUNNABLE children are cancelled together: they are blocked by the
same.
"""

from __future__ import annotations

from typing import Final

from flowbatch.core import dependencies
from flowbatch.core.blocked import leave_head, reason_of
from flowbatch.core.queues import QueueState
from flowbatch.core.state import Job, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.ids import Millis
from flowbatch.model.queues import reason_code
from flowbatch.model.rows import HeadRow
from flowbatch.model.status import Status

CANCELED: Final = "Canceled by JobStateTimeLimit action due to reason: {}"


def head_of(queue: QueueState) -> Job | None:
    """The job that would be served next, if it could."""
    heads = [(group.head_key(entry), entry.job) for group in queue.groups.values() if (entry := group.head())]
    return min(heads, key=lambda head: head[0])[1] if heads else None


def watch_head(state: State, queue: QueueState, out: Turn) -> None:
    """After each placement, for a queue in which a job was blocked in this life: others need not be looked at."""
    name, job, stuck = queue.spec.name, head_of(queue), queue.stuck
    if job is None or job.blocked is None:
        if stuck is not None:
            queue.stuck = queue.stuck_until = out.writes.heads[name] = None
        return
    reason = reason_code(job.blocked)
    if stuck is None or (stuck.job, stuck.reason) != (job.no, reason):
        stuck = queue.stuck = out.writes.heads[name] = HeadRow(name, job.no, reason, out.now)
        queue.stuck_until = None
        if job.told != job.blocked:
            out.blocked_event(job)
    elif stuck.since > out.now:  # the clock was set back: it has not to pass that time again first
        stuck = queue.stuck = out.writes.heads[name] = HeadRow(name, job.no, reason, out.now)
    job.told = job.blocked
    limit_ms = next((limit.max_ms for limit in queue.spec.limits if limit.reason == reason), None)
    until = None if limit_ms is None else Millis(stuck.since + limit_ms)
    if until is None:
        queue.stuck_until = None
    elif queue.stuck_until != until:
        queue.stuck_until = until
        state.timers.add(until, TimerKind.LIMIT, (name, job.no, 0))


def begin_anew(state: State, job: Job, out: Turn) -> None:
    """The job is retried, maybe in the turn in which it ended: what it waited before does not count."""
    job.told = None
    leave_head(state, job, out)


def on_limit(state: State, name: str, number: int, at: Millis, out: Turn) -> None:
    queue = state.queues.get(name)
    if queue is None or queue.stuck is None or (queue.stuck.job, queue.stuck_until) != (number, at):
        return
    # Not asked for its place again: what stands before it in this moment is about to be placed.
    job = next((job for job in state.jobs.values() if job.no == number), None)
    blocked = None if job is None else reason_of(state, job)
    if job is not None and blocked is not None and reason_code(blocked) == queue.stuck.reason:
        cancel_runnable(state, job, CANCELED.format(queue.stuck.reason), out)
    queue.stuck = queue.stuck_until = out.writes.heads[name] = None
    state.place_wanted = True  # the head is looked at anew


def cancel_runnable(state: State, job: Job, reason: str, out: Turn) -> None:
    if not job.counts[Status.PENDING]:
        dependencies.end_range(state, job, 0, job.tasks, Status.FAILED, reason, out)
        return
    for index in range(job.tasks):
        if job.status_of(index) == Status.RUNNABLE:
            dependencies.end_child(state, job, index, Status.FAILED, reason, out)
