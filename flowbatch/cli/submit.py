"""`submit`: one job into a queue, as sbatch does; it belongs to no run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
import click
from msgspec.structs import replace

from flowbatch.cli.context import Place
from flowbatch.errors import InputError, WorkflowInvalid

if TYPE_CHECKING:
    from flowbatch.model.jobspec import JobPlan, Need
    from flowbatch.model.rows import EndedJob
    from flowbatch.remote.channel import Channel

NAME_MAX: Final = 128
FILE: Final = "submit"  # what stands for the file in messages


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("--name", help="The job's name.  [default: the command's]")
@click.option("--queue", default="default", show_default=True, help="The job queue.")
@click.option("--array", type=int, metavar="N", help="N children; each finds its index in AWS_BATCH_JOB_ARRAY_INDEX.")
@click.option("--vcpus", help="vCPUs, 0.5 too.  [default: 1]")
@click.option("--memory", help="Memory: 512MiB, 3GiB.")
@click.option("--gpus", type=int, help="GPUs.")
@click.option("--image", help="Run in a container of this image.")
@click.option(
    "--env", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of its environment; may be repeated."
)
@click.option(
    "--needs", multiple=True, metavar="ID", help="Start once this job has succeeded: an id or RUN/JOB; may be repeated."
)
@click.option("--attempts", type=int, help="How often it is tried in all, 1 to 10.")
@click.option("--timeout", help="For each attempt: 90s, 20m, 1h30m.")
@click.option("--allow", multiple=True, metavar="WHAT", help="What the container may, as for `run`.")
@click.option("--json", "as_json", is_flag=True)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGUMENT]...")
@click.pass_obj
def submit(place: Place, /, command: Sequence[str], needs: Sequence[str], as_json: bool, **given: Any) -> int:
    """Queue one job and print its id.

    It runs in this folder of yours, as soon as its queue's environments have room: with the engine that runs here now, or the next
    `flowbatch serve` (`flowbatch run` runs nothing but its file). With --server it runs there, and what it names lies there.
    """
    from flowbatch import logs
    from flowbatch.cli.output import print_json

    logs.configure()
    if place.channel is not None:
        return submit_elsewhere(place, place.channel, command, needs, as_json, given)
    plan = plan_of(place, command, given)
    plan = replace(plan, spec=replace(plan.spec, needs=needs_of(place, needs)))
    held = place.folder.holder() is not None
    job = send(place, plan) if held else anyio.run(store, place, plan)
    if as_json:
        print_json({"job": job, "name": plan.spec.key, "queue": plan.spec.queue})
        return 0
    click.echo(job)
    if not held:
        click.echo(
            f"No engine runs here: `{place.command('serve')}` starts it, which also stays for the next one.", err=True
        )
    return 0


def plan_of(place: Place, command: Sequence[str], given: dict[str, Any]) -> JobPlan:
    """By the very rules of a workflow file, with one job in it. Raises InputError."""
    from flowbatch.cli.load import guard, no_plugins, read_source, stored

    name, layer = said(command, given)
    with no_plugins():
        from flowbatch.spec.compile import parse, plan
        from flowbatch.spec.single import single_problems, single_text
    environments, queues = place.places
    folder = os.getcwd()
    try:
        made = plan(
            parse(single_text(name, layer), FILE),
            params={},
            run_id=str(uuid4()),
            new_id=lambda: str(uuid4()),
            folder=folder,
            home=str(Path.home()),
            read_source=read_source,
            available=environments,
            host=place.settings.host,
            queues=queues,
            root=os.getuid() == 0,
            guard=guard(place, folder, given["allow"]),
            registry=lambda name, revision: stored(place, name, revision),
        )
    except WorkflowInvalid as error:
        raise InputError("\n".join(f"--{each}" for each in single_problems(error, name))) from None
    for warning in made.warnings:
        click.echo(f"{warning.message} (warning)", err=True)
    return made.run.jobs[0]


def said(command: Sequence[str], given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The job's name, and what a workflow file would say of it. Raises InputError."""
    from flowbatch.cli.load import is_text

    name = given["name"] or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(command[0]).name).strip("-")[:NAME_MAX] or "job"
    words = ("queue", "array", "vcpus", "memory", "gpus", "image", "attempts", "timeout")
    layer: dict[str, Any] = {word: given[word] for word in words if given[word] is not None}
    layer["command"] = list(command)
    if given["variables"]:
        layer["env"] = variables_of(given["variables"])
    if "vcpus" in layer:
        layer["vcpus"] = number_of("--vcpus", layer["vcpus"])
    for word in (*command, *given["variables"], name):
        if not is_text(word):
            raise InputError(f"{os.fsencode(word)!r}: not UTF-8; a job's words must be")
    return name, layer


