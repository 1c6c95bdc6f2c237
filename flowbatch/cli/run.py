"""`run`: from the file to its end, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import anyio
import click
from msgspec.structs import replace

from flowbatch.cli.context import ALLOW_HELP, Place
from flowbatch.errors import BackendUnavailable, FlowbatchError, FolderHeld, InputError, StoreError

if TYPE_CHECKING:
    from flowbatch.app import App
    from flowbatch.core.state import Run
    from flowbatch.model.jobspec import FakeScript, JobPlan, JobSpec, RunPlan
    from flowbatch.spec.compile import Plan

DETACH_SECONDS: Final = 20.0
SAID_BYTES: Final = 8192
DRY_RUN_TASK_MS: Final = 1_000


@click.command()
@click.argument("workflow")
@click.option("-p", "params", multiple=True, metavar="NAME=VALUE", help="Set a parameter of the workflow.")
@click.option("--only", multiple=True, metavar="JOB", help="Run this job and what it needs; may be repeated.")
@click.option("--allow", multiple=True, metavar="WHAT", help=ALLOW_HELP)
@click.option("--detach", is_flag=True, help="Run in the background; print the run's id.")
@click.option("--dry-run", is_flag=True, help="Play it through in virtual time; nothing is started or stored.")
@click.option("--json", "as_json", is_flag=True, help="No progress; one JSON object at the end.")
@click.option("--run-id", hidden=True)
@click.pass_obj
def run(
    place: Place,
    workflow: str,
    params: Sequence[str],
    only: Sequence[str],
    allow: Sequence[str],
    detach: bool,
    dry_run: bool,
    as_json: bool,
    run_id: str | None,
) -> int:
    """Run WORKFLOW to its end, with live progress: in this process, or in the `serve` that holds the state folder.

    Ctrl-C once waits for what runs and starts nothing new, twice stops it; either way the run is kept and `resume`
    continues it. From a server Ctrl-C detaches: the run goes on there. Exit code: 0, 1 where a job failed, 2 wrong input, 3 the state folder is held, 5 jobs have
    images and no Docker Engine answers, 130 interrupted.
    """
    from flowbatch import logs
    from flowbatch.cli.load import load_plan

    logs.configure()
    if detach and dry_run:
        raise InputError("--dry-run and --detach: a dry run takes a moment and is not worth the background; choose one")
    if place.server is not None and not dry_run:
        from flowbatch.cli.attached import run_elsewhere

        if allow:
            raise InputError("--allow: what containers may is said by the server's own settings; leave it out")
        return run_elsewhere(place, workflow, params, only, detach=detach, as_json=as_json)
    plan = load_plan(place, workflow, params, only, run_id=run_id, allow=allow, register=True)
    for warning in plan.warnings:
        click.echo(f"{warning} (warning)", err=True)
    if not dry_run and any(job.spec.kind == "docker" for job in plan.run.jobs):
        from flowbatch.app import reach_engines
        from flowbatch.spec.pinning import pinned

        anyio.run(reach_engines, place.folder, place.settings, pinned(plan.run, plan.environments, plan.queues))
    if not dry_run and place.served:
        from flowbatch.cli.attached import run_there

        return run_there(place, plan, detach=detach, as_json=as_json)
    if detach:
        return run_detached(place, workflow, params, only, allow, as_json)
    if dry_run:
        from flowbatch.cli.dry import run_dry

        return anyio.run(run_dry, place, plan, as_json)
    return anyio.run(run_here, place, plan, as_json)


async def run_here(place: Place, plan: Plan, as_json: bool) -> int:
    from flowbatch.backends.process_start import start_early

    place.folder.create()
    starting = start_early(place.folder.supervisor)  # while the rest is imported
    from flowbatch.app import open_app
    from flowbatch.cli.follow import SIGNALS, follow, heed_no_more
    from flowbatch.cli.owed import settle
    from flowbatch.spec.pinning import pinned

    async with open_app(place.folder, place.settings, hold_open_runs=True, starting=starting) as app:
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            run = await submit(app, pinned(plan.run, plan.environments, plan.queues))
            followed = await follow(place, app, [run], signals, as_json=as_json)
            await settle(app, [run], signals)
        heed_no_more(followed)
    followed.tell()
    return followed.code


async def submit(app: App, plan: RunPlan) -> Run:
    """The run, durable; also one that has ended in its first turn, and left the engine's memory with it."""
    from flowbatch.model.stimuli import SubmitRun

    machine = app.engine.machine
    found: list[Run] = []

    def catch(_: object) -> None:
        if not found:
            found.extend(run for run in (*machine.state.runs.values(), *machine.evicted) if run.id == plan.id)

    app.engine.observe(catch)
    answer = await app.engine.ask(lambda ticket: SubmitRun(ticket, plan, must_fit=True))
    if answer.error is not None:
        raise InputError(answer.error)
    return found[0]


