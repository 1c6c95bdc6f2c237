"""`show`: everything that is known of a run, a job, a child or an attempt."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json, print_table, status_text, time_text
from flowbatch.core.members import layout_of
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.cli.records import Records
    from flowbatch.model.jobspec import JobSpec
    from flowbatch.store.results import AttemptView, Found, JobView, MemberView, RunView, TaskView

FAILED_SHOWN: Final = 10


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDEX][#ATTEMPT]]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(place: Place, address: str, as_json: bool) -> int:
    """Show a run, a job, a child or an attempt in detail."""
    from flowbatch.cli import details

    with place.records() as reader:
        found = reader.resolve(address)
        if found.job is None and found.run is not None:
            if as_json:
                print_json(details.run_details(place, reader, found.run))
            else:
                show_run(place, reader, found.run)
        elif found.job is not None and found.index is None and found.indices is None and not found.failed:
            if as_json:
                print_json(details.job_details(reader, found.run, found.job))
            else:
                show_job(reader, found.run, found.job)
        else:
            show_task(place, reader, found, address, as_json=as_json)
    return 0


def show_task(place: Place, reader: Records, found: Found, address: str, *, as_json: bool) -> None:
    from flowbatch.cli import details

    job, index = found.job, found.index
    if job is None or index is None:
        raise InputError(
            f"{address}: one child is shown at a time; `{place.command('jobs', found.run_id or 'RUN', '--all')}` lists them"
        )
    if found.member is not None:
        show_member(place, reader, found, address, as_json=as_json)
        return
    attempts = reader.attempts(job, index)
    if found.attempt is not None:
        attempts = [each for each in attempts if each.key.attempt == found.attempt]
        if not attempts:
            raise InputError(f"{address}: there was no attempt {found.attempt}; {had(reader.attempts(job, index))}")
    task = reader.task(job, index)
    if as_json:
        if found.attempt is not None:
            print_json(details.attempt_object(attempts[0], place.logs))
        else:
            print_json(details.task_details(reader, found.run, job, task, attempts, place.logs))
        return
    spec = reader.job_plan(job).spec
    if found.attempt is None:
        print_task(reader, found.run, job, task, spec)
        click.echo()
    members = reader.members(job, index, found.attempt)
    print_attempts(place, found, attempts, logs=not members)
    if members and attempts:
        from flowbatch.cli.members import print_members

        click.echo()
        print_members(members)
        click.echo(f"\nlogs: {place.command('logs', example(found, members[0]))}")


def example(found: Found, member: MemberView) -> str:
    """The address of one of several."""
    return f"{address_of(found)}@{member.label}"


def address_of(found: Found) -> str:
    """Of one task."""
    run = (found.job_id or "") if found.run is None or found.job is None else f"{found.run.id[:8]}/{found.job.name}"
    index = "" if found.job is None or found.job.size is None else f":{found.index}"
    return f"{run}{index}"


def show_member(place: Place, reader: Records, found: Found, address: str, *, as_json: bool) -> None:
    from flowbatch.cli.members import member_object, member_reason, one_of
    from flowbatch.cli.rows import took_text

    each, job = one_of(reader, found, address), found.job
    assert job is not None
    if as_json:
        print_json({"kind": "node" if each.node is not None else "container", **member_object(each, place.logs)})
        return
    layout = layout_of(reader.job_plan(job).spec)
    assert layout is not None
    spec = layout.parts[each.key.member].spec
    index = "" if job.size is None else f":{each.key.idx}"
    fields = [
        ("node" if each.node is not None else "container", f"{job.name}{index}@{each.label} ({each.id})"),
        ("run", "" if found.run is None else f"{found.run.id} ({found.run.workflow})"),
        ("attempt", str(each.key.attempt)),
        ("status", status_text(each.status.name)),
        ("exit code", "" if each.exit_code is None else str(each.exit_code)),
        ("reason", member_reason(each)),
        ("address", each.address or ""),
        ("started", time_text(each.started_at) if each.started_at else ""),
        ("ended", time_text(each.stopped_at) if each.stopped_at else ""),
        ("took", took_text(each.started_at, each.stopped_at) if each.stopped_at else ""),
        ("log", place.logs.path(each.key) or place.command("logs", address)),
        *program_fields(spec),
    ]
    print_fields(fields)


def had(attempts: Sequence[AttemptView]) -> str:
    return f"it has had {len(attempts)}" if attempts else "it has had none yet"


def show_run(place: Place, reader: Records, run: RunView) -> None:
    from flowbatch.cli.lists import JOB_HEADERS, job_cells
    from flowbatch.cli.rows import took_text
    from flowbatch.spec.scalars import text_of

    row = run.row
    plan = reader.plan(run)
    note = f" (interrupted: {place.resume_hint(run)})" if place.is_interrupted(run) else ""
    fields = [
        ("run", run.id),
        ("workflow", run.workflow),
        ("file", run.file),
        ("status", status_text(run.status.name) + note),
        ("reason", row.status_reason or ""),
        ("stage", "finally" if row.stage == "finally" else ""),
        ("parameters", ", ".join(f"{name}={text_of(value)}" for name, value in plan.params)),
        ("created", time_text(row.created_at)),
        ("deadline", time_text(row.deadline_at) if row.deadline_at else ""),
        ("ended", time_text(row.stopped_at) if row.stopped_at else ""),
        ("took", took_text(row.created_at, row.stopped_at) if row.stopped_at else ""),
        ("retried", f"{row.generation} times" if row.generation else ""),
    ]
    print_fields(fields)
    click.echo()
    rows = [job_cells(job, reader.task(job) if job.size is None else None) for job in reader.jobs(run)]
    print_table(JOB_HEADERS, rows)


def show_job(reader: Records, run: RunView | None, job: JobView) -> None:
    from flowbatch.cli.lists import JOB_HEADERS, job_cells
    from flowbatch.cli.rows import counts_text
    from flowbatch.model.status import Status

    row = job.row
    fields = [
        ("job", f"{job.name} ({job.id})"),
        ("run", "" if run is None else f"{run.id} ({run.workflow})"),
        ("status", status_text(job.status.name)),
        ("reason", row.status_reason or ""),
        ("children", counts_text(job.counts) or "none"),
        ("created", time_text(row.created_at)),
        ("started", time_text(row.started_at) if row.started_at else ""),
        ("ended", time_text(row.stopped_at) if row.stopped_at else ""),
        *spec_fields(reader, run, reader.job_plan(job).spec),
    ]
    print_fields(fields)
    failed = [task for task, _ in zip(reader.tasks(job, status=Status.FAILED), range(FAILED_SHOWN), strict=False)]
    if failed:
        click.echo()
        print_table(
            JOB_HEADERS,
            [job_cells(job, task) for task in failed],
        )
        if job.counts[Status.FAILED] > len(failed):
            click.echo(f"… of {job.counts[Status.FAILED]} FAILED children.")


def print_task(reader: Records, run: RunView | None, job: JobView, task: TaskView, spec: JobSpec) -> None:
    from flowbatch.cli.rows import task_reason

    fields = [
        ("job", f"{job.name if task.index is None else f'{job.name}:{task.index}'} ({task.id})"),
        ("run", "" if run is None else f"{run.id} ({run.workflow})"),
        ("status", status_text(task.status.name)),
        ("exit code", "" if task.exit_code is None else str(task.exit_code)),
        ("reason", task_reason(task)),
        ("not before", time_text(task.not_before) if task.not_before else ""),
        ("environment", task.environment or ""),
        ("node", task.node or ""),
        ("created", time_text(task.created_at)),
        ("started", time_text(task.started_at) if task.started_at else ""),
        ("ended", time_text(task.stopped_at) if task.stopped_at else ""),
        ("item", item_text(spec, task.index)),
        *spec_fields(reader, run, spec),
    ]
    print_fields(fields)


def item_text(spec: JobSpec, index: int | None) -> str:
    from flowbatch.cli.details import items_of

    items = items_of(spec, index)
    shown = [item if isinstance(item, str) else " ".join(f"{k}={v}" for k, v in item.items()) for item in items]
    return ", ".join(shown)


def program_fields(spec: JobSpec) -> list[tuple[str, str]]:
    """What is run."""
    from flowbatch.cli.containers import words_of

    return [
        ("resources", str(spec.resources)),
        ("container", "; ".join(words_of(spec.container))),
        ("command", shlex.join(spec.command)),
        ("workdir", spec.workdir),
        ("variables", " ".join(f"{name}={shlex.quote(value)}" for name, value in spec.env)),
    ]


def spec_fields(reader: Records, run: RunView | None, spec: JobSpec) -> list[tuple[str, str]]:
    from flowbatch.cli.check import details_of, span_text
    from flowbatch.cli.members import words_on
    from flowbatch.model.jobspec import title_of

    needs = ""
    if run is not None and spec.needs:
        from flowbatch.cli.drawings import needs_text, nodes_of

        nodes = {node.name: node for node in nodes_of(reader.plan(run).jobs)}
        needs = needs_text(nodes[spec.key]).removeprefix("← ")
    return [
        ("definition", spec.definition),
        ("needs", needs),
        ("queue", title_of(spec.queue)),
        *program_fields(spec),
        ("members", "\n".join(words_on(spec))),
        ("parameters", ", ".join(f"{name}={value}" for name, value in spec.parameters)),
        ("attempts", f"{spec.retry.attempts} at most"),
        ("timeout", "" if spec.timeout_ms is None else f"{span_text(spec.timeout_ms)} an attempt"),
        ("more", "; ".join(details_of(spec))),
        ("tags", ", ".join(f"{name}={value}" for name, value in spec.tags)),
    ]


def print_attempts(place: Place, found: Found, attempts: Sequence[AttemptView], *, logs: bool = True) -> None:
    """`logs`: of several nodes or containers, each has its own."""
    from flowbatch.cli.rows import took_text

    if not attempts:
        click.echo("No attempt has begun yet.")
        return
    rows = [
        [
            str(each.key.attempt),
            each.environment or "-",
            time_text(each.started_at),
            took_text(each.started_at, each.stopped_at),
            "-" if each.exit_code is None else str(each.exit_code),
            each.reason or each.status_reason or ("" if each.stopped_at else "under way"),
        ]
        for each in attempts
    ]
    print_table(["ATTEMPT", "ENVIRONMENT", "STARTED", "TOOK", "EXIT", "REASON"], rows)
    if not logs:
        return
    click.echo()
    for image, numbers in images_of(attempts):
        which = "" if len(numbers) == len(attempts) else f" of attempt {', '.join(numbers)}"
        click.echo(f"image{which}: {clean(image)}")
    for each in attempts:
        path = place.logs.path(each.key) or place.command("logs", f"{address_of(found)}#{each.key.attempt}")
        note = " (there is none)" if place.logs.size(each.key) is None else ""
        click.echo(f"log of attempt {each.key.attempt}: {path}{note}")
        if each.truncated or place.logs.is_cut(each.key):
            click.echo("  it was capped: its beginning is gone")


def images_of(attempts: Sequence[AttemptView]) -> list[tuple[str, list[str]]]:
    """The very images that containers were made from, and of which attempts: a tag may have moved between two."""
    found: dict[str, list[str]] = {}
    for each in attempts:
        if each.image is not None:
            found.setdefault(each.image, []).append(str(each.key.attempt))
    return list(found.items())


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Those that say something; the names in a column of their own."""
    shown = [(name, text) for name, text in fields if text]
    width = max(len(name) for name, _ in shown)
    for name, text in shown:
        value = text if name == "status" else clean(text).replace("\n", "\n" + " " * (width + 2))
        click.echo(f"{click.style(name.ljust(width), dim=True)}  {value}")
