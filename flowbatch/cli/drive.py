"""Follows runs to their end inside this process: signals, progress, and what is owed to the user on the way out."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from flowbatch import logs
from flowbatch.app import App
from flowbatch.cli.output import counted
from flowbatch.cli.printer import say_aside
from flowbatch.cli.progress import View
from flowbatch.cli.shown import News
from flowbatch.core.state import Run
from flowbatch.model.outcome import Outcome
from flowbatch.model.status import RunStatus
from flowbatch.model.stimuli import Drain, Interrupt

INTERRUPTED: Final = 130
LOG_LOOK_SECONDS: Final = 5.0


@dataclass
class Drive:
    """One sitting in front of some runs. `code` is None until it is over."""

    app: App
    runs: list[Run]
    view: View
    resume_line: Callable[[Run], str]
    signals: AsyncIterator[signal.Signals]  # taken since before the run was submitted
    interrupts: int = 0
    left_running: bool = False
    left_live: int = 0
    over: anyio.Event = field(default_factory=anyio.Event)

    async def follow(self) -> int:
        """Returns the exit code: 0, 1 where a run failed, 130 where it was interrupted."""
        self.app.engine.observe(self.on_turn)
        self.check_over()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.take_signals, name="signals")
            tasks.start_soon(self.view.refresh, name="progress")
            tasks.start_soon(self.keep_log_small, name="engine log")
            await self.over.wait()
            tasks.cancel_scope.cancel()
        if all(run.status is not RunStatus.RUNNING for run in self.runs):
            return 1 if any(run.status is RunStatus.FAILED for run in self.runs) else 0
        self.left_live = self.live()
        return INTERRUPTED

    async def keep_log_small(self) -> None:
        """Of an engine in the background, which may run for months."""
        while True:
            logs.rotate(self.app.folder.engine_log)
            await anyio.sleep(LOG_LOOK_SECONDS)

    def on_turn(self, outcome: Outcome) -> None:
        self.view.on_news(News(outcome.writes.tasks.values(), outcome.writes.events))
        self.check_over()

    def check_over(self) -> None:
        ended = all(run.status is not RunStatus.RUNNING for run in self.runs)
        drained = self.interrupts > 0 and not self.live()
        if ended or drained:
            self.over.set()

    def live(self) -> int:
        """Attempts of the runs that this sitting is about: those of held runs go on whatever happens here."""
        every = self.app.engine.machine.state.live.values()
        return sum(1 for live in every if not live.job.held)

    async def take_signals(self) -> None:
        async for number in self.signals:
            if number == signal.SIGINT:
                self.on_interrupt()
            else:
                self.left_running = True
                self.over.set()

    def on_interrupt(self) -> None:
        self.interrupts += 1
        live = self.live()
        if self.interrupts == 1:
            self.app.engine.post(Drain())
            self.view.say(
                f"Draining: nothing new starts, {counted(live, 'running task')} {'is' if live == 1 else 'are'} waited for. "
                "Ctrl-C again stops them."
            )
        else:
            self.app.engine.post(Interrupt())
            self.view.say(
                "Interrupting: running tasks are stopped, by SIGKILL once their stop_grace is over (30 s unless the file says "
                "otherwise); they will run again, and nothing is charged."
            )

    def say_how_to_resume(self) -> None:
        """After an interruption: where to go on. Says nothing where every run has ended."""
        if self.left_running and self.left_live:
            go = "task goes" if self.left_live == 1 else "tasks go"
            say_aside(f"Leaving: {self.left_live} {go} on without the engine.")
        for run in self.runs:
            if run.status is RunStatus.RUNNING:
                say_aside(f"The run is kept. To continue it:  {self.resume_line(run)}")
