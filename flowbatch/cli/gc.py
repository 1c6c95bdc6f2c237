"""`gc`: ended runs past their time, their logs and their scratch folders."""

from __future__ import annotations

import re
import shutil
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import counted, duration_text, print_json
from flowbatch.clock import SystemClock
from flowbatch.errors import InputError
from flowbatch.model.ids import Millis

DAY_MS: Final = 24 * 3600 * 1000
UUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOG: Final = re.compile(r"[0-9a-f]{2}/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.\d+\.\d+(\.\d+)?\.log(\.1)?")
UNITS: Final = {"h": 3600 * 1000, "d": DAY_MS, "w": 7 * DAY_MS}


@click.command()
@click.option("--older-than", metavar="AGE", help="Runs that ended longer ago (36h, 30d, 8w).  [default: `retention`]")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def gc(place: Place, older_than: str | None, dry_run: bool, as_json: bool) -> int:
    """Delete old runs with their logs and scratch folders. Nothing is deleted that ended less than 24 hours ago."""
    pruned = prune_audit(place, dry_run=dry_run)
    age_ms = age_of(older_than) if older_than is not None else place.settings.retention_ms
    if age_ms is None and place.settings.audit_retention_ms is not None:
        report(as_json, 0, 0, audit_text(pruned, dry_run=dry_run), pruned)
        return 0
    if age_ms is None:
        raise InputError("runs are kept for ever here: say --older-than 30d, or set `retention` in flowbatch.yaml")
    before = Millis(SystemClock().now() - age_ms)
    with place.reader() as reader:
        due = reader.ended_before(before)
    if due:
        say_who_is_behind(place, before)
    if dry_run:
        report(
            as_json,
            due,
            0,
            f"{counted(due, 'run')} ended longer ago than {duration_text(age_ms)}; nothing was deleted.",
            pruned,
        )
        return 0
    files = logs_and_folders(place)  # listed before the store is asked: what is new since then is not among them
    if place.folder.holder() is not None:
        runs = place.ask("gc", before=before)
    else:
        runs = anyio.run(collect_alone, place, before)
    freed = sweep(place, files)
    sweep_volumes(place)
    gone = counted(runs, "run") if isinstance(runs, int) else "no run"
    said = f"{gone} deleted, {freed / 1024 / 1024:.1f} MiB of logs and scratch files freed."
    report(as_json, runs, freed, f"{said}\n{audit_text(pruned, dry_run=False)}" if pruned else said, pruned)
    return 0


def say_who_is_behind(place: Place, before: Millis) -> None:
    from flowbatch.store.outbox import Outbox

    with Outbox(place.folder.database) as outbox:
        names = [each.name for each in outbox.behind(before)]
    if names:
        text = (
            f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} not been told of all of these runs: what is still owed of "
            f"them will be a gap (`{place.command('deliveries')}`; `{place.command('notify', 'flush')}` delivers it before)."
        )
        click.echo(text, err=True)


def age_of(text: str) -> int:
    match = re.fullmatch(r"(\d{1,5})([hdw])", text)
    if match is None:
        raise InputError(f"--older-than {text}: an age is a number of hours, days or weeks, such as 36h, 30d or 8w")
    age_ms = int(match[1]) * UNITS[match[2]]
    if age_ms < DAY_MS:
        raise InputError(f"--older-than {text}: records are kept for at least 24h")
    return age_ms


def prune_audit(place: Place, *, dry_run: bool) -> int:
    """By `audit: retention` of the settings, whatever --older-than says: it is apart from that of runs. Returns how many records."""
    kept_ms = place.settings.audit_retention_ms
    if kept_ms is None:
        return 0
    before = SystemClock().now() - kept_ms
    with place.reader() as reader:
        if dry_run:
            found = reader.audit_before(before, 1 << 60)
            return 0 if found is None else found[0] - reader.audit_pruned()[0]
        if reader.audit_before(before, 1) is None:
            return 0
    return anyio.run(prune_with, place, before)


async def prune_with(place: Place, before: int) -> int:
    from flowbatch.http.records import prune

    with place.reader() as reader:
        if place.folder.holder() is not None:
            return await prune(partial(ask_engine, place), reader, before)
        from flowbatch.app import open_app

        async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
            return await prune(app.verbs.call, reader, before)


async def ask_engine(place: Place, verb: str, arguments: dict[str, object]) -> object:
    return place.ask(verb, **arguments)


def audit_text(pruned: int, *, dry_run: bool) -> str:
    what = "would be let go" if dry_run else "were let go"
    return f"{counted(pruned, 'record')} of the audit log {what} by `audit: retention`."


def report(as_json: bool, runs: object, freed: int, text: str, pruned: int) -> None:
    if as_json:
        print_json({"runs": runs, "freed_bytes": freed, "audit_records": pruned})
    else:
        click.echo(text)


async def collect_alone(place: Place, before: int) -> int:
    from flowbatch.app import open_app

    async with open_app(place.folder, place.settings, hold_open_runs=True) as app:
        return await app.engine.collect(before)


def logs_and_folders(place: Place) -> list[Path]:
    """What is ours by its name and kind; whatever else somebody keeps there is not looked at."""
    logs = [path for path in place.folder.logs.glob("*/*") if LOG.fullmatch(f"{path.parent.name}/{path.name}")]
    folders = [path for path in place.folder.runs.glob("*") if UUID.fullmatch(path.name)]
    return [path for path in logs if path.is_file() and not path.is_symlink()] + [
        path for path in folders if path.is_dir() and not path.is_symlink()
    ]


def sweep_volumes(place: Place) -> None:
    """Where this folder had containers; without an Engine they wait for the next time."""
    if not place.folder.docker.exists():
        return
    from flowbatch.backends.docker.engines import used_engines
    from flowbatch.backends.docker.volumes import sweep_volumes as sweep_them

    with place.reader() as reader:
        for folder, endpoint in used_engines(place.folder.docker):
            anyio.run(sweep_them, folder, reader.has_run, endpoint)


def sweep(place: Place, paths: list[Path]) -> int:
    """Removes logs of jobs, and scratch folders of runs, that the store no longer knows. Returns bytes freed."""
    freed = 0
    with place.reader() as reader:
        known: dict[str, bool] = {}
        for path in paths:
            scratch = path.parent == place.folder.runs
            name = path.name if scratch else path.name.split(".", 1)[0]
            if name not in known:
                known[name] = reader.has_run(name) if scratch else reader.job(name) is not None
            if not known[name]:
                freed += remove(path)
    return freed


def remove(path: Path) -> int:
    """Returns the bytes freed; what cannot be removed is said, and stays."""
    try:
        if not path.is_dir():
            size = path.lstat().st_size
            path.unlink()
            return size
        size = sum(each.lstat().st_size for each in path.rglob("*") if each.is_file())
        shutil.rmtree(path)
    except OSError as error:
        click.echo(f"{path}: not removed: {error.strerror}", err=True)
        return 0
    return size
