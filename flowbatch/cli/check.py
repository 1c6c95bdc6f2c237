"""`check`: everything that is wrong with a workflow, or the plan of what `run` would do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import click

from flowbatch.cli.containers import container_object, notes_on, words_of
from flowbatch.cli.context import ALLOW_HELP, Place
from flowbatch.cli.members import members_object, note_on, words_on
from flowbatch.cli.output import clean, counted, print_json, print_table
from flowbatch.errors import Problem, WorkflowInvalid

if TYPE_CHECKING:
    from flowbatch.model.ids import JobId
    from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, Queue
    from flowbatch.spec.compile import Plan

NAMED_MAX: Final = 5  # jobs that a note names before it counts them


@click.command()
@click.argument("workflow")
@click.option("-p", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the workflow.")
@click.option("--only", multiple=True, metavar="JOB", help="This job and what it needs; may be repeated.")
@click.option("--allow", multiple=True, metavar="WHAT", help=ALLOW_HELP)
@click.option("--json", "as_json", is_flag=True, help="The plan, or the problems, as one JSON object.")
@click.option(
    "--aws", is_flag=True, help="Name each line that AWS Batch would treat otherwise; exit code 1 where there are any."
)
@click.pass_obj
def check(
    place: Place,
    workflow: str,
    params: Sequence[str],
    only: Sequence[str],
    allow: Sequence[str],
    as_json: bool,
    aws: bool,
) -> int:
    """Validate WORKFLOW and print its plan: jobs in their order, sizes, resources, needs. Nothing is started or stored.

    All problems are told at once, each with file, line and column; the exit code then is 2.
    """
    from flowbatch.cli.load import load_plan

    try:
        plan = load_plan(place, workflow, params, only, allow=allow)
    except WorkflowInvalid as error:
        if as_json:
            print_json({"valid": False, "problems": [problem_object(problem) for problem in error.problems]})
        raise
    if aws:
        return compare(plan, as_json=as_json)
    if as_json:
        print_json(plan_object(plan))
        return 0
    print_plan(plan)
    for warning in plan.warnings:
        click.echo(f"{warning} (warning)", err=True)
    return 0


def compare(plan: Plan, *, as_json: bool) -> int:
    """Line by line, as a compiler's warnings are; 1 where AWS Batch would treat anything otherwise."""
    from flowbatch.spec.parity import differences, summary

    found = differences(plan)
    if as_json:
        print_json({"same": not found, "differences": [problem_object(each) for each in found]})
    else:
        for each in found:
            click.echo(clean(str(each)))
        click.echo(summary(len(found)), err=True)
    return 1 if found else 0


def problem_object(problem: Problem) -> dict[str, object]:
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
    }


def plan_object(plan: Plan) -> dict[str, object]:
    run = plan.run
    keys = {job.id: job.spec.key for job in run.jobs}
    return {
        "valid": True,
        "workflow": run.workflow,
        "file": run.file,
        "params": dict(run.params),
        "deadline_ms": run.deadline_ms,
        "jobs": [job_object(job, keys) for job in run.jobs],
        "environments": [environment_object(each) for each in plan.environments],
        "queues": [queue_object(each) for each in plan.queues],
        "notes": notes(plan),
        "warnings": [problem_object(warning) for warning in plan.warnings],
    }


def job_object(job: JobPlan, keys: dict[JobId, str]) -> dict[str, object]:
    """`keys`: names of jobs by id."""
    from flowbatch.model.jobspec import title_of

    spec = job.spec
    return {
        "job": spec.key,
        "definition": spec.definition or None,
        "finally": job.stage == "finally",
        "array": spec.size,
        "queue": title_of(spec.queue),
        "command": list(spec.command),
        "image": None if spec.container is None else spec.container.image,
        "container": container_object(spec.container),
        "members": members_object(spec),
        "vcpus": spec.resources.vcpus_milli / 1000,
        "memory_mib": spec.resources.memory_mib,
        "gpus": spec.resources.gpus,
        "tokens": {title_of(name): count for name, count in spec.tokens},
        "needs": [{"job": keys.get(n.job, n.job), "when": n.when.value, "each": n.each} for n in spec.needs],
        "sequential": spec.sequential,
        "max_running": spec.max_running,
        "tolerate": spec.tolerate,
        "share": spec.share,
        "priority": spec.priority,
        "attempts": spec.retry.attempts,
        "timeout_ms": spec.timeout_ms,
        "workdir": spec.workdir,
        "env": dict(spec.env),
        "secrets": [name for name, _ in spec.secrets],
    }


def environment_object(place: Environment) -> dict[str, object]:
    return {
        "environment": place.name,
        "backend": place.backend,
        "type": place.type.value,
        "spot": place.spot,
        "vcpus": place.total().vcpus_milli / 1000,
        "memory_mib": place.total().memory_mib,
        "gpus": place.total().gpus,
        "enabled": place.enabled,
        "cpu": place.cpu.value,
    }


def queue_object(queue: Queue) -> dict[str, object]:
    from flowbatch.model.queues import limit_objects, policy_object

    return {
        "queue": queue.name,
        "priority": queue.priority,
        "environments": list(queue.environments),
        "max_running": queue.max_running,
        "enabled": queue.enabled,
        "policy": policy_object(queue.policy),
        "limits": limit_objects(queue.limits),
    }


