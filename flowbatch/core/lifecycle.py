"""What a fact changes: an attempt has begun, has failed to begin, has ended.

News of another attempt than the live one is stale and dropped in one line; so is a start that was already seen.
"""

from __future__ import annotations

import math

from flowbatch.core import access, crews, dependencies, retry
from flowbatch.core.blocked import judge
from flowbatch.core.crews import Step
from flowbatch.core.ending import classify
from flowbatch.core.members import Crew
from flowbatch.core.retry import Again
from flowbatch.core.state import EnvironmentState, Live, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.effects import Forget, Stop
from flowbatch.model.ending import EndClass, Halt, Verdict
from flowbatch.model.ids import AttemptKey, Millis
from flowbatch.model.status import Status
from flowbatch.model.stimuli import Exited, LaunchFailed, Started


def live_of(state: State, key: AttemptKey) -> Live | None:
    """The live attempt with exactly this key, or None where the news is stale."""
    live = state.live.get(key[:2])
    return live if live is not None and live.key.attempt == key.attempt else None


def on_started(state: State, fact: Started, out: Turn) -> None:
    live = live_of(state, fact.key)
    if live is None:
        return
    if live.crew is not None:
        if crews.may_begin(live.crew, fact.key.member):
            out.image_row(live, fact.key, fact.image)
        step = crews.on_started(state, live, live.crew, fact.key.member, fact.at, fact.address, out)
        take(state, live, step, fact.at, out)
    elif live.status is not Status.RUNNING:
        out.image_row(live, fact.key, fact.image)
        begin(state, live, fact.at, out)
        out.live_row(live)


def take(state: State, live: Live, step: Step, at: Millis, out: Turn) -> None:
    """What news of a member mean to its attempt."""
    if step.began_at is not None:
        begin(state, live, step.began_at, out)
        out.live_row(live)
    if step.verdict is not None:
        end(state, live, step.verdict, at, out)


def begin(state: State, live: Live, at: Millis, out: Turn) -> None:
    """STARTING → RUNNING."""
    job, idx = live.job, live.key.idx
    live.status = Status.RUNNING
    live.started_at = at
    live.changed = state.turn
    job.move(idx, Status.RUNNING)
    if job.started_at is None:
        job.started_at = at
        out.touch(job)
    if job.array:
        out.child_event(job, idx, Status.RUNNING, None, None)
    else:
        dependencies.set_single_status(job, Status.RUNNING, out)
    if job.spec.timeout_ms is not None:
        arm_timeout(state, live)


def arm_timeout(state: State, live: Live) -> None:
    timeout_ms = live.job.spec.timeout_ms
    enforced = live.backend in state.enforcing and live.job.layout is None
    if timeout_ms is not None and live.started_at is not None and not enforced:
        state.timers.add(Millis(live.started_at + timeout_ms), TimerKind.TIMEOUT, live.key[:3])


def on_launch_failed(state: State, fact: LaunchFailed, out: Turn) -> None:
    live = live_of(state, fact.key)
    if live is None:
        return
    if fact.evidence.breach:
        access.on_breach(fact, out)
    verdict = classify(fact.evidence, live.halt, live.halt_reason)
    if live.crew is None:
        end(state, live, verdict, fact.at, out)
    else:
        step = crews.on_ended(state, live, live.crew, fact.key.member, verdict, fact.at, out)
        take(state, live, step, fact.at, out)


def on_exited(state: State, fact: Exited, out: Turn) -> None:
    live = live_of(state, fact.key)
    if live is None:
        return
    if live.crew is not None:
        on_member_exited(state, live, live.crew, fact, out)
        return
    if live.status is Status.STARTING:
        out.image_row(live, fact.key, fact.image)
    if live.status is Status.STARTING and fact.evidence.start_error is None and fact.started_at is not None:
        begin(state, live, fact.started_at, out)  # so that RUNNING is seen before the end
    halt = Halt.NONE if ended_in_time(live, fact.at) else live.halt
    end(state, live, classify(fact.evidence, halt, live.halt_reason), fact.at, out)


def on_member_exited(state: State, live: Live, crew: Crew, fact: Exited, out: Turn) -> None:
    member = fact.key.member
    if crews.may_begin(crew, member):
        out.image_row(live, fact.key, fact.image)
    began_at = fact.started_at
    if began_at is None and fact.evidence.exit_code is not None:
        began_at = fact.at  # its start was never seen, and others may depend on it
    if fact.evidence.start_error is None and began_at is not None:
        step = crews.on_started(state, live, crew, member, began_at, "", out)
        take(state, live, step, fact.at, out)
    halt = Halt.NONE if ended_in_time(live, fact.at) else live.halt
    verdict = classify(fact.evidence, halt, live.halt_reason)
    take(state, live, crews.on_ended(state, live, crew, member, verdict, fact.at, out), fact.at, out)


def ended_in_time(live: Live, at: Millis) -> bool:
    """Our timer came first only because the news came late: the engine was down, or busy, when the attempt ended."""
    timeout_ms = live.job.spec.timeout_ms
    if live.halt is not Halt.TIMEOUT or timeout_ms is None or live.started_at is None:
        return False
    return at < live.started_at + timeout_ms


