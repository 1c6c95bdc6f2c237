"""Follows runs to their end inside this process: signals, progress, and what is owed to the user on the way out."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
import click
from anyio.abc import TaskStatus

from flowbatch.app import App
from flowbatch.cli.progress import View
from flowbatch.core.state import Run
from flowbatch.model.outcome import Outcome
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import Drain, Interrupt

INTERRUPTED: Final = 130


@dataclass
class Drive:
    """One sitting in front of some runs. `code` is None until it is over."""

    app: App
    runs: list[Run]
    view: View
    resume_line: Callable[[Run], str]
    interrupts: int = 0
    left_running: bool = False
    over: anyio.Event = field(default_factory=anyio.Event)

    async def follow(self) -> int:
        """Returns the exit code: 0, 1 where a run failed, 130 where it was interrupted."""
        self.app.engine.observe(self.on_turn)
        self.check_over()
        async with anyio.create_task_group() as tasks:
            await tasks.start(self.take_signals, name="signals")
            tasks.start_soon(self.view.refresh, name="progress")
            await self.over.wait()
            tasks.cancel_scope.cancel()
        self.view.close()
        if all(run.status is not RunStatus.RUNNING for run in self.runs):
            return 1 if any(run.status is RunStatus.FAILED for run in self.runs) else 0
        self.say_how_to_resume()
        return INTERRUPTED

    def on_turn(self, outcome: Outcome) -> None:
        self.view.on_turn(outcome)
        self.check_over()

    def check_over(self) -> None:
        ended = all(run.status is not RunStatus.RUNNING for run in self.runs)
        drained = self.interrupts > 0 and not self.app.engine.machine.state.live
        if ended or drained:
            self.over.set()

    async def take_signals(self, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                if number == signal.SIGINT:
                    self.on_interrupt()
                else:
                    self.left_running = True
                    self.over.set()

    def on_interrupt(self) -> None:
        self.interrupts += 1
        live = len(self.app.engine.machine.state.live)
        if self.interrupts == 1:
            self.app.engine.post(Drain())
            self.view.say(
                f"Draining: nothing new starts, {live} running tasks are waited for. Ctrl-C again stops them."
            )
        else:
            self.app.engine.post(Interrupt())
            self.view.say(
                f"Interrupting: {live} running tasks are stopped; they will run again, and nothing is charged."
            )

    def say_how_to_resume(self) -> None:
        live = len(self.app.engine.machine.state.live)
        if self.left_running and live:
            click.echo(f"Leaving: {live} tasks go on without the engine.", err=True)
        for run in self.runs:
            if run.status is RunStatus.RUNNING:
                click.echo(f"The run is kept. To continue it:  {self.resume_line(run)}", err=True)
