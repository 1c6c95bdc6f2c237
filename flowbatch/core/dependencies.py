"""Who becomes runnable, and who fails with it.

A job waits for its whole needs by a counter (`Job.unmet`) and, where it is N_TO_N or SEQUENTIAL, for single children by
looking at the few cells that one child needs. Nothing here scans what merely waits.

What ends is put on the turn's queues (`settled_*`) and worked through by `settle` until nothing follows any more, so that a chain
of ten thousand failures is a loop and not a recursion. The rules, aws-batch.md §3 and semantics.md 3, 20–22:

- a need for success whose source FAILED fails the dependant at once: `Dependent Job failed`;
- a need for failure whose source SUCCEEDED ends the dependant SUCCEEDED, `Skipped: …`, without an attempt;
- N_TO_N does the same per index; SEQUENTIAL fails all that comes after a failed child;
- an array's parent ends when all of its children have: FAILED where more failed than it tolerates.
"""

from __future__ import annotations

from typing import Final

from flowbatch.core import runs
from flowbatch.core.blocked import judge
from flowbatch.core.state import Edge, Job, State
from flowbatch.core.turn import Turn
from flowbatch.errors import InvalidTransition
from flowbatch.model.ending import Verdict
from flowbatch.model.jobspec import When
from flowbatch.model.status import SUCCEEDED, Status

DEPENDENT_FAILED: Final = "Dependent Job failed"
CHILD_FAILED: Final = "Array Child Job failed"


def satisfied(when: When, status: int) -> bool | None:
    """Whether a source's status satisfies the need; None while it has not ended."""
    if status < SUCCEEDED:
        return None
    if when is When.DONE:
        return True
    return (status == SUCCEEDED) == (when is When.SUCCESS)


def settle(state: State, out: Turn) -> None:
    """Works through everything that this turn's ends cause. Jobs before runs: a run ends only when nothing is left."""
    while True:
        if out.settled_children:
            job, lo, hi = out.settled_children.popleft()
            on_children_ended(state, job, lo, hi, out)
        elif out.settled_jobs:
            job = out.settled_jobs.popleft()
            for edge in job.dependants:
                if not edge.each and edge.index is None:
                    on_need_settled(state, job, edge, out)
            queue = state.queue_of(job)
            if queue.fair is not None:
                queue.fair.leave(job.spec.share or "")
                out.share_rows(queue)
            if job.run is not None:
                runs.on_job_ended(job.run, job, out)
        elif out.settled_runs:
            for job in runs.advance(state, out.settled_runs.popleft(), out):
                need_met(state, job, out)
        else:
            return


def on_need_settled(state: State, source: Job, edge: Edge, out: Turn) -> None:
    job = edge.job
    if job.status.terminal:
        return
    if satisfied(edge.when, source.status if edge.index is None else source.status_of(edge.index)):
        need_met(state, job, out)
    else:
        give_up_waiting(state, job, edge.when, source, out)


def need_met(state: State, job: Job, out: Turn) -> None:
    """One need of the whole job is satisfied, or the gate of `finally` opens."""
    job.unmet -= 1
    if job.unmet == 0:
        release(state, job, out)


def give_up_waiting(state: State, job: Job, when: When, source: Job, out: Turn) -> None:
    """A need can never be satisfied any more: everything of the job that waits ends with it."""
    if when is When.FAILURE:
        skip(state, job, f"Skipped: {source.spec.key} did not fail", out)
    else:
        end_waiting(state, job, Status.FAILED, DEPENDENT_FAILED, out)


def release(state: State, job: Job, out: Turn) -> None:
    """All whole-job needs of a job are satisfied."""
    if job.array and job.tasks == 0:
        finish(job, out)
    elif job.sources or job.spec.sequential:
        try_children(state, job, out)
    else:
        make_ready(state, job, out)


def try_children(state: State, job: Job, out: Turn) -> None:
    """Looks at each PENDING child, unless it is certain that all of them wait."""
    ended = any(source.counts[Status.SUCCEEDED] or source.counts[Status.FAILED] for source, _ in job.sources)
    if ended or not job.sources:
        for index in range(job.tasks):
            if job.status_of(index) == Status.PENDING:
                try_child(state, job, index, out)