def end(state: State, live: Live, verdict: Verdict, at: Millis, out: Turn) -> None:
    """An attempt has ended: its capacity is free, and its task succeeds, fails or goes back to RUNNABLE."""
    release(state, live, out)
    if live.crew is None:  # members are forgotten one by one
        out.effects.append(Forget(live.key, live.backend))
    at = Millis(max(at, live.started_at or 0))  # the clocks of two machines, or of one that was set back
    if verdict.end is EndClass.SUCCESS:
        settle_task(state, live, Status.SUCCEEDED, verdict, at, out)
        return
    decision = decide(live, verdict)
    if isinstance(decision, Again):
        requeue(state, live, verdict, decision, at, out)
    else:
        settle_task(state, live, Status.FAILED, verdict, at, out)


def decide(live: Live, verdict: Verdict) -> retry.Decision:
    job = live.job
    odd = job.odd.get(live.key.idx)
    stopped = job.cancelled or job.terminated or (odd is not None and odd.cancelled)
    if stopped and verdict.end is not EndClass.INTERRUPTED:
        return retry.GIVE_UP
    base, losses = (odd.base, odd.lost) if odd is not None else (0, 0)
    return retry.decide(job.spec.retry, verdict, live.key.attempt - base, losses)


def release(state: State, live: Live, out: Turn) -> None:
    """The attempt holds nothing any more."""
    job, queue = live.job, live.queue
    del state.live[live.key[:2]]
    if live.crew is not None and live.crew.slot is not None:
        state.slots.discard(live.crew.slot)
    live.environment.let_go(live.resources)
    if live.node is not None:
        live.node.let_go(live.resources)
    queue.live -= 1
    job.running -= 1
    if queue.fair is not None:
        queue.fair.hold(job.spec.share or "", -live.resources.vcpus_milli, out.now)
        out.share_rows(queue)
    if job.spec.tokens:
        state.tokens.give_back(job.spec.tokens)
    if job.parked:
        queue.unpark(job)
    state.place_wanted = True


def settle_task(state: State, live: Live, status: Status, verdict: Verdict, at: Millis, out: Turn) -> None:
    job, idx = live.job, live.key.idx
    if live.status is Status.STARTING and status is Status.SUCCEEDED:
        begin(state, live, at, out)  # its start was never seen, and never told
    job.move(idx, status)
    out.ended_row(live, status, verdict, at)
    dependencies.drop_odd(job, idx)
    if job.array:
        out.child_event(job, idx, status, verdict, verdict.status_reason, live.started_at)
    else:
        job.status_reason = verdict.status_reason
    dependencies.child_ended(job, idx, out, verdict)


def requeue(state: State, live: Live, verdict: Verdict, again: Again, at: Millis, out: Turn) -> None:
    """Back to RUNNABLE, to the front of the queue, after the backoff."""
    job, idx = live.job, live.key.idx
    job.move(idx, Status.RUNNABLE)
    if not again.counts or again.memory_factor != 1.0 or again.delay_ms:
        odd = job.oddity(idx)
        odd.base += 0 if again.counts else 1
        odd.lost += 1 if again.free_loss else 0
        # an end seen late has waited already; one that is stamped ahead of our clock waits no longer for it
        odd.not_before = Millis(min(at, out.now) + again.delay_ms) if again.delay_ms else None
        if again.memory_factor != 1.0:
            odd.memory_mib = grown_memory(state, live, again.memory_factor)
    out.past_attempt(live, verdict, at)
    out.waiting_row(job, idx, Status.RUNNABLE, verdict.status_reason)
    if job.array:
        judge(state, job, out)
        out.child_event(job, idx, Status.RUNNABLE, verdict, verdict.status_reason, live.started_at)
    else:
        job.status_reason = verdict.status_reason
        judge(state, job, out)
        dependencies.set_single_status(job, Status.RUNNABLE, out, verdict)
    wait_or_queue(state, live.key)


def wait_or_queue(state: State, key: AttemptKey) -> None:
    """A RUNNABLE task waits for its backoff outside the queue, or is ready."""
    job = state.jobs[key.job]
    odd = job.odd.get(key.idx)
    if odd is not None and odd.not_before is not None:
        state.timers.add(odd.not_before, TimerKind.BACKOFF, key[:3])
    else:
        dependencies.queue_child(state, job, key.idx)


def grown_memory(state: State, live: Live, factor: float) -> int:
    """`memory: x2`, but never beyond the largest environment that could run the job: it would wait for ever."""
    wanted = math.ceil(live.resources.memory_mib * factor)
    largest = max((most_memory_mib(state, place) for place, _ in state.places_of(live.job)), default=wanted)
    return max(min(wanted, largest), live.resources.memory_mib)


def most_memory_mib(state: State, place: EnvironmentState) -> int:
    return state.host.capped(state.environments, place.spec).largest().memory_mib


def halt(state: State, live: Live, why: Halt, reason: str | None, out: Turn) -> None:
    """Asks a live attempt to stop; the wish is durable before the backend hears of it. A stronger wish replaces a weaker:
    TERMINATE every other, an interruption or a timeout the notice of a reclaim."""
    weaker = live.halt is Halt.NONE or (live.halt is Halt.RECLAIM and why is not Halt.RECLAIM)
    if weaker or (why is Halt.TERMINATE and live.halt is not Halt.TERMINATE):
        live.halt = why
        live.halt_reason = reason
        live.changed = state.turn
        out.live_row(live)
    live.stop_told = True
    if live.crew is not None:
        crews.halt(state, live, live.crew, out)
    else:
        out.effects.append(Stop(live.key, live.backend, live.grace_ms(live.job.spec), live.halt))
