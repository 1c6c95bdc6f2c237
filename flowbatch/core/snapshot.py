"""A queue as people see it: what it has, what stands at its front, and who uses how much (aws-batch.md §9.7).

Pure functions over the State, with values that JSON has. They look at what waits, so that nothing hot may call them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from flowbatch.core.queues import QueueState
from flowbatch.core.ready import Group, first_ready
from flowbatch.core.shares import AHEAD_MS, CELLS, FairShares, Share
from flowbatch.core.state import Job, State
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import title_of
from flowbatch.model.queues import WEIGHT_ONE, limit_objects, policy_object
from flowbatch.model.status import Status

FRONT_MAX: Final = 100  # frontOfQueue.jobs
SHARES_MAX: Final = 20  # topCapacityUtilization

Task = tuple[Job, int]
Ranked = tuple[tuple[int, ...], Job, int, int]  # the order within the queue or share, and the task with its milli-vCPUs


def overview(state: State) -> list[dict[str, Any]]:
    """Every queue with its figures, the highest priority first."""
    waiting: dict[str, int] = {}
    for job in state.jobs.values():
        waiting[job.spec.queue] = waiting.get(job.spec.queue, 0) + job.counts[Status.RUNNABLE]
    order = sorted(state.queues.values(), key=lambda queue: (-queue.spec.priority, queue.spec.name))
    return [{**described(queue), "runnable": waiting.get(queue.spec.name, 0), "running": queue.live} for queue in order]


def described(queue: QueueState) -> dict[str, Any]:
    """What the queue is: its spec, in the words of the file."""
    spec = queue.spec
    return {
        "queue": spec.name,
        "state": "ENABLED" if spec.enabled else "DISABLED",
        "status": queue.status.value,
        "priority": spec.priority,
        "environments": [title_of(name) for name in spec.environments],
        "max_running": spec.max_running,
        "policy": policy_object(spec.policy),
        "limits": limit_objects(spec.limits),
    }


def snapshot(state: State, queue: QueueState, now: Millis) -> dict[str, Any]:
    """GetJobQueueSnapshot, with what the queue is."""
    name = queue.spec.name
    if queue.fair is not None:
        queue.fair.advance(now)
    jobs = [job for job in state.jobs.values() if job.spec.queue == name]
    return {
        **described(queue),
        "runnable": sum(job.counts[Status.RUNNABLE] for job in jobs),
        "running": queue.live,
        "at": now,
        "front": [front_object(queue, job, index) for job, index in islice(front(queue), FRONT_MAX)],
        "blocked": [
            {"job": job.id, "name": job.spec.key, "reason": job.blocked}
            for job in jobs
            if job.blocked is not None and job.counts[Status.RUNNABLE]
        ][:FRONT_MAX],
        "utilization": utilization(state, queue),
    }


def front_object(queue: QueueState, job: Job, index: int) -> dict[str, Any]:
    """`earliest_at`: since when at the latest it stands where it stands (the last placement from the queue moved it up)."""
    return {
        "job": f"{job.id}:{index}" if job.array else job.id,
        "name": f"{job.spec.key}:{index}" if job.array else job.spec.key,
        "run": None if job.run is None else job.run.id,
        "share": job.spec.share,
        "earliest_at": max(job.created_at, queue.moved_at or 0),
        "status_reason": job.blocked,
    }


def utilization(state: State, queue: QueueState) -> dict[str, Any]:
    """vCPUs in use, and the shares that use most of them."""
    used = sum(live.resources.vcpus_milli for live in state.live.values() if live.queue is queue)
    fair = queue.fair
    found: dict[str, Any] = {"vcpus": used / 1000}
    if fair is not None:
        order = sorted(fair.shares.values(), key=lambda share: (-share.held_milli, share.key, share.name))
        found["active_shares"] = len(fair.shares)
        found["shares"] = [share_object(fair, share) for share in order[:SHARES_MAX]]
    return found


def share_object(fair: FairShares, share: Share) -> dict[str, Any]:
    """`used_vcpu_s`: vCPU-seconds inside the window, old ones for less; `rank` by which the lowest is served next."""
    weight = fair.weight_of(share) / WEIGHT_ONE
    ahead = 2 * CELLS * AHEAD_MS * share.held_milli * fair.weight_of(share)
    counted = (share.key - ahead) / max(1, fair.weight_of(share)) / (2 * CELLS)
    return {
        "share": share.name,
        "weight": weight,
        "vcpus": share.held_milli / 1000,
        "jobs": share.jobs,
        "used_vcpu_s": round(counted / 1_000_000, 3),
        "rank": round(share.key / WEIGHT_ONE / (2 * CELLS) / 1_000_000, 3),
    }


# --- the front, in the order of dispatch


def front(queue: QueueState) -> Iterator[Task]:
    """As it would be served if nothing came and everything fitted. A task has its first place where two entries mean it."""
    seen: set[tuple[int, int]] = set()
    for job, index in fifo_front(queue) if queue.fair is None else fair_front(queue.fair):
        if (job.no, index) not in seen:
            seen.add((job.no, index))
            yield job, index


def fifo_front(queue: QueueState) -> Iterator[Task]:
    groups = [tasks(group) for group in queue.groups.values()]
    return ((job, index) for _, job, index, _ in heapq.merge(*groups, key=lambda each: each[0]))


def fair_front(fair: FairShares) -> Iterator[Task]:
    """Each task that is served raises the key of its share by what it would hold."""
    heads: list[tuple[int, tuple[int, ...], int, Ranked]] = []
    lines = [heapq.merge(*map(tasks, share.lines), key=lambda each: each[0]) for share in fair.shares.values()]
    weights = [2 * CELLS * AHEAD_MS * fair.weight_of(share) for share in fair.shares.values()]
    for number, share in enumerate(fair.shares.values()):
        for first in islice(lines[number], 1):
            heapq.heappush(heads, (share.key, first[0][2:], number, first))
    while heads:
        key, _, number, (_, job, index, vcpus_milli) = heapq.heappop(heads)
        yield job, index
        for following in islice(lines[number], 1):
            heapq.heappush(heads, (key + weights[number] * vcpus_milli, following[0][2:], number, following))


def tasks(group: Group) -> Iterator[Ranked]:
    """The ready tasks of a group, or of a share's line in one, in order."""
    shape = group.key.shape
    for entry in sorted(group.entries()):
        job = entry.job
        index = first_ready(job, entry.lo, entry.hi, shape)
        while index >= 0:
            yield (entry.rank - group.key.priority, entry.front, entry.job_no, index), job, index, shape.vcpus_milli
            index = first_ready(job, index + 1, entry.hi, shape)
