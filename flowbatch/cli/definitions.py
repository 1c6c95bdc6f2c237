"""`definitions`: the registry of job definitions. Reading goes to the store, changing through the engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json, print_json_list, print_table, time_text
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.cli.records import Records
    from flowbatch.model.definition import DefinitionRow
    from flowbatch.spec.definitions import Reference

FILE_BYTES: Final = 1024 * 1024


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_context
def definitions(context: click.Context, as_json: bool) -> int:
    """Job definitions: what `uses` of a workflow file, or a submitted job, is made from. Alone, it lists them.

    Those of a workflow file are registered as WORKFLOW--NAME when it runs; an unchanged one gets no new revision.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            verb = context.invoked_subcommand
            raise InputError(f"definitions --json: give it after the verb, as in `definitions {verb} --json`")
        return 0
    return list_definitions(context.obj, every=False, as_json=as_json)


@definitions.command("list")
@click.option("--all", "every", is_flag=True, help="Every revision, INACTIVE ones too.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_(place: Place, every: bool, as_json: bool) -> int:
    """List definitions: of each name the latest ACTIVE revision."""
    return list_definitions(place, every=every, as_json=as_json)


def list_definitions(place: Place, *, every: bool, as_json: bool) -> int:
    with place.records() as reader:
        if as_json:
            print_json_list(summary(row) for row in reader.definitions(every=every))
            return 0
        rows = [cells(row) for row in reader.definitions(every=every)]
    if rows:
        print_table(["DEFINITION", "STATUS", "REGISTERED", "RUNS"], rows)
    else:
        what = "registered" if every else "ACTIVE"
        click.echo(f"No definition is {what} here; `flowbatch definitions register FILE` registers one.")
    return 0


@definitions.command()
@click.argument("name", metavar="NAME[:REVISION]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(place: Place, name: str, as_json: bool) -> int:
    """Show a definition as it was registered; without REVISION the latest ACTIVE one."""
    wanted = reference(name)
    with place.records() as reader:
        row = found(reader, wanted)
        others = [each for each in reader.revisions(row.name, limit=20) if each.revision != row.revision]
    if as_json:
        print_json({**summary(row), "definition": document(row)})
        return 0
    click.echo(clean(f"{row.id} is {status(row)}, registered {time_text(row.registered_at)}"), nl=False)
    click.echo("" if row.active else f", deregistered {time_text(row.deregistered_at)}")
    click.echo(clean(json.dumps(document(row), indent=2, ensure_ascii=False)))
    if others:
        click.echo(clean("Other revisions: " + ", ".join(f"{each.revision} ({status(each)})" for each in others)))
    return 0


@definitions.command()
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def register(place: Place, file: str, as_json: bool) -> int:
    """Register FILE (`-`: standard input) as a new revision.

    It holds what `aws batch register-job-definition --cli-input-json` takes, as JSON or YAML: {"jobDefinitionName": "blur", "type":
    "container", "containerProperties": {"image": "busybox:1", "command": ["true"]}}. Keys of a workflow file's `definitions` are
    taken as well.
    """
    from flowbatch.cli.engine import ask_or_open
    from flowbatch.cli.load import no_plugins

    text, called = read(file), "standard input" if file == "-" else file
    if place.channel is not None:
        given = {"definition": text.decode("utf-8", "surrogateescape"), "file": called}
        value = place.channel.post("definitions", body=given)
    else:
        with no_plugins():
            from flowbatch.spec.definitions import read_registration
        made = read_registration(text, called)
        arguments = {"name": made.name, "body": made.body, "digest": made.digest, "tags": dict(made.tags)}
        value = ask_or_open(place, "register_definition", arguments)
    if as_json:
        print_json(value)
    else:
        click.echo(f"Registered {value['name']}:{value['revision']}.")
    return 0


@definitions.command()
@click.argument("name", metavar="NAME:REVISION")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def deregister(place: Place, name: str, as_json: bool) -> int:
    """Make a revision INACTIVE: nothing new is made from it. Jobs that were submitted go on."""
    from flowbatch.cli.engine import ask_or_open

    wanted = reference(name)
    if wanted.revision is None:
        raise InputError(
            f"{name}: which revision? Write {name}:REVISION; `flowbatch definitions show {name}` lists them"
        )
    with place.records() as reader:
        found(reader, wanted)
    value = ask_or_open(place, "deregister_definition", {"name": wanted.name, "revision": wanted.revision})
    if as_json:
        print_json(value)
        return 0
    latest = value["latest"]
    left = f"{wanted.name} now means revision {latest}." if latest else f"{wanted.name} has no ACTIVE revision left."
    click.echo(f"{wanted} is INACTIVE{'' if value['changed'] else ' already'}. {left}")
    return 0


def read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(FILE_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(FILE_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: the definition cannot be read: {error.strerror}") from error
    return bytes(data)


def reference(name: str) -> Reference:
    from flowbatch.spec.definitions import Reference

    try:
        return Reference.parse(name)
    except ValueError as error:
        raise InputError(str(error)) from None


def found(reader: Records, wanted: Reference) -> DefinitionRow:
    """The revision, or of a name the latest ACTIVE one, else its last."""
    rows = reader.revisions(wanted.name) if wanted.revision is None else []
    row = next((each for each in rows if each.active), rows[0] if rows else None)
    if wanted.revision is not None:
        row = reader.revision(wanted.name, wanted.revision)
    if row is not None:
        return row
    from difflib import get_close_matches

    known = reader.revisions(wanted.name, limit=10)
    close = get_close_matches(wanted.name, reader.definition_names(), n=1)
    hint = ""
    if known:
        hint = f"; it has revisions {', '.join(str(each.revision) for each in reversed(known))}"
    elif close:
        hint = f" (did you mean {close[0]!r}?)"
    raise InputError(f"there is no job definition {wanted}{hint}")


def status(row: DefinitionRow) -> str:
    return "ACTIVE" if row.active else "INACTIVE"


def document(row: DefinitionRow) -> dict[str, Any]:
    """As RegisterJobDefinition took it."""
    body: dict[str, Any] = {"jobDefinitionName": row.name, **json.loads(row.body)}
    return {**body, "tags": dict(row.tags)} if row.tags else body


def summary(row: DefinitionRow) -> dict[str, object]:
    return {
        "id": row.id,
        "name": row.name,
        "revision": row.revision,
        "status": status(row),
        "registered_at": row.registered_at,
        "deregistered_at": row.deregistered_at,
        "tags": dict(row.tags),
    }


def cells(row: DefinitionRow) -> list[str]:
    from flowbatch.cli.rows import shortened

    body = json.loads(row.body)
    box = body.get("containerProperties") or {}
    image = box.get("image") or body.get("image")
    words = box.get("command") or body.get("command") or ([body["script"]] if "script" in body else [])
    runs = " ".join(filter(None, [image, " ".join(map(str, words)).replace("\n", " ")]))
    return [row.id, status(row), time_text(row.registered_at), shortened(runs or "-")]
