"""`runs` and `jobs`: what there is and how it stands, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json_list, print_table, status_text, time_text
from flowbatch.model.status import Status

if TYPE_CHECKING:
    from flowbatch.cli.records import Records
    from flowbatch.store.results import JobView, MemberView, RunView, TaskView

JOB_HEADERS: Final = ("JOB", "STATUS", "CHILDREN", "ATTEMPTS", "EXIT", "STARTED", "TOOK", "REASON")
RUNS_SHOWN: Final = 20
PAGE: Final = 500
ROWS_SHOWN: Final = 1000  # in a table; a program gets all


@click.command()
@click.option("--limit", type=click.IntRange(1), default=RUNS_SHOWN, show_default=True, help="How many.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def runs(place: Place, limit: int, everything: bool, as_json: bool) -> int:
    """List runs, the newest first. A RUNNING run that no engine holds is interrupted: `resume` continues it."""
    from flowbatch.cli.rows import run_object

    with place.records() as reader:
        found = pages(reader, None if everything else limit)
        if as_json:
            print_json_list(run_object(run, interrupted=place.is_interrupted(run)) for run in found)
            return 0
        rows = [run_cells(place, run) for run in found]
        older = len(rows) == limit and not everything and len(reader.runs(limit=limit + 1)) > limit
    if not rows:
        click.echo("Nothing has run here yet.")
        return 0
    print_table(["RUN", "WORKFLOW", "STATUS", "CREATED", "TOOK", "NOTE"], rows)
    if older:
        click.echo("There are older ones: --all lists every run.", err=True)
    return 0


def pages(reader: Records, limit: int | None) -> Iterator[RunView]:
    before = None
    while limit is None or limit > 0:
        page = reader.runs(limit=PAGE if limit is None else min(limit, PAGE), before=before)
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1].no
        limit = None if limit is None else limit - len(page)


def run_cells(place: Place, run: RunView) -> list[str]:
    from flowbatch.cli.rows import shortened, took_text

    row = run.row
    note = shortened(row.status_reason or "")
    if place.is_interrupted(run):
        note = f"interrupted: {place.resume_hint(run)}"
    return [
        run.id[:8],
        run.workflow,
        status_text(run.status.name),
        time_text(row.created_at),
        took_text(row.created_at, row.stopped_at),
        note,
    ]


@click.command()
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="Every child of the arrays too.")
@click.option(
    "--status", type=click.Choice([status.name for status in Status], case_sensitive=False), help="Only these."
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def jobs(place: Place, run: str, everything: bool, status: str | None, as_json: bool) -> int:
    """List the jobs of a RUN: an id, the beginning of one, a workflow's name (its newest run) or `last`."""
    only = None if status is None else Status[status.upper()]
    with place.records() as reader:
        found = reader.run(run)
        if as_json:
            print_json_list(objects(reader, found, only, everything=everything))
            return 0
        print_jobs(place, reader, found, only, everything=everything)
    return 0


def objects(reader: Records, run: RunView, only: Status | None, *, everything: bool) -> Iterator[dict[str, object]]:
    from flowbatch.cli.members import member_child
    from flowbatch.cli.rows import child_object, job_object
    from flowbatch.store.results import MemberView

    for job, task in listed(reader, run, only, everything=everything):
        if isinstance(task, MemberView):
            yield member_child(job, task)
        else:
            yield job_object(job, task) if task is None or task.index is None else child_object(task)


def listed(
    reader: Records, run: RunView, only: Status | None, *, everything: bool
) -> Iterator[tuple[JobView, TaskView | MemberView | None]]:
    """Each job with its own task where it is a single, then the array's children, or its nodes, where they are wanted."""
    for job in reader.jobs(run):
        if only is None or job.status is only:
            yield job, reader.task(job) if job.size is None else None
        if everything and job.size is None:
            for member in reader.members(job):
                if only is None or member.status is only:
                    yield job, member
        elif everything:
            for task in reader.tasks(job, status=only):
                yield job, task


def print_jobs(place: Place, reader: Records, run: RunView, only: Status | None, *, everything: bool) -> None:
    found = listed(reader, run, only, everything=everything)
    rows = [job_cells(job, task) for job, task in islice(found, ROWS_SHOWN)]
    if not rows:
        click.echo("There is no such job in this run." if only is not None else "This run has no jobs.")
        return
    print_table(JOB_HEADERS, rows)
    if next(found, None) is not None:
        click.echo(f"These are the first {ROWS_SHOWN}: --json prints all, --status chooses.", err=True)
    if place.is_interrupted(run):
        click.echo(f"This run was interrupted: {place.resume_hint(run)}.", err=True)


def job_cells(job: JobView, task: TaskView | MemberView | None) -> list[str]:
    from flowbatch.cli.members import member_cells
    from flowbatch.store.results import MemberView

    if isinstance(task, MemberView):
        return member_cells(job, task)
    from flowbatch.cli.rows import counts_text, shortened, task_reason, took_text

    if task is None:
        row = job.row
        return [
            job.name,
            status_text(job.status.name),
            counts_text(job.counts) or "none",
            "-",
            "-",
            time_text(row.started_at),
            took_text(row.started_at, row.stopped_at),
            shortened(row.status_reason or ""),
        ]
    return [
        job.name if task.index is None else f"{job.name}:{task.index}",
        status_text(task.status.name),
        "-",
        str(task.attempts),
        "-" if task.exit_code is None else str(task.exit_code),
        time_text(task.started_at),
        took_text(task.started_at, task.stopped_at),
        shortened(task_reason(task)),
    ]
