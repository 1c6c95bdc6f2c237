"""Live progress: a line a job on a terminal, plain lines at state changes elsewhere, nothing for `--json`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import click

from flowbatch.cli.output import duration_text, time_text
from flowbatch.cli.output import one_line as clean
from flowbatch.cli.printer import Printer, say_aside
from flowbatch.cli.shown import ChildNews, News, ShownJob, ShownRun
from flowbatch.core.ending import EXITED
from flowbatch.model.events import EventKind, EventRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.ports import Clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

REFRESH_SECONDS: Final = 0.125
HOLD_UPS_SECONDS: Final = 0.5
BAR_WIDTH: Final = 24
CHILD_LINES_MAX: Final = 5  # failed children told one by one, per job
JOBS_SHOWN_MAX: Final = 60


HoldUp = tuple[str, str]  # what is waited for, as `pull of busybox`; and how far that is
HoldUps = Callable[[], list[HoldUp]]


class View(Protocol):
    def on_news(self, news: News) -> None: ...

    async def refresh(self) -> None:
        """Never ends by itself."""

    def say(self, text: str) -> None: ...

    def close(self) -> None:
        """Waits until all is shown: call it when no engine waits for us."""


def nothing() -> list[HoldUp]:
    return []


def make_view(runs: Sequence[ShownRun], clock: Clock, *, quiet: bool, hold_ups: HoldUps = nothing) -> View:
    if quiet:
        return Silent()
    if sys.stdout is not None and sys.stdout.isatty():
        return LiveView(runs, clock, hold_ups)
    return PlainView(runs, clock, hold_ups)


class Silent:
    """For `--json`: standard output holds one object and nothing else."""

    def on_news(self, news: News) -> None:
        pass

    async def refresh(self) -> None:
        await anyio.sleep_forever()

    def say(self, text: str) -> None:
        say_aside(text)

    def close(self) -> None:
        pass


class PlainView:
    """For pipes, files and CI: a line when something changes, a few for failed children, never a line per child."""

    def __init__(self, runs: Sequence[ShownRun], clock: Clock, hold_ups: HoldUps = nothing) -> None:
        self._clock = clock
        self._hold_ups = hold_ups
        self._jobs = {job.no: job for run in runs for job in run.jobs}
        self._runs = {run.no: run for run in runs}
        self._printer = Printer()
        self._told: dict[int, int] = {}
        self._begun: set[int] = set()

    def on_news(self, news: News) -> None:
        lines: list[str] = []
        for row in news.children:
            job = self._jobs.get(row.job)
            if job is not None and job.array:
                lines += self._child_lines(job, row)
        for event in news.events:
            if event.kind is EventKind.JOB and event.job in self._jobs:
                lines += self._job_line(self._jobs[event.job], event)
            elif event.kind is EventKind.RUN and event.run in self._runs:
                lines += self._run_line(self._runs[event.run], event)
        if lines:
            text = "\n".join(lines)
            self._printer.put(lambda: click.echo(text))

    def _job_line(self, job: ShownJob, event: EventRow) -> list[str]:
        status = Status(event.status)
        if status in (Status.RUNNABLE, Status.STARTING, Status.PENDING) and not event.attempt:
            return []  # it will run at once, or says nothing that RUNNING does not say
        if status is Status.STARTING:
            return []
        detail = ""
        if status.terminal:
            counts = f"{job.counts[Status.SUCCEEDED]} of {job.tasks} children succeeded" if job.array else ""
            code = f"exit {event.exit_code}" if event.exit_code else ""
            telling = job.skipped or (status is Status.FAILED and (job.status_reason != EXITED or not code))
            reason = clean(job.status_reason or "") if telling else ""
            detail = ", ".join(part for part in (counts, code, reason) if part)
        elif status is Status.RUNNABLE:
            if event.exit_code is None and event.status_reason is None:
                return [self._line(job.key, status.name, "reopened")]
            why = f"exit {event.exit_code}" if event.exit_code is not None else clean(event.status_reason or "")
            detail = f"to be tried again: attempt {event.attempt} ended with {why}"
        return [self._line(job.key, status.name, detail)]

    def _child_lines(self, job: ShownJob, row: ChildNews) -> list[str]:
        lines = []
        if row.status >= Status.RUNNING and job.no not in self._begun:
            self._begun.add(job.no)
            lines.append(self._line(job.key, "RUNNING", f"array of {job.tasks}"))
        if row.status == Status.FAILED and row.attempt:
            told = self._told[job.no] = self._told.get(job.no, 0) + 1
            if told <= CHILD_LINES_MAX:
                code = "" if row.exit_code is None else f"exit {row.exit_code}"
                reason = row.reason or ("" if row.status_reason == EXITED else row.status_reason) or ""
                detail = ", ".join(part for part in (code, clean(reason)) if part)
                lines.append(self._line(f"{job.key}:{row.idx}", "FAILED", detail))
            elif told == CHILD_LINES_MAX + 1:
                lines.append(self._line(job.key, "", "more children fail; the summary counts them"))
        return lines

    def _run_line(self, run: ShownRun, event: EventRow) -> list[str]:
        status = RunStatus(event.status)
        if status is RunStatus.RUNNING:
            return []
        return [self._line(f"run {run.id[:8]}", status.name, clean(run.status_reason or ""))]

    def _line(self, name: str, status: str, detail: str) -> str:
        return f"{time_text(self._clock.now())[11:]}  {name:<20}  {status:<9}  {detail}".rstrip()

    async def refresh(self) -> None:
        """Each hold-up is told once while it lasts."""
        told: set[str] = set()
        while True:
            present = {what for what, _ in self._hold_ups()}
            for what in sorted(present - told):
                text = self._line("", "waits", clean(f"for {what}"))
                self._printer.put(lambda text=text: click.echo(text))  # type: ignore[misc]
            told = present
            await anyio.sleep(HOLD_UPS_SECONDS)

    def say(self, text: str) -> None:
        say_aside(text)

    def close(self) -> None:
        self._printer.close()
        if self._printer.dropped:
            say_aside(f"({self._printer.dropped} reports were left out: nobody read them)")


class Pace:
    """How long the rest of an array takes at the pace up to the last end that was seen: what runs now has been at it since then."""

    def __init__(self) -> None:
        self._done = 0
        self._at = 0

    def left_ms(self, done: int, rest: int, started_at: int, now: int) -> int:
        """Nothing, or less, where that was too hopeful. `done` is at least one."""
        if done != self._done:
            self._done, self._at = done, now
        return (self._at - started_at) * rest // done - (now - self._at)


class LiveView:
    """For terminals: redrawn some times a second from the engine's own counts, whatever the rate of tasks."""

    def __init__(self, runs: Sequence[ShownRun], clock: Clock, hold_ups: HoldUps = nothing) -> None:
        from rich.console import Console
        from rich.live import Live

        self._clock = clock
        self._runs = runs
        self._hold_ups = hold_ups
        self._console: Console = Console(highlight=False)
        self._messages: list[str] = []
        self._paces: dict[int, Pace] = {}  # of arrays, by number
        self._printer = Printer()
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()

    def on_news(self, news: News) -> None:
        pass  # drawn by time, not by turn

    async def refresh(self) -> None:
        while True:
            if self._printer.idle:  # a terminal that is held (Ctrl-S) gets the newest picture when it goes on
                picture = self.draw()
                self._printer.put(lambda picture=picture: self._live.update(picture, refresh=True))  # type: ignore[misc]
            await anyio.sleep(REFRESH_SECONDS)

    def say(self, text: str) -> None:
        if text not in self._messages:
            self._messages.append(text)

    def close(self) -> None:
        picture = self.draw(whole=True)
        self._printer.put(lambda: self._live.update(picture, refresh=True))
        self._printer.put(self._live.stop)
        self._printer.close()

    def draw(self, *, whole: bool = False) -> RenderableType:
        """As many jobs as the terminal has lines for, the most telling ones; `whole`: the last picture, which scrolls."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[RenderableType] = []
        hold_ups = [] if whole else self._hold_ups()
        lines = JOBS_SHOWN_MAX if whole else self._console.height - (len(self._messages) + len(hold_ups)) * 2 - 2
        room = max(lines // max(len(self._runs), 1) - 2, 1)
        for run in self._runs:
            table = Table.grid(padding=(0, 2))
            shown = sorted(run.jobs, key=interest)[:room] if len(run.jobs) > room else run.jobs
            for job in sorted(shown, key=lambda job: job.no):
                table.add_row(*self.job_cells(job))
            parts.append(table)
            if len(shown) < len(run.jobs):
                parts.append(Text(f"… and {len(run.jobs) - len(shown)} more jobs", style="dim"))
            parts.append(Text(self.foot(run), style="bold"))
        parts += [Text(clean(f"waits for {' '.join(each)}"), style="cyan") for each in hold_ups]
        parts += [Text(message, style="yellow") for message in self._messages]
        return Group(*parts)

    def job_cells(self, job: ShownJob) -> list[RenderableType]:
        from rich.text import Text

        name = Text(clean(job.key))
        status = Text(shown_status(job), style=STYLES[shown_status(job)])
        if not job.array:
            return [name, status, Text(""), Text(self.took(job), style="dim")]
        return [name, status, bar(job), Text(self.counts(job))]

    def took(self, job: ShownJob) -> str:
        if job.started_at is None:
            return clean(job.status_reason or "") if job.status.terminal else ""
        end = job.stopped_at if job.stopped_at is not None else self._clock.now()
        text = duration_text(max(end - job.started_at, 0))
        telling = job.status is Status.FAILED and job.status_reason != EXITED
        return f"{text}  {clean(job.status_reason or '')}" if telling else text

    def counts(self, job: ShownJob) -> str:
        done, failed = job.counts[Status.SUCCEEDED], job.counts[Status.FAILED]
        parts = [f"{done + failed}/{job.tasks}"]
        if failed:
            parts.append(f"{failed} failed")
        if job.running:
            parts.append(f"{job.running} running")
        rest = job.tasks - done - failed
        if rest and done and job.started_at is not None and not job.status.terminal:
            pace = self._paces.setdefault(job.no, Pace())
            left = pace.left_ms(done + failed, rest, job.started_at, self._clock.now())
            if left > 0:
                parts.append(f"about {duration_text(left)} left")
        elif job.status.terminal:
            parts.append(self.took(job))
        return "  ".join(parts)

    def foot(self, run: ShownRun) -> str:
        ended = run.stopped_at if run.stopped_at is not None else self._clock.now()
        open_jobs = sum(not job.status.terminal for job in run.jobs)
        state = run.status.name if run.status is not RunStatus.RUNNING else f"{open_jobs} of {len(run.jobs)} jobs open"
        return f"{clean(run.workflow)}  {run.id[:8]}  {state}  {duration_text(max(ended - run.created_at, 0))}"


STYLES: Final = {
    "SUBMITTED": "dim", "PENDING": "dim", "RUNNABLE": "yellow", "STARTING": "cyan", "RUNNING": "blue",
    "SUCCEEDED": "green", "FAILED": "red", "SKIPPED": "dim",
}  # fmt: skip


def shown_status(job: ShownJob) -> str:
    """An array's parent is only ever PENDING: what its children do says more."""
    if job.skipped:
        return "SKIPPED"
    if job.array and not job.status.terminal:
        for status in (Status.RUNNING, Status.STARTING, Status.RUNNABLE):
            if job.counts[status]:
                return status.name
    return job.status.name


def interest(job: ShownJob) -> tuple[int, int]:
    """What a long list shows first: failures, what runs, what is next, what is done."""
    if job.status is Status.FAILED:
        return 0, job.no
    if job.running:
        return 1, job.no
    return (3 if job.status.terminal else 2), job.no


def bar(job: ShownJob) -> RenderableType:
    from rich.text import Text

    if job.tasks == 0:
        return Text("")
    text = Text()
    filled = 0
    for status, style in ((Status.SUCCEEDED, "green"), (Status.FAILED, "red"), (Status.RUNNING, "blue")):
        count = job.counts[status]
        width = min(max(round(count * BAR_WIDTH / job.tasks), 1 if count else 0), BAR_WIDTH - filled)
        text.append("━" * width, style=style)
        filled += width
    text.append("━" * (BAR_WIDTH - filled), style="bright_black")
    return text