def print_plan(plan: Plan) -> None:
    from flowbatch.cli.drawings import in_order, needs_text, nodes_of
    from flowbatch.spec.scalars import text_of

    run = plan.run
    tasks = sum(job.spec.tasks for job in run.jobs)
    click.echo(f"{clean(run.workflow)} is valid: {counted(len(run.jobs), 'job')}, {counted(tasks, 'task')}.")
    if run.params:
        click.echo("Parameters: " + clean(", ".join(f"{name}={text_of(value)}" for name, value in run.params)))
    if run.deadline_ms is not None:
        click.echo(f"Deadline: {span_text(run.deadline_ms)} from its creation, finally excepted.")
    click.echo()
    nodes = nodes_of(run.jobs)
    ordered = [*in_order([n for n in nodes if not n.last]), *in_order([n for n in nodes if n.last])]
    specs = {job.spec.key: job.spec for job in run.jobs}
    places = {queue.name: queue.environments for queue in plan.queues}
    headers = ["JOB", "SIZE", "EACH TASK", "QUEUE", "TIMEOUT", "ATTEMPTS", "NEEDS"]
    rows = []
    for node in ordered:
        spec = specs[node.name]
        where = f"{spec.queue} → {', '.join(places.get(spec.queue, ()))}"
        needs = needs_text(node).removeprefix("← ") or ("all of the above" if node.last else "-")
        timeout = "-" if spec.timeout_ms is None else span_text(spec.timeout_ms)
        size = "-" if spec.size is None else str(spec.size)
        size = size if spec.nodes is None else f"{spec.nodes} nodes"
        name = node.name + (" (finally)" if node.last else "")
        rows.append([name, size, str(spec.resources), where, timeout, str(spec.retry.attempts), needs])
    print_table(headers, rows)
    details = [
        (node.name, words)
        for node in ordered
        if (
            words := [*words_of(specs[node.name].container), *words_on(specs[node.name]), *details_of(specs[node.name])]
        )
    ]
    if details:
        click.echo()
        for name, words in details:
            click.echo(clean(f"{name}: {'; '.join(words)}"))
    click.echo()
    used = {name for job in run.jobs for name in places.get(job.spec.queue, ())}
    for place in plan.environments:
        if place.name in used:
            state = "" if place.enabled else " (disabled)"
            kind = ", Spot" if place.spot else "" if place.managed else ", unmanaged"
            click.echo(clean(f"Environment {place.name} ({place.backend}{kind}): {place.total()}{state}"))
    for note in notes(plan):
        click.echo(f"Note: {clean(note)}")


def details_of(spec: JobSpec) -> list[str]:
    """What the table has no room for."""
    from flowbatch.model.jobspec import title_of

    words = ["its children run one after the other"] if spec.sequential else []
    if spec.max_running is not None:
        words.append(f"at most {spec.max_running} run at once")
    if spec.share is not None:
        words.append(f"share {spec.share}")
    if spec.tolerate:
        words.append(f"{spec.tolerate} may fail")
    if spec.chunk > 1:
        words.append(f"{spec.chunk} items a child")
    policy = spec.retry
    if policy.attempts > 1 and policy.backoff_first_ms:
        words.append(f"backoff {span_text(policy.backoff_first_ms)}..{span_text(policy.backoff_last_ms)}")
    if policy.attempts > 1 and policy.rules:
        words.append(counted(len(policy.rules), "retry rule"))
    if spec.tokens:
        words.append("holds " + ", ".join(f"{count} of {title_of(name)}" for name, count in spec.tokens))
    if spec.secrets:
        words.append(f"secrets {', '.join(name for name, _ in spec.secrets)}")
    return words


def notes(plan: Plan) -> list[str]:
    """What is legal and may surprise."""
    found = []
    bare = [job.spec.key for job in plan.run.jobs if any(not each.resources.memory_mib for each in job.spec.programs)]
    if bare:
        found.append(f"memory is omitted in {some(bare)}: it reserves nothing and limits nothing.")
    empty = [job.spec.key for job in plan.run.jobs if job.spec.size == 0]
    if empty:
        found.append(f"{some(empty)}: an array of 0 succeeds without an attempt, once its needs are met.")
    found += [note for job in plan.run.jobs if (note := note_on(job.spec)) is not None]
    return found + notes_on([job.spec for job in plan.run.jobs])


def some(names: Sequence[str]) -> str:
    """`a, b and c`, or the first of many and how many more."""
    if len(names) > NAMED_MAX:
        return f"{', '.join(names[:NAMED_MAX])} and {len(names) - NAMED_MAX} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def span_text(ms: int) -> str:
    """As a workflow file has it: `500ms`, `90s`, `20m`, `1h30m`."""
    if ms % 1000:
        return f"{ms}ms"
    hours, rest = divmod(ms // 1000, 3600)
    minutes, seconds = divmod(rest, 60)
    parts: Iterable[tuple[int, str]] = ((hours, "h"), (minutes, "m"), (seconds, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"
