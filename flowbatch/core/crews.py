"""Members of live attempts: their news, and what follows from these, as rows and effects.

`members` decides; here its moves become launches and stops. What news mean to the attempt itself is given back as a Step.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final, NamedTuple

from msgspec.structs import replace

from flowbatch.core import members
from flowbatch.core.ending import HOST_LOST, INTERRUPTED, TERMINATED, TIMED_OUT
from flowbatch.core.launching import maker_of
from flowbatch.core.members import Crew, Layout, Moves
from flowbatch.core.state import Live, State
from flowbatch.core.timers import TimerKind
from flowbatch.core.turn import Turn
from flowbatch.model.effects import Forget, Launch, Place, Stop
from flowbatch.model.ending import EndClass, Halt, Verdict
from flowbatch.model.ids import AttemptKey, JobId, Millis
from flowbatch.model.jobspec import Part
from flowbatch.model.rows import MemberRow
from flowbatch.model.status import Status

NODE_BITS: Final = 10  # 1,000 nodes
WORDS: Final = {
    Halt.TIMEOUT: TIMED_OUT,
    Halt.TERMINATE: TERMINATED,
    Halt.INTERRUPT: INTERRUPTED,
    Halt.RECLAIM: HOST_LOST,
}
SLOTS: Final = range(64, (1 << 14) - 1)  # 127.1.0.0 to 127.255.251.255


class Step(NamedTuple):
    """What has become of the attempt: when it began, and how it ended; None where it did not just now."""

    began_at: Millis | None = None
    verdict: Verdict | None = None


def enlist(state: State, live: Live, layout: Layout, out: Turn) -> None:
    """The attempt was placed, all of its members with it: the first are launched."""
    live.crew = crew = Crew.of(layout)
    if layout.nodes is not None and live.backend not in state.networking:
        crew.slot = free_slot(state, live.key.job)
        state.slots.add(crew.slot)
    carry_out(state, live, crew, members.first_moves(crew, out.now), out)


def free_slot(state: State, job: JobId) -> int:
    """Of addresses that no other live attempt has. It begins with the job's id: engines on one machine know nothing of each other."""
    slot = SLOTS[zlib.crc32(job.encode()) % len(SLOTS)]
    while slot in state.slots:
        slot = slot + 1 if slot + 1 in SLOTS else SLOTS[0]
    return slot


def address_of(slot: int, node: int) -> str:
    number = slot << NODE_BITS | node + 1
    return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def slot_of(address: str) -> int:
    _, high, middle, low = map(int, address.split("."))
    return (high << 16 | middle << 8 | low) >> NODE_BITS


# --- news


def on_started(state: State, live: Live, crew: Crew, member: int, at: Millis, address: str, out: Turn) -> Step:
    """Step() where that was known already, or nobody waits for it."""
    if not may_begin(crew, member):
        return Step()
    moves = Moves(out.now)
    members.begin(crew, member, at, address, moves)
    return finish(state, live, crew, moves, out)


def may_begin(crew: Crew, member: int) -> bool:
    """It was launched, and nobody has told that it runs."""
    return awaited(crew, member) and crew.seats[member].status is not Status.RUNNING


def on_ended(state: State, live: Live, crew: Crew, member: int, verdict: Verdict, at: Millis, out: Turn) -> Step:
    if not awaited(crew, member):
        return Step()
    moves = Moves(out.now)
    if live.halt is Halt.NONE:
        verdict = members.ours(crew, member, verdict)
    out.effects.append(Forget(live.key.of_member(member), live.backend))
    members.end(crew, member, verdict, at, moves)
    return finish(state, live, crew, moves, out)


def on_overdue(state: State, live: Live, out: Turn) -> Step:
    """A startTimeout may be over."""
    crew = live.crew
    if crew is None:
        return Step()
    moves = Moves(out.now)
    members.give_up_waiting(crew, moves)
    return finish(state, live, crew, moves, out)


def halt(state: State, live: Live, crew: Crew, out: Turn) -> None:
    """The attempt was asked to stop, perhaps once more: those who know are told again, for a later stop may hurry."""
    moves = Moves(out.now)
    again = [member for member, seat in enumerate(crew.seats) if seat.open and seat.asked]
    members.stop_all(crew, live.halt_reason or WORDS[live.halt], moves)
    moves.stop += again
    carry_out(state, live, crew, moves, out)


def finish(state: State, live: Live, crew: Crew, moves: Moves, out: Turn) -> Step:
    carry_out(state, live, crew, moves, out)
    began_at = None
    if crew.running and live.status is Status.STARTING:
        began_at = Millis(max(seat.started_at or 0 for seat in essential(crew)))
    return Step(began_at, None if crew.alive else outcome(live, crew))


def essential(crew: Crew) -> list[members.Seat]:
    """Of the main node."""
    layout = crew.layout
    return [crew.seats[member] for member in layout.spans[layout.main] if layout.parts[member].essential]


