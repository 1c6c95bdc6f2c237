"""Where events go, as far as the engine decides it: where a sink begins, and that what becomes of it is on disk.

What is to be sent when is decided in `hooks.window`. It comes here as a SinkProgress, so that a cursor moves in the engine's one
transaction like everything else: a message given up, and the event that tells of it, are one write. The state keeps nothing of sinks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.json import encode
from msgspec.structs import replace

from flowbatch.model.events import ChildEvents, EventKind, EventRow, SinkChange, children_wanted
from flowbatch.model.notify import Notify, SinkCopy, SinkProgress, SinkRow
from flowbatch.model.status import RunStatus

if TYPE_CHECKING:
    from flowbatch.core.state import Run, State
    from flowbatch.core.turn import Turn
    from flowbatch.model.jobspec import RunPlan
    from flowbatch.model.stimuli import EnableSink, OpenSinks, Redeliver, ReviveDead, TellProgress


def key_of(run: Run, notify: Notify) -> str:
    return f"{run.id}/{notify.name}"


def child_events(state: State, plan: RunPlan) -> ChildEvents:
    """What of a run's children is logged: what the settings say, and what its own sinks ask for."""
    return max(state.child_events, children_wanted(tuple(each.filter for each in plan.notify)))


def open_of_run(run: Run, out: Turn) -> None:
    """In the turn of its submission, so that the run's first event is theirs."""
    out.writes.sinks.opened += [SinkRow(key_of(run, each), run.no, each, out.now) for each in run.plan.notify]


def reopen(run: Run, out: Turn) -> None:
    if run.plan.notify:
        out.writes.sinks.reopened.append(run.no)


def on_open(state: State, command: OpenSinks, out: Turn) -> None:
    """Those of the settings. A late subscriber begins now; one that is known goes on where it was."""
    if command.children is not None and command.children is not state.child_events:
        state.child_events = command.children
        for run in state.runs.values():
            run.child_events = child_events(state, run.plan)
    out.writes.sinks.opened += [SinkRow(each.name, None, each, out.now) for each in command.notify]
    out.answer(command.ticket)


def on_progress(state: State, command: TellProgress, out: Turn) -> None:
    """Answers whether the sink was closed where it asked for that: a run that was reopened meanwhile has more to tell."""
    progress = command.progress
    if progress.close and any(run.no == command.run and run.status is RunStatus.RUNNING for run in state.runs.values()):
        progress = replace(progress, close=False)
    out.writes.sinks.progress.append(progress)
    tell(progress, command.run, out)
    out.answer(command.ticket, value=progress.close)


def tell(progress: SinkProgress, run: int | None, out: Turn) -> None:
    """What will never arrive is an event of its own, for the other sinks."""
    for dead in progress.dead:
        if not dead.silent:
            add(out, SinkChange.DEAD, progress.key, run, dead.error, seq=dead.seq, tries=dead.tries)
    copied = "~" in progress.key  # a redelivery: whoever asked for it was told what is gone
    for first, last in () if copied else progress.gaps:
        add(
            out,
            SinkChange.GAP,
            progress.key,
            run,
            "events were collected before they were delivered",
            first=first,
            last=last,
        )
    if progress.disable is not None:
        add(out, SinkChange.DISABLED, progress.key, run, progress.disable)


def add(out: Turn, change: SinkChange, sink: str, run: int | None, reason: str, **more: int) -> None:
    detail = encode({"sink": sink, **more}).decode()
    out.writes.events.append(
        EventRow(out.now, EventKind.SINK, run, None, None, None, change, None, None, reason, detail)
    )


def on_redeliver(command: Redeliver, out: Turn) -> None:
    """A cursor of its own over a part of the log: what is new goes on meanwhile."""
    out.writes.sinks.copied.append(SinkCopy(command.key, command.source, command.first - 1, command.last, out.now))
    out.answer(command.ticket, value=command.key)


def on_revive(command: ReviveDead, out: Turn) -> None:
    out.writes.sinks.revived.append(command.key)
    out.writes.sinks.enabled.append(command.key)
    out.answer(command.ticket)


def on_enable(command: EnableSink, out: Turn) -> None:
    """Goes on at its cursor."""
    out.writes.sinks.enabled.append(command.key)
    out.answer(command.ticket)