def run_detached(
    place: Place, workflow: str, params: Sequence[str], only: Sequence[str], allow: Sequence[str], as_json: bool
) -> int:
    """Starts an engine in the background and waits until the run is durable there."""
    from flowbatch.app import detach
    from flowbatch.cli.output import print_json

    if place.holder is not None:
        raise FolderHeld(str(place.folder.path), place.holder or None)
    run_id = str(uuid4())
    arguments = ["--state", str(place.folder.path)]
    if place.config is not None:
        arguments += ["--config", str(Path(place.config).absolute())]
    arguments += ["run", workflow, "--run-id", run_id]
    for param in params:
        arguments += ["-p", param]
    for job in only:
        arguments += ["--only", job]
    for word in allow:
        arguments += ["--allow", word]
    child, log_at = detach(arguments, place.folder)
    deadline = time.monotonic() + DETACH_SECONDS
    while not is_stored(place, run_id):
        code = child.poll()
        if code is not None and not is_stored(place, run_id):
            raise EngineEnded(code, said_since(place.folder.engine_log, log_at))
        if time.monotonic() > deadline:
            raise BackendUnavailable(
                f"the engine (process {child.pid}) has not taken the run in {DETACH_SECONDS:g} s, and goes on trying: see "
                f"{place.folder.engine_log}, or stop it"
            )
        time.sleep(0.02)
    if as_json:
        print_json({"run": run_id, "pid": child.pid})
    else:
        click.echo(run_id)
        watch, log = place.command("show", run_id[:8]), place.command("events", "-f")
        click.echo(f"Runs in the background (process {child.pid}). See `{watch}`, `{log}`.", err=True)
    return 0


class EngineEnded(FlowbatchError):
    """The engine in the background could not begin: its own words, and its own exit code."""

    def __init__(self, code: int, said: str) -> None:
        self.exit_code = code if code > 0 else 70
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        super().__init__(f"the engine in the background ended at once, with {how}" + (f":\n{said}" if said else ""))


def said_since(log: Path, at: int) -> str:
    """What was written to the engine's log from that byte on, as far as a person reads."""
    try:
        with log.open("rb") as stream:
            stream.seek(at)
            return stream.read(SAID_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def is_stored(place: Place, run_id: str) -> bool:
    if not place.folder.exists():
        return False
    try:
        with place.reader() as reader:
            return reader.has_run(run_id)
    except StoreError:
        return (
            False  # it is being made, or brought up to date, just now; where it is damaged the engine ends and says so
        )


def fake_spec(spec: JobSpec, script: FakeScript) -> JobSpec:
    members = spec.members
    if members is not None:
        groups = tuple(
            replace(group, parts=tuple(replace(part, spec=fake_spec(part.spec, script)) for part in group.parts))
            for group in members.groups
        )
        members = replace(members, groups=groups)
    return replace(spec, secrets=(), fake=spec.fake or script, members=members)


def within(jobs: tuple[JobPlan, ...]) -> tuple[JobPlan, ...]:
    """Without needs of jobs outside the run: a play has none of them, and takes them as met."""
    own = {job.id for job in jobs}
    return tuple(
        replace(job, spec=replace(job.spec, needs=tuple(need for need in job.spec.needs if need.job in own)))
        for job in jobs
    )


def as_fake(plan: Plan) -> Plan:
    """The same plan for the fake backend: what has no `x-fake` takes a second of virtual time and succeeds."""
    from flowbatch.model.jobspec import FakeScript

    script = FakeScript(duration_ms=DRY_RUN_TASK_MS)
    jobs = tuple(replace(job, spec=fake_spec(job.spec, script)) for job in plan.run.jobs)
    places = tuple(replace(place, backend="fake") for place in plan.run.environments)
    run = replace(plan.run, jobs=within(jobs), environments=places, notify=())  # nobody is told of a play
    return replace(plan, run=run, environments=tuple(replace(place, backend="fake") for place in plan.environments))