def outcome(live: Live, crew: Crew) -> Verdict:
    """The main node's end, unless the user's stop came before the last member had gone."""
    verdict = members.result(crew)
    if live.halt is Halt.TERMINATE:
        reason = live.halt_reason or TERMINATED
        return Verdict(EndClass.USER, verdict.exit_code, None, reason, verdict.truncated)
    if live.halt is Halt.RECLAIM and verdict.end is not EndClass.SUCCESS:
        return Verdict(EndClass.INFRA, None, None, live.halt_reason or HOST_LOST, verdict.truncated)
    if live.halt is Halt.INTERRUPT and verdict.end is EndClass.USER:
        return Verdict(EndClass.INTERRUPTED, None, None, INTERRUPTED)
    if verdict.end is EndClass.USER:
        return replace(verdict, end=EndClass.APP)  # we stopped an essential container, and nobody had asked us to
    return verdict


# --- what follows


def carry_out(state: State, live: Live, crew: Crew, moves: Moves, out: Turn) -> None:
    for member in moves.changed:
        seat = crew.seats[member]
        seat.changed = state.turn
        if seat.status is Status.RUNNABLE and seat.due_at is not None:
            state.timers.add(seat.due_at, TimerKind.DEPENDENCY, live.key[:3])
    for member in moves.launch:
        seat = crew.seats[member]
        seat.life = state.life
        if crew.slot is not None:
            seat.address = address_of(crew.slot, crew.layout.node_of[member])
    for member in moves.changed:
        out.member_row(live, member, crew.seats[member])
    tell_nodes(live, crew, moves, out)
    if moves.launch:
        out.effects += launches(live, crew, moves.launch)
    for member in moves.stop:
        crew.seats[member].told = True
        stop(live, crew, member, out)


def tell_nodes(live: Live, crew: Crew, moves: Moves, out: Turn) -> None:
    """What its principal does, a node does."""
    layout = crew.layout
    if layout.nodes is None:
        return
    for member, status in moves.walked:
        node = layout.node_of[member]
        if member == layout.principals[node]:
            out.node_event(live, node, status, crew.seats[member])


def launches(live: Live, crew: Crew, wanted: Iterable[int]) -> list[Launch]:
    layout, maker, main_address = crew.layout, maker_of(live), crew.main_address()
    found = []
    for member in wanted:
        node, part = layout.node_of[member], layout.parts[member]
        group = layout.group_of(node)
        holder = layout.holders[node]
        place = Place(
            part, layout.label(member), node, layout.nodes, layout.main, crew.seats[member].address or "",
            "" if node == layout.main else main_address,
            None if holder in (None, member) else live.key.of_member(holder or 0), holder == member,
            group.share_ipc, group.share_pid,
        )  # fmt: skip
        found.append(maker.launch(live.key.of_member(member), part.spec.resources, place))
    return found


def stop(live: Live, crew: Crew, member: int, out: Turn) -> None:
    part: Part = crew.layout.parts[member]
    grace_ms = 0 if part.holder else live.grace_ms(part.spec)
    why = live.halt if live.halt is not Halt.NONE else Halt.TERMINATE
    out.effects.append(Stop(live.key.of_member(member), live.backend, grace_ms, why))


# --- the census


def awaited(crew: Crew, member: int) -> bool:
    """News of it are news: it was launched, and has not ended."""
    return 0 <= member < len(crew.seats) and crew.seats[member].open


def open_members(live: Live) -> list[AttemptKey]:
    crew = live.crew
    return [] if crew is None else [live.key.of_member(m) for m, seat in enumerate(crew.seats) if seat.open]


def tell_again(live: Live, crew: Crew, member: int, out: Turn) -> None:
    """A stop of an earlier life may never have reached the backend."""
    seat = crew.seats[member]
    if seat.asked and not seat.told:
        seat.told = True
        stop(live, crew, member, out)


def launch_again(state: State, live: Live, crew: Crew, member: int, out: Turn) -> None:
    seat = crew.seats[member]
    seat.life, seat.changed = state.life, state.turn
    out.member_row(live, member, seat)
    out.effects += launches(live, crew, [member])


# --- the start of a life


def restore(state: State, live: Live, layout: Layout, rows: Iterable[MemberRow]) -> None:
    """The crew that wrote these rows; who has none waits."""
    live.crew = crew = Crew.of(layout)
    for row in rows:
        seat = crew.seats[row.member]
        seat.status, seat.life, seat.asked, seat.address = row.status, row.life, row.asked, row.address
        seat.due_at, seat.started_at, seat.stopped_at = row.due_at, row.started_at, row.stopped_at
        if row.end is not None:
            seat.verdict = Verdict(row.end, row.exit_code, row.reason, row.status_reason or "", row.truncated)
        if seat.status is Status.RUNNABLE and seat.due_at is not None:
            state.timers.add(seat.due_at, TimerKind.DEPENDENCY, live.key[:3])
    crew.alive = sum(seat.open for seat in crew.seats)
    crew.running = members.node_runs(crew, layout.main)
    crew.over = members.node_over(crew, layout.main)
    if layout.nodes is not None and live.backend not in state.networking:
        crew.slot = slot_of(crew.main_address())
        state.slots.add(crew.slot)
