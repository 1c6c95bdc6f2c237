"""Who may hold what of the consumable resources (aws-batch.md §6.9).

A task takes all of its tokens with RUNNABLE → STARTING and gives the replenishable ones back when it leaves STARTING or RUNNING; a
retry takes them again. What is in use is what live attempts hold, so that it is not stored; what is left of a non-replenishable
one is, in the turn of the start that took it.

A group of tasks that lacks tokens is passed over: it holds no capacity, and its clock for a reservation of capacity stands still.
Instead it comes to hold what it waits for: from RESERVE_AFTER_MS on, the head of the highest queue that has waited longest keeps its
share of each of its tokens, and others take what leaves that untouched. A demand that exceeds a total, or whose environments
are all disabled, keeps nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import JobSpec, RunPlan, title_of
from flowbatch.model.places import is_of_run
from flowbatch.model.tokens import Demand, Token, TokenKind, TokenOperation, TokenRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from flowbatch.core.ready import Group
    from flowbatch.core.state import State
    from flowbatch.core.turn import Turn
    from flowbatch.model.stimuli import CreateToken, DeleteToken, UpdateToken

UPDATE_KEPT_MS: Final = 8 * 3_600_000  # how long an update that is sent again is known (aws-batch.md §6.9)
RESERVE_AFTER_MS: Final = 30_000  # as for capacity (semantics.md 17)
TOTAL_MAX: Final = 2**53


class TokenState(Struct, eq=False):
    name: str
    kind: TokenKind
    total: int
    declared: int | None
    run: int | None
    tags: tuple[tuple[str, str], ...]
    created_at: Millis
    in_use: int = 0  # of a replenishable one

    @property
    def available(self) -> int:
        return max(self.total - self.in_use, 0)  # a total may have been lowered below what is in use

    def row(self) -> TokenRow:
        return TokenRow(self.name, self.kind, self.total, self.declared, self.run, self.tags, self.created_at)


class TokenBook(Struct, eq=False):
    held: dict[str, TokenState] = field(default_factory=dict)
    updates: dict[tuple[str, str], Millis] = field(default_factory=dict)  # (name, once) → when, the oldest first
    kept: dict[str, Group] = field(default_factory=dict)  # who keeps a share of what, in this pass of the scheduler

    def take(self, demand: Demand, count: int, out: Turn) -> None:
        """For so many attempts that start."""
        for name, quantity in demand:
            token = self.held[name]
            if token.kind is TokenKind.REPLENISHABLE:
                token.in_use += quantity * count
            else:
                token.total -= quantity * count
                out.tokens[name] = token

    def hold(self, demand: Demand) -> None:
        """Of an attempt that was found alive: what it used up is gone already."""
        for name, quantity in demand:
            token = self.held.get(name)
            if token is not None and token.kind is TokenKind.REPLENISHABLE:
                token.in_use += quantity

    def give_back(self, demand: Demand) -> None:
        for name, quantity in demand:
            token = self.held.get(name)
            if token is not None and token.kind is TokenKind.REPLENISHABLE:
                token.in_use -= quantity

    def room(self, group: Group) -> int:
        """How many tasks of the group could take their tokens now."""
        count = 2**31
        for name, quantity in group.key.tokens:
            count = min(count, max(self.left_for(group, name), 0) // quantity)
        return count

    def left_for(self, group: Group, name: str) -> int:
        token = self.held.get(name)
        if token is None:
            return 0
        keeper = self.kept.get(name)
        if keeper is None or keeper is group:
            return token.available
        return token.available - dict(keeper.key.tokens)[name]

    def served(self, group: Group) -> None:
        """It has taken what it kept. Nobody who was refused because of that has more room now."""
        for name, _ in group.key.tokens:
            if self.kept.get(name) is group:
                del self.kept[name]


def reserve(state: State, now: Millis) -> None:
    """Finds anew who keeps what. Looks at groups, not at tasks, and only where there are tokens at all."""
    book = state.tokens
    book.kept = {}
    if not book.held:
        return
    best: dict[str, tuple[tuple[int, int, int, int], Group]] = {}
    for queue in state.queues.values():
        for group in queue.groups.values():
            since = group.token_since
            if since is None or now - since < RESERVE_AFTER_MS or not may_keep(state, group):
                continue
            entry = group.head()
            if entry is None:
                continue
            rank = (-queue.spec.priority, since, entry.job_no, entry.lo)
            for name, _ in group.key.tokens:
                known = best.get(name)
                if known is None or rank < known[0]:
                    best[name] = (rank, group)
    book.kept = {name: group for name, (_, group) in best.items()}


def may_keep(state: State, group: Group) -> bool:
    """What could never start keeps nothing from others."""
    entry = group.head()
    if entry is None:
        return False
    for name, quantity in group.key.tokens:
        token = state.tokens.held.get(name)
        if token is None or quantity > token.total:
            return False
    return any(place.takes_work and state.ever_fits(place, group.key.shape) for place, _ in state.places_of(entry.job))


def lacking(state: State, group: Group) -> bool:
    return bool(group.key.tokens) and state.tokens.room(group) == 0


# --- what there is


def declare(state: State, declared: Iterable[Token], out: Turn) -> None:
    """What the settings say, at the start of a life and whenever they change. A total that an operator set, or that jobs have
    used up, stays until the settings say another one."""
    said = {token.name: token for token in declared}
    for name, token in said.items():
        held = state.tokens.held.get(name)
        if held is None:
            add(state, token, None, out).declared = token.total
        elif held.declared != token.total or held.kind is not token.kind:
            held.total = held.declared = token.total
            if held.kind is not token.kind:
                held.kind = token.kind
                held.in_use = in_use(state, name) if token.kind is TokenKind.REPLENISHABLE else 0
            out.tokens[name] = held
    for held in state.tokens.held.values():
        if held.declared is not None and held.name not in said:
            held.declared = None
            out.tokens[held.name] = held
    state.place_wanted = True


def in_use(state: State, name: str) -> int:
    """Counted from the live attempts."""
    return sum(dict(live.job.spec.tokens).get(name, 0) for live in state.live.values() if live.job.spec.tokens)


def add(state: State, token: Token, run: int | None, out: Turn) -> TokenState:
    made = TokenState(token.name, token.kind, token.total, None, run, (), out.now)
    state.tokens.held[token.name] = made
    out.tokens[token.name] = made
    return made


def restore(state: State, rows: Iterable[TokenRow]) -> None:
    for row in rows:
        if row.name not in state.tokens.held:
            state.tokens.held[row.name] = TokenState(*row)


def unknown(state: State, plan: RunPlan) -> str | None:
    """A sentence where a job of the plan needs what is not there."""
    own = {token.name for token in plan.tokens}
    return next((said for job in plan.jobs if (said := absent(state, job.spec, own)) is not None), None)


def absent(state: State, spec: JobSpec, own: Collection[str] = ()) -> str | None:
    """Those of another run's file are not there for anybody else."""
    for name, _ in spec.tokens:
        held = state.tokens.held.get(name)
        if name not in own and (held is None or held.run is not None):
            return f"job {spec.key} needs tokens {title_of(name)!r}, which do not exist"
    return None