def make_ready(state: State, job: Job, out: Turn) -> None:
    """Every PENDING task of the job becomes RUNNABLE: the resting ones together, by ranges."""
    if job.rest is Status.PENDING:
        whole = job.resting() == job.tasks
        ranges = [(0, job.tasks)] if whole else list(resting_ranges(job))
        job.move_resting(Status.RUNNABLE)
        out.touch(job)
        judge(state, job, out)
        queue = state.queue_of(job)
        for lo, hi in ranges:
            queue.add(job, lo, hi, front=1, shape=job.spec.resources)
        if whole:
            state.place_wanted = True
            if not job.array:
                set_single_status(job, Status.RUNNABLE, out)
            return
    for index in range(job.tasks):
        if job.status_of(index) == Status.PENDING:
            make_child_ready(state, job, index, out)
    state.place_wanted = True


def resting_ranges(job: Job) -> list[tuple[int, int]]:
    """The indices that rest, as ranges [lo, hi)."""
    ranges: list[tuple[int, int]] = []
    code, index = int(job.rest), 0
    cells = job.cells
    while (lo := cells.find(code, index)) >= 0:
        hi = lo + 1
        while hi < len(cells) and cells[hi] == code:
            hi += 1
        ranges.append((lo, hi))
        index = hi
    return ranges


def make_child_ready(state: State, job: Job, index: int, out: Turn) -> None:
    job.move(index, Status.RUNNABLE)
    judge(state, job, out)
    out.waiting_row(job, index, Status.RUNNABLE)
    queue_child(state, job, index)
    if job.array:
        out.child_event(job, index, Status.RUNNABLE, None, None)
    else:
        set_single_status(job, Status.RUNNABLE, out)


def queue_child(state: State, job: Job, index: int) -> None:
    """A single RUNNABLE task becomes ready; one that has been tried before goes to the front."""
    odd = job.odd.get(index)
    tried = job.attempts[index] > (odd.base if odd is not None else 0)
    state.queue_of(job).add(job, index, index + 1, front=0 if tried else 1, shape=job.resources_of(index))
    state.place_wanted = True


def try_child(state: State, job: Job, index: int, out: Turn) -> None:
    """A PENDING child: ready, failed, skipped, or still waiting."""
    waits = job.unmet > 0
    for source, when in job.sources:
        answer = satisfied(when, source.status_of(index))
        if answer is None:
            waits = True
        elif answer is False:
            end_child_waiting(state, job, index, when, source, out)
            return
    if job.spec.sequential and index > 0:
        before = job.status_of(index - 1)
        if before == Status.FAILED:
            end_child(state, job, index, Status.FAILED, DEPENDENT_FAILED, out)
            return
        waits = waits or before != Status.SUCCEEDED
    if not waits:
        make_child_ready(state, job, index, out)


def end_child_waiting(state: State, job: Job, index: int, when: When, source: Job, out: Turn) -> None:
    if when is When.FAILURE:
        end_child(state, job, index, Status.SUCCEEDED, f"Skipped: {source.spec.key}:{index} did not fail", out)
    else:
        end_child(state, job, index, Status.FAILED, DEPENDENT_FAILED, out)


def on_children_ended(state: State, job: Job, lo: int, hi: int, out: Turn) -> None:
    """Children [lo, hi) have ended: those of N_TO_N dependants with the same index, and the next of a chain, may follow."""
    for edge in job.dependants:
        if edge.each:
            cascade(state, job, edge, lo, hi, out)
        elif edge.index is not None and lo <= edge.index < hi:
            on_need_settled(state, job, edge, out)
    if job.spec.sequential and hi < job.tasks and job.status_of(hi) == Status.PENDING:
        if job.status_of(hi - 1) == Status.FAILED:
            end_range(state, job, hi, job.tasks, Status.FAILED, DEPENDENT_FAILED, out)
        else:
            try_child(state, job, hi, out)


def cascade(state: State, source: Job, edge: Edge, lo: int, hi: int, out: Turn) -> None:
    job = edge.job
    code = source.cells[lo]
    alike = hi - lo > 1 and source.cells.count(code, lo, hi) == hi - lo
    if alike and satisfied(edge.when, code & 7) is False and edge.when is not When.FAILURE:
        end_range(state, job, lo, hi, Status.FAILED, DEPENDENT_FAILED, out)
        return
    for index in range(lo, hi):
        if job.status_of(index) == Status.PENDING:
            try_child(state, job, index, out)


