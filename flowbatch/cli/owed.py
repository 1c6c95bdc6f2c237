"""At the end of a run: its notifications are waited for, up to a limit that is printed; what is owed then is said."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import anyio
import click

from flowbatch.app import App
from flowbatch.cli.output import duration_text, one_line
from flowbatch.core.state import Run
from flowbatch.model.status import RunStatus

if TYPE_CHECKING:
    from flowbatch.hooks.lane import Owed
    from flowbatch.notices import Silent


async def settle(app: App, runs: Sequence[Run], signals: AsyncIterator[signal.Signals]) -> None:
    """A signal ends the waiting, not more."""
    limit_ms = app.settings.notify_wait_ms
    ids = [run.id for run in runs]

    def say(owed: list[Owed]) -> None:
        names = ", ".join(each.key.rpartition("/")[2] for each in owed)
        click.echo(f"Waiting up to {duration_text(limit_ms)} for notifications: {names}.", err=True)

    left: list[Owed] = []
    if any(run.status is RunStatus.RUNNING for run in runs):
        limit_ms = 0  # the user wants to go
    async with anyio.create_task_group() as tasks:

        async def enough() -> None:
            async for _ in signals:
                tasks.cancel_scope.cancel()
                return

        tasks.start_soon(enough, name="signals")
        left = await app.notices.settle(ids, limit_ms, say)
        tasks.cancel_scope.cancel()
    for each in left or app.notices.owed(ids):
        count = f"{each.messages:,}{'+' if each.more else ''} notification{'' if each.messages == 1 else 's'}"
        why = f" ({one_line(each.error)})" if each.error else ""
        name = each.key.rpartition("/")[2]
        click.echo(
            f"Still owed to {name}, {each.target}: {count}{why}. The next engine on this folder delivers them.",
            err=True,
        )
    tell_silent(app.notices.silent(ids))


def tell_silent(found: Sequence[Silent]) -> None:
    for each in found:
        events = f"{each.behind:,} event{'' if each.behind == 1 else 's'} behind"
        events += f", {each.refused:,} refused" if each.refused else ""
        click.echo(f"{each.name}, {each.target}, is told nothing and {events}: {one_line(each.why)}.", err=True)