def evict(state: State, plan: RunPlan) -> None:
    """The tokens of a file go from memory with its run; the store has them."""
    for token in plan.tokens:
        state.tokens.held.pop(token.name, None)


# --- commands


def of_a_run(name: str) -> str | None:
    """A sentence where the tokens are those of a file: they come with its run, and go with it."""
    if is_of_run(name):
        return f"tokens {name!r} belong to the workflow file of a run: there they are declared, and nowhere else"
    return None


def on_create(state: State, command: CreateToken, out: Turn) -> None:
    refused = of_a_run(command.token.name)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    if command.token.name in state.tokens.held:
        out.answer(command.ticket, f"there are tokens {command.token.name!r} already; `update` changes how many")
        return
    if not 0 <= command.token.total <= TOTAL_MAX:
        out.answer(command.ticket, f"a total lies between 0 and {TOTAL_MAX}, found {command.token.total}")
        return
    made = add(state, command.token, None, out)
    made.tags = command.tags
    state.place_wanted = True  # a job that was retried may have waited for them to exist
    out.answer(command.ticket, value=figures(made))


def on_update(state: State, command: UpdateToken, out: Turn) -> None:
    """A total may fall below what is in use: nothing new takes any until enough has come back."""
    token = state.tokens.held.get(command.name)
    if token is None:
        out.answer(command.ticket, f"there are no tokens {command.name!r}")
        return
    forget_updates(state, out)
    once = (command.name, f"{command.once} {command.operation} {command.quantity}")
    if command.once and once in state.tokens.updates:
        out.answer(command.ticket, value=figures(token))
        return
    total = {
        TokenOperation.SET: command.quantity,
        TokenOperation.ADD: token.total + command.quantity,
        TokenOperation.REMOVE: token.total - command.quantity,
    }[command.operation]
    if command.quantity < 0 or not 0 <= total <= TOTAL_MAX:
        said = f"{command.operation} {command.quantity}: {command.name!r} has {token.total}; a total lies between 0 and {TOTAL_MAX}"
        out.answer(command.ticket, said)
        return
    token.total = total
    out.tokens[token.name] = token
    if command.once:
        state.tokens.updates[once] = out.writes.token_updates[once] = out.now
    state.place_wanted = True
    out.answer(command.ticket, value=figures(token))


