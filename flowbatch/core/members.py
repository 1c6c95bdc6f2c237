"""Which member of an attempt is launched, and which is stopped: nodes of a multi-node parallel job, containers of a task.

To the scheduler an attempt is one task, whose shape is the sum of its members: all or nothing, and reservations, come with that.
What goes on inside is decided here, from facts about members alone (aws-batch.md §6.6 and §8.3; a task of several containers is
a job of one node):

- the main node first; the others, all of them, once it is RUNNING: once each of its essential containers has begun;
- within a node a container waits for what its dependsOn names, and ends unstarted where that can never come true, or where its
  startTimeout is over, which ends the node;
- the end of an essential container is the end of its node: the node's others are stopped;
- the end of the main node is the end of the attempt: all other nodes are stopped. That of another node changes nothing;
- the attempt is over, and holds its capacity until then, once no member of it is alive.

A fact about one member is looked at with its node alone; all nodes are gone through twice in an attempt's life, once the main
node runs and once it is over. Whoever keeps a network for a node begins first and is stopped last.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from flowbatch.core.ending import EXITED, FAILED_TO_START
from flowbatch.errors import InvalidTransition
from flowbatch.model.ending import EndClass, Verdict
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import After, Condition, JobSpec, Members, NodeGroup, Part
from flowbatch.model.status import Status

MAIN_EXITED: Final = "Main node exited"
ALLOWED: Final = frozenset(
    {
        (Status.RUNNABLE, Status.STARTING),
        (Status.RUNNABLE, Status.FAILED),  # it never begins
        (Status.STARTING, Status.RUNNING),
        (Status.STARTING, Status.FAILED),
        (Status.RUNNING, Status.SUCCEEDED),
        (Status.RUNNING, Status.FAILED),
    }
)


class Layout:
    """The members of every attempt of a job, numbered node by node."""

    __slots__ = ("groups", "holders", "main", "node_of", "nodes", "parts", "principals", "spans", "spec")

    def __init__(self, spec: Members) -> None:
        self.spec = spec
        self.main = spec.main
        self.nodes = spec.nodes
        self.groups: list[NodeGroup] = []  # of each node
        self.parts: list[Part] = []
        self.node_of: list[int] = []
        self.spans: list[range] = []  # of a node: the numbers of its members
        self.principals: list[int] = []  # of a node: the member that stands for it, the first that is essential
        self.holders: list[int | None] = []  # of a node: the member that keeps its network, where there is one
        for group in spec.groups:
            principal = next(place for place, part in enumerate(group.parts) if part.essential)
            holder = next((place for place, part in enumerate(group.parts) if part.holder), None)
            for node in range(group.first, group.last + 1):
                self.groups.append(group)
                low = len(self.parts)
                self.principals.append(low + principal)
                self.holders.append(None if holder is None else low + holder)
                self.parts += group.parts
                self.node_of += [node] * len(group.parts)
                self.spans.append(range(low, len(self.parts)))

    def label(self, member: int) -> str:
        """As people name it: `3` a node, `sidecar` a container of a task, `3.sidecar` one of several of a node."""
        name, node = self.parts[member].name, self.node_of[member]
        if self.nodes is None:
            return name
        return f"{node}.{name}" if name else str(node)

    def group_of(self, node: int) -> NodeGroup:
        return self.groups[node]

    def named(self, label: str) -> int | None:
        """The member that people mean; the bare number of a node of several containers is its principal."""
        for member in range(len(self.parts)):
            if not self.parts[member].holder and self.label(member) == label:
                return member
        if self.nodes is not None and label.isascii() and label.isdigit() and int(label) < self.nodes:
            return self.principals[int(label)]
        return None


def layout_of(spec: JobSpec) -> Layout | None:
    return None if spec.members is None else Layout(spec.members)


class Seat(Struct):
    """A member in one attempt. `verdict` is there once it has ended, or is sure never to begin."""

    status: Status = Status.RUNNABLE
    life: int = 0
    changed: int = 0  # the turn that changed it last
    address: str | None = None
    due_at: Millis | None = None  # while it waits: when its startTimeout is over; kept where that was what ended it
    started_at: Millis | None = None
    stopped_at: Millis | None = None
    verdict: Verdict | None = None
    asked: bool = False  # to stop
    told: bool = False  # in this life: a stop of an earlier one may have been lost with it

    @property
    def open(self) -> bool:
        return self.status.live

    @property
    def begun(self) -> bool:
        return self.started_at is not None

    @property
    def ended(self) -> bool:
        return self.status.terminal

    @property
    def gave_up(self) -> bool:
        return self.due_at is not None and self.ended


class Moves(Struct):
    """What follows from a fact: who is launched, who is stopped, and whose row is another."""

    now: Millis
    launch: list[int] = field(default_factory=list)
    stop: list[int] = field(default_factory=list)
    changed: dict[int, None] = field(default_factory=dict)
    walked: list[tuple[int, Status]] = field(default_factory=list)  # every new status, in order


class Crew(Struct, eq=False):
    """The members of a live attempt. Only the functions of this module change it."""

    layout: Layout
    seats: list[Seat]
    alive: int = 0  # launched, and not ended; none: the attempt is over
    running: bool = False  # the main node is, or was
    over: bool = False  # the main node is
    slot: int | None = None  # of addresses, where the backend gives none

    @classmethod
    def of(cls, layout: Layout) -> Crew:
        return cls(layout, [Seat() for _ in layout.parts])

    def main_address(self) -> str:
        found = (self.seats[member].address for member in self.layout.spans[self.layout.main])
        return next((address for address in found if address), "")


# --- facts


def first_moves(crew: Crew, now: Millis) -> Moves:
    """Of a fresh crew: the main node enters."""
    moves = Moves(now)
    enter(crew, crew.layout.main, moves)
    return moves


def begin(crew: Crew, member: int, at: Millis, address: str, moves: Moves) -> None:
    seat = crew.seats[member]
    put(crew, member, Status.RUNNING, moves)
    seat.started_at = at
    seat.address = address or seat.address
    follow(crew, crew.layout.node_of[member], moves)


def end(crew: Crew, member: int, verdict: Verdict, at: Millis, moves: Moves) -> None:
    seat = crew.seats[member]
    put(crew, member, Status.SUCCEEDED if verdict.end is EndClass.SUCCESS else Status.FAILED, moves)
    seat.stopped_at = Millis(max(at, seat.started_at or 0))
    seat.verdict = verdict
    follow(crew, crew.layout.node_of[member], moves)


def stop_all(crew: Crew, why: str, moves: Moves) -> None:
    """The attempt shall end."""
    for node in range(len(crew.layout.spans)):
        wind_up(crew, node, why, moves)
    crew.over = crew.over or node_over(crew, crew.layout.main)


def give_up_waiting(crew: Crew, moves: Moves) -> None:
    """Of members whose startTimeout is over while they still wait: their nodes end."""
    for member, seat in enumerate(crew.seats):
        if seat.status is Status.RUNNABLE and seat.due_at is not None and seat.due_at <= moves.now:
            due_at, part = seat.due_at, crew.layout.parts[member]
            text = f"startTimeout: what {part.name} depends on did not come true in {(part.start_timeout_ms or 0) / 1000:g} s"
            drop(crew, member, Verdict(EndClass.START, None, text, FAILED_TO_START), moves)
            seat.due_at = due_at
            follow(crew, crew.layout.node_of[member], moves)


def put(crew: Crew, member: int, new: Status, moves: Moves) -> None:
    """Raises InvalidTransition where a member cannot go that way."""
    seat = crew.seats[member]
    if (seat.status, new) not in ALLOWED:
        raise InvalidTransition(f"member {member}: {seat.status.name} → {new.name}")
    crew.alive += (new is Status.STARTING) - (seat.open and new.terminal)
    seat.status = new
    moves.changed[member] = None
    moves.walked.append((member, new))


def drop(crew: Crew, member: int, verdict: Verdict, moves: Moves) -> None:
    """It waits, and never begins."""
    put(crew, member, Status.FAILED, moves)
    seat = crew.seats[member]
    seat.due_at = None
    seat.stopped_at = moves.now
    seat.verdict = verdict


# --- what follows


def follow(crew: Crew, node: int, moves: Moves) -> None:
    """What news of a node mean to it and, where it is the main one, to all."""
    look_at_node(crew, node, moves)
    main = crew.layout.main
    if node != main:
        return
    runs = not crew.running and node_runs(crew, main)
    over = not crew.over and node_over(crew, main)
    crew.running, crew.over = crew.running or runs, crew.over or over
    if runs or over:
        for other in range(len(crew.layout.spans)):
            if other == main:
                continue
            if crew.over:
                wind_up(crew, other, MAIN_EXITED, moves)
            else:
                enter(crew, other, moves)


def node_runs(crew: Crew, node: int) -> bool:
    """Each of its essential containers has begun."""
    parts, seats = crew.layout.parts, crew.seats
    return all(seats[member].begun for member in crew.layout.spans[node] if parts[member].essential)


def node_over(crew: Crew, node: int) -> bool:
    """An essential container has ended, for whatever reason, or one has given up waiting."""
    parts, seats = crew.layout.parts, crew.seats
    return any(
        seats[member].ended and (parts[member].essential or seats[member].gave_up) for member in crew.layout.spans[node]
    )


def enter(crew: Crew, node: int, moves: Moves) -> None:
    """The node may begin: the clocks of its startTimeouts run from now on."""
    for member in crew.layout.spans[node]:
        part = crew.layout.parts[member]
        waits = (
            crew.seats[member].status is Status.RUNNABLE
        )  # and was not stopped before the main node's start was told
        if waits and part.after and part.start_timeout_ms is not None:
            crew.seats[member].due_at = Millis(moves.now + part.start_timeout_ms)
            moves.changed[member] = None
    look_at_node(crew, node, moves)


def look_at_node(crew: Crew, node: int, moves: Moves) -> None:
    again = True
    while again:  # that one never begins may mean the same to the next
        again = False
        if node_over(crew, node):
            wind_up(crew, node, EXITED, moves)
            return
        for member in crew.layout.spans[node]:
            if crew.seats[member].status is Status.RUNNABLE:
                again |= try_member(crew, node, member, moves)


def try_member(crew: Crew, node: int, member: int, moves: Moves) -> bool:
    """Launches it if all it depends on has come true. True where it never will."""
    after = crew.layout.parts[member].after
    answers = [answer(crew, node, each) for each in after]
    if False in answers:
        lost = after[answers.index(False)]
        source = crew.layout.spans[node][lost.part]
        needed, ended = crew.layout.parts[source], crew.seats[source].verdict
        text: str | None = f"it depends on {needed.name} ({lost.condition}), which can no longer come true"
        if needed.holder and ended is not None:  # nobody knows of it: its reason is ours
            text = ended.reason
        drop(crew, member, Verdict(EndClass.START, None, text, FAILED_TO_START), moves)
        return True
    if all(answers):
        put(crew, member, Status.STARTING, moves)
        crew.seats[member].due_at = None
        moves.launch.append(member)
    return False


def answer(crew: Crew, node: int, after: After) -> bool | None:
    """Whether it holds; None while nobody can say."""
    seat = crew.seats[crew.layout.spans[node][after.part]]
    if seat.ended and not seat.begun:
        return False
    match after.condition:
        case Condition.START:
            return True if seat.begun else None
        case Condition.COMPLETE:
            return True if seat.ended else None
        case Condition.SUCCESS:
            return seat.status is Status.SUCCEEDED if seat.ended else None


def wind_up(crew: Crew, node: int, why: str, moves: Moves) -> None:
    """Nothing more of the node begins, and what lives is stopped; the keeper of its network goes last."""
    seats, holder = crew.seats, crew.layout.holders[node]
    alone = True
    for member in crew.layout.spans[node]:
        if seats[member].status is Status.RUNNABLE:
            drop(crew, member, Verdict(EndClass.USER, None, None, why), moves)
        elif seats[member].open and member != holder:
            alone = False
            ask(crew, member, moves)
    if holder is not None and alone and seats[holder].open:
        ask(crew, holder, moves)


def ask(crew: Crew, member: int, moves: Moves) -> None:
    seat = crew.seats[member]
    if not seat.asked:
        seat.asked = seat.told = True
        moves.stop.append(member)
        moves.changed[member] = None


# --- how it ended


def ours(crew: Crew, member: int, verdict: Verdict) -> Verdict:
    """Of a member that we stopped because its node, or the main one, was over: that is what is said of it."""
    if not crew.seats[member].asked or verdict.end is EndClass.SUCCESS:
        return verdict
    why = MAIN_EXITED if crew.over and crew.layout.node_of[member] != crew.layout.main else EXITED
    if verdict.end is EndClass.INFRA:
        return Verdict(EndClass.USER, None, verdict.reason, why, verdict.truncated)
    return replace(verdict, status_reason=why)


def result(crew: Crew) -> Verdict:
    """Of the attempt, which is its main node's: SUCCEEDED where all essential containers of that exited with 0, else what the
    first that failed says, those that failed by themselves before those that we stopped."""
    failed = []
    for member in crew.layout.spans[crew.layout.main]:
        seat = crew.seats[member]
        if seat.status is Status.FAILED and (crew.layout.parts[member].essential or seat.gave_up):
            by_us = seat.asked or (seat.verdict is not None and seat.verdict.end is EndClass.USER)
            failed.append((by_us, seat.stopped_at or 0, member))
    member = min(failed)[2] if failed else crew.layout.principals[crew.layout.main]
    verdict = crew.seats[member].verdict
    if verdict is None:
        raise InvalidTransition(f"member {member} has not ended, and its attempt has")
    return verdict
