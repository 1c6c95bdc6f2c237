"""What failed in a run, grouped, with the last lines of one example each. Imported where something did."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import click

from flowbatch.cli.logsource import LogSource, last_lines
from flowbatch.cli.members import telling
from flowbatch.cli.output import clean, one_line
from flowbatch.cli.records import Records
from flowbatch.cli.shown import ShownRun
from flowbatch.core.ending import EXITED
from flowbatch.model.ids import AttemptKey
from flowbatch.model.status import Status
from flowbatch.store.results import JobView, RunView, TaskView

EXAMPLE_LINES: Final = 5
LINE_MAX: Final = 400  # characters of one of them: a log may be one line
LOOKED_INTO_MAX: Final = 200  # failed tasks of a job whose last line is read
GROUPS_SHOWN_MAX: Final = 10

Command = Callable[..., str]  # of words


@dataclass
class Alike:
    """Failed tasks with the same exit code, reason and last line (numbers in it aside)."""

    job: JobView
    exit_code: int | None
    reason: str
    example: AttemptKey | None
    lines: list[str]
    indices: list[int] = field(default_factory=list)


def print_failures(run: ShownRun, reader: Records, logs: LogSource, command: Command | None) -> None:
    """`command` makes a command line about this folder; None where nothing is kept that one could be about."""
    groups = failures(reader, reader.run(run.id), logs)
    for group in groups[:GROUPS_SHOWN_MAX]:
        print_group(run, group, command)
    if len(groups) > GROUPS_SHOWN_MAX:
        more = "" if command is None else f": {command('show', run.id[:8])}"
        click.echo(f"  … and {len(groups) - GROUPS_SHOWN_MAX} more kinds of failure{more}")


def failures(reader: Records, run: RunView, logs: LogSource) -> list[Alike]:
    """All kinds of failure of the run: what failed by itself first, what failed with it last."""
    found: list[Alike] = []
    for job in reader.jobs(run):
        found += kinds_of(reader, job, reader.tasks(job, status=Status.FAILED), logs)
    return sorted(found, key=lambda group: group.example is None)


def lines_of(logs: LogSource, key: AttemptKey) -> list[str]:
    """The last ones of its log; none where it cannot be read: `logs` says why."""
    try:
        return last_lines(logs, key, EXAMPLE_LINES)
    except OSError:
        return []


def kinds_of(reader: Records, job: JobView, failed: Iterator[TaskView], logs: LogSource) -> list[Alike]:
    kinds: dict[tuple[int | None, str, str], Alike] = {}
    for looked, task in enumerate(failed):
        key = telling(reader, job, task) if task.attempts else None
        reason = task.reason or task.status_reason or ""
        lines = lines_of(logs, key) if key and looked < LOOKED_INTO_MAX else []
        last = re.sub(r"\d+", "#", lines[-1]) if lines else ""
        known = kinds.get((task.exit_code, reason, last))
        if known is None:
            known = kinds[task.exit_code, reason, last] = Alike(job, task.exit_code, reason, key, lines)
        known.indices.append(task.index or 0)
    return list(kinds.values())


def excerpt(line: str) -> str:
    """What a terminal would show of it: after the last return of the carriage, as progress bars have it; and not without end."""
    text = clean(line.rstrip("\r").rpartition("\r")[2])
    return text if len(text) <= LINE_MAX else f"{text[:LINE_MAX]}… ({len(text):,} characters)"


def print_group(run: ShownRun, group: Alike, command: Command | None) -> None:
    job = group.job
    parts = []
    if job.size is not None:
        parts.append(f"{len(group.indices)} of {job.size} children")
    if group.exit_code is not None:
        parts.append(f"exit {group.exit_code}")
    if group.reason != EXITED or group.exit_code is None:  # what every ended task says, says nothing here
        parts.append(one_line(group.reason))
    tolerated = job.status is Status.SUCCEEDED
    mark = click.style("~", fg="yellow") if tolerated else click.style("✗", fg="red")
    click.echo(f"  {mark} {clean(job.name)}: {', '.join(parts)}{' (tolerated)' if tolerated else ''}")
    for line in group.lines:
        click.echo(f"      {excerpt(line)}")
    if group.example is not None and command is not None:
        address = f"{run.id[:8]}/{job.name}" + ("" if job.size is None else f":{group.example.idx}")
        click.echo(click.style(f"      {command('logs', address)}", dim=True))