# --- ends without an attempt


def end_child(state: State, job: Job, index: int, status: Status, reason: str, out: Turn) -> None:
    """One waiting task ends, without (a further) attempt."""
    if job.status_of(index) == Status.RUNNABLE:
        state.place_wanted = True  # it may have held a reservation
    job.move(index, status)
    odd = job.odd.get(index)
    if odd is not None:
        odd.not_before = None
    out.waiting_row(job, index, status, reason)
    drop_odd(job, index)
    if job.array:
        out.child_event(job, index, status, None, reason)
    else:
        job.status_reason = reason
    child_ended(job, index, out)


def drop_odd(job: Job, index: int) -> None:
    """An ended task needs its oddities no more; a reopened one gets fresh ones from its row's numbers."""
    job.odd.pop(index, None)


def end_range(state: State, job: Job, lo: int, hi: int, status: Status, reason: str, out: Turn) -> None:
    """All tasks of [lo, hi) that wait end: as one, where every resting child is among them."""
    if job.rest.waiting:
        inside = job.cells.count(int(job.rest), lo, hi)
        if inside and inside == job.resting():
            runs_of_resting = [(0, job.tasks)] if inside == job.tasks else resting_ranges(job)
            if job.rest is Status.RUNNABLE and status is Status.SUCCEEDED:
                raise AssertionError("a RUNNABLE job is never skipped")
            state.place_wanted = state.place_wanted or job.rest is Status.RUNNABLE
            job.move_resting(status)
            job.rest_reason, job.rest_at = reason, out.now
            out.touch(job)
            for first, last in runs_of_resting:
                if job.array and out.children_logged(job):
                    for index in range(first, last):
                        out.child_event(job, index, status, None, reason)
                elif not job.array:
                    job.status_reason = reason
                tell_children(job, first, last, out)
            if job.ended():
                finish(job, out)
                return
    for index in range(lo, hi):
        if job.status_of(index) <= Status.RUNNABLE:
            end_child(state, job, index, status, reason, out)


def end_waiting(state: State, job: Job, status: Status, reason: str, out: Turn) -> None:
    """Everything of the job that waits ends; an array without children ends itself."""
    if job.array and job.tasks == 0:
        if not job.status.terminal:
            job.status_reason = reason
            close(job, status, out)
        return
    end_range(state, job, 0, job.tasks, status, reason, out)


def skip(state: State, job: Job, reason: str, out: Turn) -> None:
    job.skipped = True
    job.status_reason = reason
    end_waiting(state, job, Status.SUCCEEDED, reason, out)


# --- ends


def tell_children(job: Job, lo: int, hi: int, out: Turn) -> None:
    """Tasks [lo, hi) are terminal now: those who wait for single children will hear of it."""
    if job.per_child or job.spec.sequential:
        out.settled_children.append((job, lo, hi))


def child_ended(job: Job, index: int, out: Turn, verdict: Verdict | None = None) -> None:
    """One task is terminal now; the job ends with its last one."""
    tell_children(job, index, index + 1, out)
    if job.ended():
        finish(job, out, verdict)


def finish(job: Job, out: Turn, verdict: Verdict | None = None) -> None:
    """Every task of the job has ended. What the user stopped is not excused by `tolerate`."""
    failed = job.counts[Status.FAILED]
    if not job.array:
        close(job, Status(job.status_of(0)), out, verdict)
    elif failed > job.spec.tolerate or (failed and (job.cancelled or job.terminated)):
        job.status_reason = CHILD_FAILED
        close(job, Status.FAILED, out)
    else:
        close(job, Status.SUCCEEDED, out)


def close(job: Job, status: Status, out: Turn, verdict: Verdict | None = None) -> None:
    if job.status.terminal:
        raise InvalidTransition(f"{job.spec.key} ({job.id}): {job.status.name} → {status.name}")
    job.status = status
    job.stopped_at = out.now
    out.touch(job)
    out.job_event(job, verdict, None if job.array else job.attempts[0] or None)
    out.settled_jobs.append(job)


def set_single_status(job: Job, status: Status, out: Turn, verdict: Verdict | None = None) -> None:
    """The job of a single follows its one task; its end goes through `finish`."""
    job.status = status
    out.touch(job)
    out.job_event(job, verdict, job.attempts[0] or None)
