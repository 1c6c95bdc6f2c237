"""`logs`: what an attempt printed, and what it prints while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.loglines import Look, print_lines, printer
from flowbatch.cli.output import clean
from flowbatch.errors import FlowbatchError, InputError
from flowbatch.model.ids import ALONE, AttemptKey
from flowbatch.model.status import RunStatus

if TYPE_CHECKING:
    from flowbatch.cli.logsource import LogSource
    from flowbatch.cli.records import Records
    from flowbatch.store.results import Found, JobView, MemberView, TaskView
    from flowbatch.tasklogs import LogLine

TASKS_SHOWN: Final = 100
LINES_EACH: Final = 10  # of each task where there are several
STEADY_LOOKS: Final = 3  # an ended attempt's log is complete when it has not grown for so many
WAIT_SECONDS: Final = 0.2
SAY_AGAIN_SECONDS: Final = 2.0
CAPPED: Final = "the log was capped: its beginning is gone"


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDEX][#ATTEMPT]]")
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come, until the attempt has ended.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="The last N lines.")
@click.option("--timestamps", is_flag=True, help="The time and the stream (o, e) before each line.")
@click.option("--stdout", "stream", flag_value="o", help="Standard output alone.")
@click.option("--stderr", "stream", flag_value="e", help="Standard error alone.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_obj
def logs(
    place: Place, address: str, follow: bool, tail: int | None, timestamps: bool, stream: str | None, as_json: bool
) -> int:
    """Print the log of the last attempt of a task, or of the attempt that is named.

    Of several tasks (an array, `:failed`, a run) the last lines of each, behind its name. Control characters reach no
    terminal, colours do; a pipe gets the bytes as they are.
    """
    look = Look(as_json, timestamps, stream)
    with place.records() as reader:
        found = reader.resolve(address)
        if found.job is None or found.index is None:
            if follow:
                raise InputError(f"{address}: one task is followed at a time, like {example(found)}")
            print_several(place, reader, found, look, LINES_EACH if tail is None else tail)
            return 0
        job, index = found.job, found.index
        task = reader.task(job, index)
        if follow and found.attempt is None and not task.attempts:
            task = wait_for_start(place, reader, job, index, address)
        number = found.attempt or task.attempts
        if not number:
            text = f"{address}: no attempt has begun, it is {task.status.name}; `{place.command('why', address)}` says more"
            raise InputError(text)
        if number > task.attempts:
            raise InputError(f"{address}: there was no attempt {number}; it has had {task.attempts}")
        crew = reader.members(job, index, number)
        if crew and found.member is None:
            if follow:
                first = (
                    f"{example(found) if job.size is not None else example(found).partition(':')[0]}@{crew[0].label}"
                )
                raise InputError(f"{address}: one node or container is followed at a time, like {first}")
            print_crew(place, crew, task, look, LINES_EACH if tail is None else tail)
            return 0
        key = AttemptKey(job.id, index, number, ALONE if found.member is None else found.member)
        label = next((each.label for each in crew if each.key == key), None)
        render = printer(look, "", about(task, number, label))
        ends = crew or reader.attempts(job, index)
        if tail is None and (place.logs.is_cut(key) or any(each.truncated for each in ends if each.key == key)):
            click.echo(CAPPED, err=True)
        if follow:
            if number == task.attempts and task.status.live and not place.held:
                text = f"No engine runs: the end is known only after `{place.command('resume')}`; Ctrl-C leaves."
                click.echo(text, err=True)
            over = Over(reader, job, key, place.logs, place)
            print_lines(followed(tail, over), look, render, live=True)
        else:
            say_missing(place.logs, key, task)
            print_lines(place.logs.lines(key, tail), look, render)
    return 0


def about(task: TaskView, number: int, member: str | None = None) -> dict[str, object]:
    found: dict[str, object] = {"job": task.job, "index": task.index, "attempt": number}
    return found if member is None else {**found, "member": member}


def name_of(task: TaskView) -> str:
    return task.job if task.index is None else f"{task.job}:{task.index}"


def example(found: Found) -> str:
    """An address of one task, or of the one that is meant."""
    run = "RUN" if found.run is None else found.run.id[:8]
    if found.job is None:
        return f"{run}/JOB"
    return f"{run}/{found.job.name}:{found.indices[0][0] if found.indices else 0}"


def say_missing(source: LogSource, key: AttemptKey, task: TaskView) -> None:
    if source.size(key) is None:
        reason = f": {task.reason or task.status_reason}" if task.reason or task.status_reason else ""
        click.echo(clean(f"{name_of(task)} has no log of attempt {key.attempt}{reason}").replace("\n", " "), err=True)


# --- several tasks


def print_several(place: Place, reader: Records, found: Found, look: Look, count: int) -> None:
    shown = left_out = 0
    for job, task in several(reader, found):
        if not task.attempts:
            continue
        if shown == TASKS_SHOWN:
            left_out += 1
            continue
        shown += 1
        crew = reader.members(job, task.index or 0)
        if crew:
            print_crew(place, crew, task, look, count)
            continue
        key = AttemptKey(job.id, task.index or 0, task.attempts)
        render = printer(look, f"{name_of(task)}| ", about(task, task.attempts))
        print_lines(place.logs.lines(key, count), look, render)
    if left_out:
        text = (
            f"{left_out} more tasks have logs: name one, or a range of them (JOB:{TASKS_SHOWN}-{2 * TASKS_SHOWN - 1})."
        )
        click.echo(text, err=True)
    elif not shown:
        running = found.run is not None and found.run.status is RunStatus.RUNNING
        over = not running if found.job is None else found.job.status.terminal
        click.echo("No attempt was made." if over else "No attempt has begun yet.", err=True)


def print_crew(place: Place, crew: list[MemberView], task: TaskView, look: Look, count: int) -> None:
    """The last lines of each node or container."""
    for each in crew[:TASKS_SHOWN]:
        name = f"{name_of(task)}@{each.label}"
        print_lines(
            place.logs.lines(each.key, count),
            look,
            printer(look, f"{name}| ", about(task, each.key.attempt, each.label)),
        )
    if len(crew) > TASKS_SHOWN:
        click.echo(f"{len(crew) - TASKS_SHOWN} more have logs: name one, like {name_of(task)}@{TASKS_SHOWN}.", err=True)


def several(reader: Records, found: Found) -> Iterator[tuple[JobView, TaskView]]:
    from flowbatch.model.status import Status

    if found.job is not None:
        only = Status.FAILED if found.failed else None
        for task in reader.tasks(found.job, found.indices, status=only):
            yield found.job, task
    elif found.run is not None:
        for job in reader.jobs(found.run):
            for task in reader.tasks(job):
                yield job, task


# --- following


def wait_for_start(place: Place, reader: Records, job: JobView, index: int, address: str) -> TaskView:
    task = reader.task(job, index)
    if not task.status.terminal:
        click.echo(f"{address} is {task.status.name}: waiting for it to start; Ctrl-C leaves.", err=True)
        if not place.held:
            click.echo(f"No engine runs, so that nothing starts before `{place.command('resume')}`.", err=True)
    while not task.attempts and not task.status.terminal:
        time.sleep(WAIT_SECONDS)
        task = reader.task(job, index)
    return task


@dataclass
class Over:
    """Whether an attempt has ended and its log is complete: the end is stored first, the last lines come after it."""

    reader: Records
    job: JobView
    key: AttemptKey
    source: LogSource
    place: Place | None = None  # None: nobody is told that we read along
    said_at: float = 0.0
    steady: int = 0
    size: int = field(default=-1)

    def __call__(self) -> bool:
        if self.key.member != ALONE and not self.member_over():
            self.say_that_we_read()
            return False
        task = self.reader.task(self.job, self.key.idx)
        if self.key.member == ALONE and task.attempts == self.key.attempt and task.status.live:
            self.say_that_we_read()
            return False
        size = self.source.size(self.key) or 0
        self.steady = self.steady + 1 if size == self.size else 0
        self.size = size
        return self.steady >= STEADY_LOOKS - 1

    def member_over(self) -> bool:
        crew = self.reader.members(self.job, self.key.idx, self.key.attempt)
        return any(each.key == self.key and each.status.terminal for each in crew)

    def say_that_we_read(self) -> None:
        """So that an engine that fetches logs from time to time fetches this one more often."""
        now = time.monotonic()
        if self.place is None or now < self.said_at + SAY_AGAIN_SECONDS:
            return
        self.said_at = now
        try:
            self.place.ask("watch_log", attempt=self.key.id)
        except FlowbatchError:
            pass  # no engine runs, or an older one: then it comes when it comes


def followed(count: int | None, over: Over) -> Iterator[LogLine]:
    """What is there, all or the last lines of it, then what comes."""
    if ended_long_ago(over):
        return over.source.lines(over.key, count)
    return over.source.follow(over.key, over, count)


def ended_long_ago(over: Over) -> bool:
    """Its end is older than any log may lag."""
    from flowbatch.clock import SystemClock

    crew = over.reader.members(over.job, over.key.idx, over.key.attempt) if over.key.member != ALONE else []
    for attempt in crew or over.reader.attempts(over.job, over.key.idx):
        if attempt.key == over.key:
            return attempt.stopped_at is not None and SystemClock().now() - attempt.stopped_at > 5_000
    return False
