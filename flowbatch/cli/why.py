"""`why`: one sentence. The running engine knows what a task waits for; the store knows how one ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, counted, print_json
from flowbatch.errors import BackendUnavailable, InputError
from flowbatch.model.jobspec import When
from flowbatch.model.status import RunStatus, Status

if TYPE_CHECKING:
    from flowbatch.cli.records import Records
    from flowbatch.store.results import Found, JobView, RunView, TaskView


@click.command()
@click.argument("address", metavar="RUN[/JOB[:INDEX]]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def why(place: Place, address: str, as_json: bool) -> int:
    """Say in one sentence what a run, a job or a child waits for, or how it ended."""
    with place.records() as reader:
        found = reader.resolve(address)
        run, job, index = found.run, found.job, found.index
        if job is None:
            assert run is not None
            status, sentence = run.status.name, of_run(place, reader, run)
        elif index is None and (found.indices is not None or found.failed):
            raise InputError(f"{address}: one child is explained at a time, like {job.name}:{first_of(found.indices)}")
        else:
            child = None if job.size is None else index
            if found.member is not None:
                return of_member(place, reader, found, address, as_json=as_json)
            status = (job.status if child is None else reader.task(job, child).status).name
            sentence = of_job(place, reader, run, job, child)
    if as_json:
        told = {"run": found.run_id, "job": None if job is None else job.name, "job_id": found.job_id}
        print_json(
            {**told, "index": None if job is None or job.size is None else index, "status": status, "why": sentence}
        )
    else:
        click.echo(clean(sentence).replace("\n", " "))
    return 0


def of_member(place: Place, reader: Records, found: Found, address: str, *, as_json: bool) -> int:
    from flowbatch.cli.members import member_reason, one_of

    each = one_of(reader, found, address)
    assert found.job is not None
    name = f"{found.job.name}@{each.label}"
    if each.status.terminal:
        how = "ended" if each.exit_code is None else f"exited with {each.exit_code}"
        how = how if each.started_at is not None else "never began"
        sentence = f"{name} {each.status.name}: {how}"
        if reason := member_reason(each):
            sentence += f" ({reason})"
    elif each.status is Status.RUNNABLE:
        sentence = f"{name} waits: "
        sentence += "for the main node to run" if each.node is not None and not each.main else "for what it depends on"
    else:
        sentence = f"{name} is {each.status.name}" + (f" at {each.address}" if each.address else "")
    if as_json:
        told = {"run": found.run_id, "job": found.job.name, "job_id": found.job_id, "index": found.index}
        print_json({**told, "member": each.label, "status": each.status.name, "why": sentence})
    else:
        click.echo(clean(sentence))
    return 0


def first_of(indices: tuple[tuple[int, int], ...] | None) -> int:
    return 0 if indices is None else indices[0][0]


def of_run(place: Place, reader: Records, run: RunView) -> str:
    from flowbatch.core.dependencies import DEPENDENT_FAILED

    jobs = reader.jobs(run)
    name = f"run {run.id[:8]} ({run.workflow})"
    if run.status is RunStatus.RUNNING:
        open_jobs = [job for job in jobs if not job.status.terminal]
        head = f"{name} is RUNNING: {len(open_jobs)} of {counted(len(jobs), 'job')} {'is' if len(open_jobs) == 1 else 'are'} open"
        return f"{head}; {of_job(place, reader, run, open_jobs[0], None)}" if open_jobs else head
    failed = [job for job in jobs if job.status is Status.FAILED]
    reason = f" ({run.row.status_reason})" if run.row.status_reason else ""
    if not failed:
        return f"{name} {run.status.name}{reason}: " + (
            f"all of its {len(jobs)} jobs have" if len(jobs) > 1 else "its one job has"
        )
    # what failed by itself says more than what failed with it
    telling = next((job for job in failed if job.row.status_reason != DEPENDENT_FAILED), failed[0])
    return f"{name} FAILED{reason}: {len(failed)} of {len(jobs)} jobs did; {ended(reader, run, telling, None)}"


def of_job(place: Place, reader: Records, run: RunView | None, job: JobView, index: int | None) -> str:
    status = job.status if index is None else reader.task(job, index).status
    if status.terminal:
        return ended(reader, run, job, index)
    if not place.held:
        return interrupted(place, run, job, index, status)
    try:
        told = place.ask("why", job=job.id, index=index)
    except BackendUnavailable:
        told = None  # it has just ended, or only just begun
    if isinstance(told, str):
        return told.replace("`flowbatch ", f"`{place.command()} ")  # the engine does not know what was typed
    again = reader.job(job.id)  # it may have ended while we asked
    if again is not None and (again.status if index is None else reader.task(again, index).status).terminal:
        return ended(reader, run, again, index)
    return f"{name_of(job, index)} is {status.name}, and the engine that holds the folder does not say why"


def interrupted(place: Place, run: RunView | None, job: JobView, index: int | None, status: Status) -> str:
    from flowbatch.cli.rows import counts_text

    how = f"is {status.name}"
    if job.size is not None and index is None:
        how = f"is {status.name} with {counts_text(job.counts) or 'no children'}"
    elif status.live:
        how = f"was {status.name} when the engine ended, and may have ended since"
    verb = f"`{place.command('serve')}` goes on with it" if run is None else (
        f"`{place.command('resume', run.id[:8])}` continues it"
    )  # fmt: skip
    return f"no engine runs: {name_of(job, index)} {how}; {verb}"


def ended(reader: Records, run: RunView | None, job: JobView, index: int | None) -> str:
    from flowbatch.core.dependencies import DEPENDENT_FAILED

    if job.size is not None and index is None:
        return array_ended(reader, run, job)
    task = reader.task(job, index or 0)
    name = name_of(job, index)
    reason = task.reason or task.status_reason or "no reason is known"
    if task.status_reason == DEPENDENT_FAILED and task.exit_code is None:
        return f"{name} FAILED without an attempt: {because(reader, run, job, index)}"
    if not task.attempts or task.environment is None:
        return f"{name} {task.status.name} without {'an' if not task.attempts else 'a further'} attempt: {reason}"
    return f"{name} {task.status.name}: {attempt_text(reader, job, task)}"


def attempt_text(reader: Records, job: JobView, task: TaskView) -> str:
    from flowbatch.cli.rows import task_reason, took_text

    took = f" after {took_text(task.started_at, task.stopped_at)}" if task.started_at is not None else ""
    how = f"exited with {task.exit_code}" if task.exit_code is not None else "ended" if took else "could not start"
    if task.status is Status.SUCCEEDED:
        return f"attempt {task.attempts} {how}{took}"
    reason = f" ({why})" if (why := task_reason(task)) else ""
    return f"attempt {task.attempts} {how}{took}{reason}{no_further(reader, job, task)}"


def no_further(reader: Records, job: JobView, task: TaskView) -> str:
    """Why it was not tried again, where its reason does not say it already (aws-batch.md §4)."""
    from flowbatch.core.ending import EXITED, FAILED_TO_START, HOST_LOST, TIMED_OUT

    most = reader.job_plan(job).spec.retry.attempts
    if task.status_reason == TIMED_OUT:
        return ", and a timeout is never tried again"
    if task.status_reason not in (EXITED, FAILED_TO_START, HOST_LOST):
        return ""  # the user stopped it
    if job.row.generation:
        return ""  # numbers go on when a run is retried, so that they say nothing about the budget then
    if task.attempts >= most:
        return f", and {most} {'was' if most == 1 else 'were'} allowed"
    if task.cancelled or job.row.cancelled:
        return ", and it had been cancelled meanwhile"
    return f", and a rule of its `retry` exits on that ({most} attempts were allowed)"


def array_ended(reader: Records, run: RunView | None, job: JobView) -> str:
    failed = job.counts.get(Status.FAILED, 0)
    if not failed:
        reason = f" ({job.row.status_reason})" if job.row.status_reason else ""
        return f"{job.name} {job.status.name}{reason}: none of its {job.tasks} children failed"
    tolerated = reader.job_plan(job).spec.tolerate
    allowed = f"{tolerated} may" if tolerated else "none may"
    first = next(reader.tasks(job, status=Status.FAILED))
    return (
        f"{job.name} {job.status.name}: {failed} of {job.tasks} children FAILED, {allowed}; "
        f"the first of them: {ended(reader, run, job, first.index)}"
    )


def because(reader: Records, run: RunView | None, job: JobView, index: int | None) -> str:
    """Which needed job failed."""
    spec = reader.job_plan(job).spec
    sources = {} if run is None else {each.id: each for each in reader.jobs(run)}
    names = []
    for need in spec.needs:
        source = sources.get(need.job) or reader.job(need.job)
        if source is None:
            continue
        if need.each and index is not None:
            if need.when is When.SUCCESS and reader.task(source, index).status is Status.FAILED:
                names.append(f"{source.name}:{index}")
        elif need.when is When.SUCCESS and source.status is Status.FAILED:
            names.append(source.name)
    if not names and spec.sequential and index:
        names.append(f"{job.name}:{index - 1}")
    return f"it needs {' and '.join(names)}, which FAILED" if names else "what it needs FAILED"


def name_of(job: JobView, index: int | None) -> str:
    return job.name if index is None else f"{job.name}:{index}"