def submit_elsewhere(
    place: Place, channel: Channel, command: Sequence[str], needs: Sequence[str], as_json: bool, given: dict[str, Any]
) -> int:
    """To the server of --server, whose settings alone say what containers may."""
    from flowbatch.cli.output import print_json

    if given["allow"]:
        raise InputError("--allow: what containers may on a server, its settings say; leave it out with --server")
    name, layer = said(command, given)
    needed = [{"job": each.job, "index": each.index} for each in needs_of(place, needs)]
    answer = channel.post("jobs", body={"name": name, **layer, "needs": needed})
    for warning in answer.pop("warnings"):
        click.echo(f"{warning} (warning)", err=True)
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["job"])
    return 0


def variables_of(words: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--env {word}: a variable is given as NAME=VALUE")
        found[name] = value
    return found


def number_of(option: str, text: str) -> int | float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{option} {text}: a number is needed, such as 2 or 0.5") from None
    return int(value) if value.is_integer() else value


def needs_of(place: Place, addresses: Sequence[str]) -> tuple[Need, ...]:
    """Of jobs, or of single children of arrays. Raises InputError."""
    from flowbatch.model.jobspec import Need

    found = []
    for address in addresses:
        with place.records() as reader:
            named = reader.resolve(address)
        if named.job is None:
            raise InputError(f"--needs {address}: a job is needed, and this is a run; RUN/JOB names one of its jobs")
        indices = named.indices or ()
        if len(indices) > 1 or any(lo != hi for lo, hi in indices):
            raise InputError(f"--needs {address}: one child or the whole job can be waited for")
        found.append(Need(named.job.id, index=indices[0][0] if indices else None))
    return tuple(dict.fromkeys(found))


def send(place: Place, plan: JobPlan) -> str:
    """To the engine that holds the folder. What it has forgotten of ended jobs is told to it from the store."""
    from flowbatch.store import plans

    said = json.loads(plans.job_json(plan))
    answer = place.ask("submit_job", plan=said)
    absent = answer.get("absent") if isinstance(answer, dict) else None
    if absent:
        ended = [encoded(each) for each in ended_jobs(place, absent)]
        answer = place.ask("submit_job", plan=said, ended=ended)
    return job_of(answer)


async def store(place: Place, plan: JobPlan) -> str:
    """Without an engine: kept for the next one, and nothing is started."""
    from flowbatch.app import open_app
    from flowbatch.model.stimuli import Drain, SubmitJob

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        app.engine.post(Drain())
        answer = await app.engine.ask(lambda ticket: SubmitJob(ticket, plan))
        if isinstance(answer.value, dict) and "absent" in answer.value:
            ended = tuple(ended_jobs(place, answer.value["absent"]))
            answer = await app.engine.ask(lambda ticket: SubmitJob(ticket, plan, ended))
        if answer.error is not None:
            raise InputError(answer.error)
        return job_of(answer.value)


def ended_jobs(place: Place, ids: Sequence[str]) -> list[EndedJob]:
    with place.reader() as reader:
        return [found for each in ids if (found := reader.ended_job(each)) is not None]


def encoded(ended: EndedJob) -> dict[str, object]:
    return {
        "id": ended.id,
        "name": ended.name,
        "status": int(ended.status),
        "size": ended.size,
        "cells": ended.cells.hex(),
        "again": ended.again,
    }


def job_of(answer: object) -> str:
    if not isinstance(answer, dict) or "job" not in answer:
        raise InputError(f"the engine did not take the job: {answer}")
    return str(answer["job"])