def forget_updates(state: State, out: Turn) -> None:
    """Those that are too old; a clock that was set back keeps some longer."""
    updates = state.tokens.updates
    while updates and out.now - updates[once := next(iter(updates))] >= UPDATE_KEPT_MS:
        del updates[once]
        out.writes.token_updates[once] = None


def on_delete(state: State, command: DeleteToken, out: Turn) -> None:
    """Refused while an open job needs them: it would wait for ever. So would what is retried of a run, without its own."""
    token = state.tokens.held.get(command.name)
    if token is None:
        out.answer(command.ticket, f"there are no tokens {command.name!r}")
        return
    refused = of_a_run(command.name)
    if refused is not None:
        out.answer(command.ticket, refused)
        return
    for job in state.jobs.values():
        if not job.status.terminal and any(name == command.name for name, _ in job.spec.tokens):
            where = f" of run {job.run.id[:8]}" if job.run is not None else ""
            out.answer(command.ticket, f"{command.name!r}: job {job.spec.key}{where} needs them, and has not ended")
            return
    del state.tokens.held[command.name]
    for once in [once for once in state.tokens.updates if once[0] == command.name]:
        del state.tokens.updates[once]
        out.writes.token_updates[once] = None
    out.tokens.pop(command.name, None)
    out.writes.tokens[command.name] = None
    out.answer(command.ticket, value=figures(token))


def figures(token: TokenState) -> dict[str, object]:
    return {
        "name": token.name,
        "type": token.kind.name,
        "total": token.total,
        "in_use": token.in_use,
        "available": token.available,
    }


# --- why


def explain(state: State, group: Group, now: Millis) -> str | None:
    """What a task of the group lacks of its tokens, in words that follow "it needs"; None where it lacks none."""
    parts = []
    for name, quantity in group.key.tokens:
        token = state.tokens.held.get(name)
        if token is None:
            parts.append(f"{quantity} of tokens {title_of(name)}, which are not there any more")
            continue
        if state.tokens.left_for(group, name) >= quantity:
            continue
        have = f"{token.available} of {token.total}"
        if quantity > token.total:
            left = "left" if token.kind is TokenKind.NON_REPLENISHABLE else "in all"
            parts.append(f"{quantity} of tokens {title_of(name)}, and there are {token.total} {left}")
        elif quantity > token.available:
            parts.append(f"{quantity} of tokens {title_of(name)}, {have} are free")
        else:
            keeper = state.tokens.kept[name]
            entry = keeper.head()
            who = f"{entry.job.spec.key}:{entry.lo}" if entry is not None else "another job"
            waited = (now - (keeper.token_since or now)) / 1000
            parts.append(
                f"{quantity} of tokens {title_of(name)}, {have} are free, but kept for {who}, which needs "
                f"{dict(keeper.key.tokens)[name]} and has waited {waited:.0f} s"
            )
    return "; ".join(parts) or None
