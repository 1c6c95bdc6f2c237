"""`doctor`: what is well, what is weakened, what is wrong; each with what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click
from msgspec.structs import replace

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, counted, print_json
from flowbatch.errors import FlowbatchError

if TYPE_CHECKING:
    from flowbatch.ports import Finding
    from flowbatch.store.health import Health

READ_UNASKED_BYTES: Final = 64 << 20  # a store up to this size is read whole without --integrity
LEVELS: Final = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Findings as a JSON list.")
@click.option("--integrity", is_flag=True, help="Read every page of the store; may take a while.")
@click.option("--invariants", is_flag=True, help="Check the laws that all rows of the store keep together.")
@click.pass_obj
def doctor(place: Place, as_json: bool, integrity: bool, invariants: bool) -> int:
    """Check this machine, the state folder, the store and the settings. Changes nothing.

    Exit code: 0, or 1 where something is wrong enough to stop flowbatch from working.
    """
    findings = list(examine(place, integrity=integrity, invariants=invariants))
    if as_json:
        print_json([{"level": f.level, "subject": f.subject, "text": f.text} for f in findings])
    else:
        for finding in findings:
            level = click.style(finding.level.ljust(7), fg=LEVELS[finding.level], bold=finding.level == "error")
            click.echo(f"{level}  {finding.subject.ljust(16)}  {clean(finding.text)}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def examine(place: Place, *, integrity: bool, invariants: bool) -> Iterator[Finding]:
    from flowbatch.cli import machine

    yield from machine.look_at_machine()
    yield from look_at_processes(place)
    yield from look_at_docker(place)
    yield from look_at_folder(place, integrity=integrity, invariants=invariants)
    yield from look_at_settings(place)


def look_at_folder(place: Place, *, integrity: bool, invariants: bool) -> Iterator[Finding]:
    """One that is another's, or closed to us, is a finding too."""
    from flowbatch.cli import machine
    from flowbatch.ports import Finding

    try:
        yield from machine.look_at_folder(place.folder)
        there = place.folder.exists()
    except FlowbatchError as error:
        yield Finding("error", "folder", str(error))
        return
    if there:
        yield from look_at_store(place, integrity=integrity, invariants=invariants)


def look_at_settings(place: Place) -> Iterator[Finding]:
    from flowbatch.cli.machine import look_at_settings as look
    from flowbatch.ports import Finding

    try:
        settings = place.settings
    except FlowbatchError as error:
        yield Finding("error", "settings", str(error))
    else:
        from flowbatch.cli.weakened import look_at_server

        yield from look(settings)
        yield from look_at_server(settings, place.folder)


def look_at_processes(place: Place) -> Iterator[Finding]:
    import anyio

    from flowbatch.backends.process import ProcessBackend
    from flowbatch.ports import Finding

    backend = ProcessBackend(place.folder.supervisor, {})
    try:
        yield from anyio.run(backend.check)
    except FlowbatchError as error:
        yield Finding("error", "process", str(error))


def look_at_docker(place: Place) -> Iterator[Finding]:
    """A note alone where there is none here: many workflows need no containers. A node's Engine is needed."""
    import anyio

    from flowbatch.backends.docker.checks import look
    from flowbatch.ports import Finding

    try:
        settings, nodes = place.settings, nodes_of(place)
    except FlowbatchError:
        settings, nodes = None, {}  # said where the settings are looked at
    reserve_mib = None if settings is None else settings.disk_free_mib
    try:
        yield from anyio.run(look, None, reserve_mib)
    except FlowbatchError as error:
        yield Finding("note", "docker", str(error))
    for endpoint, names in nodes.items():
        try:
            found = anyio.run(look, endpoint, reserve_mib)
        except FlowbatchError as error:
            found = [Finding("warning", "docker", str(error))]
        yield from (replace(each, text=f"{' and '.join(names)}: {each.text}") for each in found)


def nodes_of(place: Place) -> dict[str, list[str]]:
    """Endpoint → the nodes elsewhere that it is of."""
    found: dict[str, list[str]] = {}
    for environment in place.places[0]:
        for node in environment.nodes:
            if not node.here:
                found.setdefault(node.endpoint, []).append(f"node {environment.name}/{node.name}")
    return found


def look_at_store(place: Place, *, integrity: bool, invariants: bool) -> Iterator[Finding]:
    from flowbatch.ports import Finding

    try:
        yield from look_into_store(place, integrity=integrity, invariants=invariants)
    except FlowbatchError as error:
        yield Finding("error", "store", str(error))


def look_into_store(place: Place, *, integrity: bool, invariants: bool) -> Iterator[Finding]:
    from flowbatch.ports import Finding
    from flowbatch.store.health import Health

    folder = place.folder
    mode = folder.database.stat().st_mode & 0o777
    if mode & 0o077:
        text = f"{folder.database}: others may read it (mode {mode:04o}): `chmod 600 {folder.database}`"
        yield Finding("warning", "store", text)
    with Health(folder.database) as health:
        totals = health.totals()
        [(journal,)] = health.rows("PRAGMA journal_mode")
        text = (
            f"version {totals.version}, journal {journal}, {size_text(totals.size_bytes)} "
            f"({size_text(totals.free_bytes)} free inside), log {size_text(totals.wal_bytes)}; "
            f"{counted(totals.runs, 'run')}, {counted(totals.jobs, 'job')}, {counted(totals.events, 'event')}, "
            f"{counted(totals.lives, 'start')} of an engine"
        )
        writable = os.access(folder.path, os.W_OK, effective_ids=True)  # elsewhere there is no log to be had
        yield Finding("ok" if journal == "wal" or not writable else "error", "store", text)
        if totals.open_runs and folder.holder() is None:
            which = "continues it" if totals.open_runs == 1 else "continues them"
            are = "is" if totals.open_runs == 1 else "are"
            text = f"{counted(totals.open_runs, 'run')} {are} interrupted: `{place.command('resume')}` {which}"
            yield Finding("note", "engine", text)
        if integrity or totals.size_bytes <= READ_UNASKED_BYTES:
            damage = health.damage()
            if not damage:
                yield Finding("ok", "store", "whole: every page was read")
            for each in damage:
                yield Finding("error", "store", f"damaged: {each}; restore a backup")
        else:
            yield Finding("note", "store", "not read whole, it is large: --integrity does")
        if invariants:
            yield from look_at_laws(health)


def look_at_laws(health: Health) -> Iterator[Finding]:
    """Also beside a running engine: all are looked at in one state of the store."""
    from flowbatch.ports import Finding
    from flowbatch.store.laws import LAWS

    broken = health.violations()
    for each in broken:
        yield Finding("error", "invariants", f"{each.law}: {each.example}")
    if not broken:
        yield Finding("ok", "invariants", f"all {len(LAWS)} laws of the store hold")


def size_text(size_bytes: int) -> str:
    from flowbatch.model.resources import memory_text

    return f"{size_bytes >> 10} KiB" if size_bytes < 1 << 20 else memory_text(size_bytes >> 20)
