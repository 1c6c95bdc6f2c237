"""The simulator's own test: bugs planted into the core, one at a time, each found within a bounded number of worlds.

A bug is a change of one function's text; its code object is replaced, so that every reference to it has the bug.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import NamedTuple

import pytest

from flowbatch.core import (
    alone,
    blocked,
    capacity,
    commands,
    crews,
    definitions,
    dependencies,
    environments,
    host,
    lifecycle,
    limits,
    members,
    queue_changes,
    queues,
    ready,
    reclaim,
    recovery,
    reopening,
    retry,
    rooms,
    runs,
    scheduler,
    scheduling_policies,
    shares,
    state,
    submission,
    tokens,
)
from flowbatch.core.state import EnvironmentState
from flowbatch.errors import FlowbatchError
from tests.sim.store import DictStore
from tests.sim.world import World

FIRST_SEED = 50_000


class Bug(NamedTuple):
    function: Callable[..., object]
    old: str
    new: str
    worlds: int = 60  # it is found within so many; most take one to ten


BUGS = {
    "relaunch in every census": Bug(recovery.miss, "if live.life == state.life:", "if False:"),
    "no asked-turn check": Bug(recovery.on_census, "live.changed <= census.asked", "True"),
    "capacity not reserved on rebuild": Bug(
        recovery.restore_live, "environment.hold(live.resources, 1)", "pass"
    ),
    "terminate not durable": Bug(lifecycle.halt, "out.live_row(live)", "pass"),
    "stop not repeated after a crash": Bug(
        recovery.confirm, "if live.halt is not Halt.NONE and not live.stop_told:", "if False:", 600
    ),
    "retry charged on interruption": Bug(
        retry.decide, "case EndClass.INTERRUPTED:\n            return Again(counts=False)",
        "case EndClass.INTERRUPTED:\n            return Again()", 500,
    ),
    "launch before commit": Bug(
        World.persist_and_act, "    if crash is Crash.B", "    self.perform(outcome.effects)\n    if crash is Crash.B"
    ),
    "forget before commit": Bug(
        lifecycle.begin, "live.status = Status.RUNNING",
        "live.status = Status.RUNNING; out.effects.append(Forget(live.key, live.backend))",
    ),
    "stale exit accepted": Bug(
        lifecycle.live_of, "live is not None and live.key.attempt == key.attempt", "live is not None", 150
    ),
    "cascade missing per index": Bug(
        dependencies.try_child, "end_child_waiting(state, job, index, when, source, out)\n            return", "waits = True"
    ),
    "release twice": Bug(
        dependencies.on_need_settled, "need_met(state, job, out)", "need_met(state, job, out); need_met(state, job, out)"
    ),
    "sequential ignoring failure": Bug(
        dependencies.on_children_ended,
        "end_range(state, job, hi, job.tasks, Status.FAILED, DEPENDENT_FAILED, out)",
        "make_child_ready(state, job, hi, out)",
    ),
    "reservation never held": Bug(
        scheduler.reservations, "return {name: group for name, (_, group) in best.items()}", "return {}", 200
    ),
    "reservation outlives its holder": Bug(
        scheduler.place, "while pass_over(state, out):\n            pass", "pass_over(state, out)", 200,
    ),
    "what was tried before a crash is forgotten": Bug(recovery.restore_plain, "attempts[index] = attempt", "pass"),
    "boot ignored": Bug(recovery.miss, "before_boot = live.life < state.same_boot_since", "before_boot = False", 200),
    "a lost attempt never noticed": Bug(recovery.on_census, "miss(state, live, out)", "pass"),
    "what max_running held back is forgotten": Bug(lifecycle.release, "queue.unpark(job)", "pass"),
    "max_running ignored": Bug(ready.Group.head, "job.running >= limit", "False", 200),
    "a job ends once per range": Bug(
        dependencies.end_range, "tell_children(job, first, last, out)",
        "tell_children(job, first, last, out); job.ended() and finish(job, out)",
    ),
    "one attempt too many": Bug(retry.decide, "tries >= policy.attempts", "tries > policy.attempts"),
    "free losses without end": Bug(retry.decide, "losses < policy.lost_free", "policy.lost_free", 400),
    "tolerance off by one": Bug(dependencies.finish, "failed > job.spec.tolerate", "failed >= job.spec.tolerate"),
    "the start is not recorded": Bug(lifecycle.on_started, "out.live_row(live)", "pass"),
    "an unseen start is not told": Bug(lifecycle.settle_task, "begin(state, live, at, out)", "pass", 200),
    "a timeout noticed late": Bug(lifecycle.ended_in_time, "return at <", "return False and at <", 600),
    "backoff forgotten in a crash": Bug(
        lifecycle.wait_or_queue, "if odd is not None and odd.not_before is not None:", "if False:"
    ),
    "finally does not wait": Bug(submission.count_unmet, "unmet += 1", "pass"),
    "finally does not run after a failure": Bug(
        runs.advance, "if run.stage is Stage.MAIN and run.open_finally:",
        "if run.stage is Stage.MAIN and run.open_finally and not run.failed:",
    ),
    "the budget is not fresh after a retry": Bug(reopening.reopen_task, "Odd(base=tried)", "Odd()", 900),
    "the last attempt is overwritten by a retry": Bug(
        reopening.keep_last_attempt, "out.writes.reopened.append((job.no, index, index))", "pass", 200
    ),
    "needs are counted while jobs enter": Bug(
        submission.enter, "        if job.status.terminal:", "        job.unmet = count_unmet(job)\n        if job.status.terminal:", 150
    ),
    "draining is forgotten by the census": Bug(
        recovery.miss, "(state.draining or held)", "False", 900
    ),
    "all nodes are launched with the main one": Bug(
        members.first_moves, "enter(crew, crew.layout.main, moves)",
        "[enter(crew, node, moves) for node in range(len(crew.layout.spans))]",
    ),
    "the end of any node is the end of all": Bug(
        members.follow, "over = not crew.over and node_over(crew, main)",
        "over = not crew.over and any(node_over(crew, each) for each in range(len(crew.layout.spans)))", 900
    ),
    "the others outlive the main node": Bug(members.follow, "wind_up(crew, other, MAIN_EXITED, moves)", "pass"),
    "an attempt is over with its main node": Bug(
        crews.finish, "None if crew.alive else", "None if crew.alive and not crew.over else"
    ),
    "only the main node's room is held": Bug(
        EnvironmentState.hold, "self.held[shape] = self.held.get(shape, 0) + count",
        "shape = shape._replace(vcpus_milli=min(shape.vcpus_milli, 500)); self.held[shape] = self.held.get(shape, 0) + count",
    ),
    "a non-essential end stops its node": Bug(
        members.node_over, "(parts[member].essential or seats[member].gave_up)", "True", 200
    ),
    "SUCCESS is COMPLETE": Bug(
        members.answer, "seat.status is Status.SUCCEEDED if seat.ended else None", "True if seat.ended else None", 400
    ),
    "what can never begin waits": Bug(members.answer, "if seat.ended and not seat.begun:", "if False:", 200),
    "one that never begins is not told on": Bug(members.look_at_node, "again |= try_member", "again = False and try_member", 400),
    "a network goes before those who use it": Bug(members.wind_up, "and member != holder:", ":", 200),
    "that a member was asked to stop is not durable": Bug(
        members.ask, "moves.changed[member] = None", "pass"
    ),
    "a member's stop is not repeated after a crash": Bug(
        crews.tell_again, "if seat.asked and not seat.told:", "if False:", 1500
    ),
    "members are launched again in every census": Bug(
        recovery.miss_member, "if seat.life == state.life:", "if False:"
    ),
    "members are looked at whenever the census was asked": Bug(
        recovery.miss_members, "and seat.changed <= asked", "", 200
    ),
    "a lost member is never noticed": Bug(recovery.on_census, "miss_members(state, live, live.crew, seen, census.asked, out)", "pass"),
    "a startTimeout is forgotten in a crash": Bug(
        crews.restore, "state.timers.add(seat.due_at, TimerKind.DEPENDENCY, live.key[:3])", "pass", 400
    ),
    "a member's start is not recorded": Bug(members.put, "moves.changed[member] = None", "new is Status.RUNNING or moves.changed.update({member: None})"),
    "two attempts have the same addresses": Bug(
        crews.free_slot, "while slot in state.slots:", "slot = SLOTS[0]\n    while False:", 400
    ),
    "the user's stop does not count once the main node is over": Bug(
        crews.outcome, "if live.halt is Halt.TERMINATE:", "if live.halt is Halt.TERMINATE and verdict.end is EndClass.USER:", 1800
    ),
    "an interrupted attempt that waited is charged": Bug(
        crews.outcome, "if live.halt is Halt.INTERRUPT and verdict.end is EndClass.USER:", "if False:", 1500
    ),
    "shares are served by age": Bug(shares.FairShares.key_at, "return (usage", "return 0 * (usage", 240),
    "what a share holds does not count ahead": Bug(shares.FairShares.key_at, "2 * CELLS * AHEAD_MS", "0 * AHEAD_MS", 400),
    "old usage counts as much as new": Bug(shares.FairShares.key_at, "usage = 2 * share.moment", "usage = 99 * share.total + 0", 300),
    "a prefix does not divide its weight": Bug(
        shares.FairShares.weight_of, "share.weight * self.members[share.entry]", "share.weight", 600
    ),
    "a share gets all that comes free at once": Bug(shares.FairShares.turns, "max(1,", "max(3,", 400),
    "a key that has fallen is not looked at": Bug(
        shares.FairShares.weigh, "for line in share.lines:\n        line.rank()", "pass"
    ),
    "usage is not stored": Bug(shares.FairShares.hold, "self.saves[name] = share", "pass"),
    "usage is forgotten in a crash": Bug(state.State.add_queue, "queue.fair.restore(", "list("),
    "a share that has ended its work still holds": Bug(
        lifecycle.release, "queue.fair.hold(job.spec.share or \"\", -live.resources.vcpus_milli, out.now)", "pass"
    ),
    "what survives a crash is not held": Bug(shares.FairShares.resume, "share.held_milli += vcpus_milli", "pass"),
    "the reservation is ignored": Bug(shares.FairShares.cap_milli, "if not reserved:", "if True:", 200),
    "the reservation stops an idle queue": Bug(shares.FairShares.room, "return 1", "return 0", 400),
    "a share is active for ever": Bug(
        shares.FairShares.drop_idle, "if not (share.jobs or share.held_milli or share.total):", "if False:", 200
    ),
    "a node's beginning is not told": Bug(crews.tell_nodes, "in moves.walked:", "in moves.walked[-1:]:", 200),
    "the last node is not told": Bug(crews.tell_nodes, "in moves.walked:", "in moves.walked[:1]:", 200),
    "nobody is told what is blocked": Bug(limits.watch_head, "out.blocked_event(job)", "pass", 300),
    "what was blocked once is never told again": Bug(blocked.judge, "job.told = None", "pass", 1700),
    "the last of a queue is told of, not its head": Bug(limits.head_of, "min(heads", "max(heads", 300),
    "what is blocked is told of each time that it comes to the head": Bug(limits.watch_head, "if job.told != job.blocked:", "if True:", 600),
    "blocked is judged once and for all": Bug(blocked.judge, "job.judged == state.edition", "job.judged", 200),
    "blocked is not judged at once": Bug(dependencies.make_ready, "judge(state, job, out)", "pass", 300),
    "a limit never comes": Bug(limits.on_limit, "cancel_runnable(state", "0 and cancel_runnable(state", 400),
    "a limit's clock is set back by a crash": Bug(
        state.State.add_queue, "queue.stuck = self.past_heads.pop(queue.spec.name, None)", "pass", 300
    ),
    "a cancelled job is tried again": Bug(lifecycle.decide, "job.cancelled or job.terminated", "False", 1500),
    "tokens are not given back": Bug(
        lifecycle.release, "state.tokens.give_back(job.spec.tokens)", "pass"
    ),
    "tokens of what lives on are free after a crash": Bug(
        recovery.restore_live, "state.tokens.hold(job.spec.tokens)", "pass"
    ),
    "what is used up comes back with a crash": Bug(
        tokens.TokenBook.take, "out.tokens[name] = token", "pass"
    ),
    "a retry uses up nothing": Bug(
        scheduler.start, "if job.spec.tokens:", "if job.spec.tokens and attempt == 1:", 200
    ),
    "tokens are counted for one task of a range": Bug(
        scheduler.place_entry, "room = min(room, state.tokens.room(group))", "pass"
    ),
    "nobody keeps tokens": Bug(
        tokens.reserve, "book.kept = {name: group for name, (_, group) in best.items()}", "pass", 400
    ),
    "what can never start keeps tokens": Bug(
        tokens.may_keep, "token is None or quantity > token.total", "token is None", 1500
    ),
    "what was kept is kept for good": Bug(scheduler.serve, "state.tokens.served(group)", "pass", 1500),
    "an unchanged definition is registered again": Bug(
        definitions.pin, "revisions.active[latest] != registration.digest", "True"
    ),
    "a changed definition is not registered": Bug(
        definitions.pin, "revisions.active[latest] != registration.digest", "False", 200
    ),
    "what was deregistered is the latest after a crash": Bug(definitions.restore, "if each.active:", "if True:", 200),
    "numbers of definitions begin anew after a crash": Bug(
        definitions.restore, "revisions.last = max(revisions.last, each.revision)", "pass", 200
    ),
    "an end by a clock that was set back": Bug(lifecycle.end, "max(at, live.started_at or 0)", "at"),
    "what succeeded is reopened too": Bug(
        reopening.reopen_job, "if job.status_of(index) == Status.FAILED:", "if job.status_of(index) >= Status.SUCCEEDED:"
    ),
    "a cancelled child is tried again": Bug(lifecycle.decide, "odd is not None and odd.cancelled", "False", 400),
    "a needed child is taken for its job": Bug(
        dependencies.on_need_settled, "source.status if edge.index is None else source.status_of(edge.index)", "source.status", 150
    ),
    "a failed child that is needed is not counted": Bug(
        submission.count_unmet, "unmet += sum(1 for source, index in job.singles", "unmet += 0 * sum(1 for source, index in job.singles"
    ),
    "what has ended stays": Bug(alone.evict, "state.jobs.pop(job.id, None)", "pass"),
    "a job alone is not loaded": Bug(DictStore.load, "if not self.jobs[no].status.terminal", "if False"),
    "a cancelled child is forgotten in a crash": Bug(commands.cancel_job, "out.live_row(live)", "pass", 60),
    "the host guard forgets what others hold": Bug(
        host.Host.free, "self.guard.minus(sum_of(each.used_here() for each in environments.values()))", "self.guard"
    ),
    "a minimum is not kept": Bug(host.Host.minima, "name != but", "False", 300),
    "the host keeps nothing for who has waited longest": Bug(
        rooms.host_room, "if holder is None or holder is group", "if True", 400
    ),
    "a draining node takes more": Bug(rooms.room_for, "node is not None and node.spec.draining", "False", 400),
    "a task may lie across nodes": Bug(
        capacity.EnvironmentState.slots, "if self.spec.managed", "if True", 200
    ),
    "a node counts nothing after a crash": Bug(recovery.restore_live, "node.hold(live.resources, 1)", "pass", 200),
    "Spot gives nothing back": Bug(reclaim.give_back, "if not wanted or not spot:", "if True:", 300),
    "the oldest is given back first": Bug(reclaim.chosen_for, "reversed(victims)", "victims", 2400),
    "Spot takes what is claimed": Bug(rooms.host_room, "if host.claims is not None:", "if False:", 550),
    "an order to give back is not durable": Bug(
        lifecycle.halt, "out.live_row(live)", "why is Halt.RECLAIM or out.live_row(live)", 550
    ),
    "a deleted environment goes with what runs in it": Bug(
        environments.settle_one, "if found.live:", "if False:", 900
    ),
    "a change by a command is not stored": Bug(environments.on_update, "out.environment_row(found)", "pass", 200),
    "a shared policy changes for nobody": Bug(
        scheduling_policies.on_update, "if queue.spec.policy_name == command.name", "if False"
    ),
    "a stored policy is forgotten": Bug(
        recovery.rebuild, "row.name: row.policy for row in loaded.scheduling", "row.name: row.policy for row in ()"
    ),
    "a change of policy is not stored": Bug(scheduling_policies.respec, "out.queue_row(queue)", "pass"),
    "usage goes with the policy": Bug(queues.QueueState.respec, "self.fair.inherit(before, spec.name)", "pass"),
    "a policy that is used is deleted": Bug(scheduling_policies.on_delete, "if users:", "if False:", 150),
    "a deleted queue leaves its jobs": Bug(
        queue_changes.on_delete, "reached += commands.terminate_job(state, job, None, DELETED, out)", "pass", 600
    ),
}  # fmt: skip


@contextmanager
def planted(bug: Bug) -> Iterator[None]:
    function = bug.function
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    assert bug.old in source, f"{function.__qualname__} no longer has {bug.old!r}: plant the bug anew"
    namespace = dict(function.__globals__)
    exec(
        compile("from __future__ import annotations\n" + source.replace(bug.old, bug.new), "planted", "exec"), namespace
    )
    code = function.__code__
    function.__code__ = namespace[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = code


# Rare ones are looked for from shortly before the world that finds them: the hundreds before it took minutes of every run of the tests.
# Where the generator changes, the search goes on as far as the bug's `worlds` allow.
BEGINS = {
    "what was blocked once is never told again": 5225,
    "the end of any node is the end of all": 855,
    "the user's stop does not count once the main node is over": 590,
    "a deleted environment goes with what runs in it": 535,
    "two attempts have the same addresses": 375,
    "the budget is not fresh after a retry": 360,
    "stop not repeated after a crash": 340,
    "the oldest is given back first": 320,
    "Spot gives nothing back": 320,
    "a prefix does not divide its weight": 275,
    "an order to give back is not durable": 265,
    "an unchanged definition is registered again": 245,
    "draining is forgotten by the census": 185,
    "what is blocked is told of each time that it comes to the head": 180,
    "SUCCESS is COMPLETE": 160,
    "old usage counts as much as new": 160,
    "a share is active for ever": 145,
    "free losses without end": 125,
    "what can never start keeps tokens": 555,
    "a timeout noticed late": 115,
    "a draining node takes more": 110,
    "a limit's clock is set back by a crash": 100,
    "a needed child is taken for its job": 80,
    "a startTimeout is forgotten in a crash": 70,
    "the host keeps nothing for who has waited longest": 70,
    "boot ignored": 65,
    "a cancelled job is tried again": 65,
    "retry charged on interruption": 60,
    "a cancelled child is tried again": 60,
    "what a share holds does not count ahead": 55,
    "the last of a queue is told of, not its head": 55,
    "shares are served by age": 55,
    "blocked is not judged at once": 55,
    "a share gets all that comes free at once": 55,
    "what was deregistered is the latest after a crash": 50,
    "nobody keeps tokens": 50,
    "an interrupted attempt that waited is charged": 45,
    "blocked is judged once and for all": 40,
    "a deleted queue leaves its jobs": 40,
    "a changed definition is not registered": 35,
}


def worlds_until_found(bug: Bug, most: int, begin: int = 0) -> int | None:
    with planted(bug):
        for count in range(begin + 1, begin + most + 1):
            try:
                World(FIRST_SEED + count).play()
            except (AssertionError, FlowbatchError, LookupError, TypeError, AttributeError):
                return count
    return None


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if bug.worlds > 60 else name for name, bug in BUGS.items()]
)
def test_a_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]
    assert worlds_until_found(bug, bug.worlds, BEGINS.get(name, 0)) is not None, (
        f"{bug.worlds} worlds have not found it"
    )


@pytest.mark.slow
def test_where_nothing_is_planted_nothing_is_found() -> None:
    nothing = Bug(retry.backoff_ms, "return", "return")
    assert worlds_until_found(nothing, 60) is None
    assert BUGS.keys() >= BEGINS.keys()
