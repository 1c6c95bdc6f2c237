"""`tokens`: consumable resources, what there is of them and what is in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, print_json, print_json_list, print_table
from flowbatch.errors import InputError


@click.group()
def tokens() -> None:
    """Consumable resources: what jobs hold while they run, such as licences or connections, or use up, such as a budget.

    A job asks for them with `tokens: {licence: 1}` and waits RUNNABLE until all it asks for are free. The settings declare some,
    others are created here; those of a workflow file belong to its run alone.
    """


@tokens.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_(place: Place, as_json: bool) -> int:
    """List what there is: everybody's, and of open runs their own."""
    found = listed(place)
    if as_json:
        print_json_list(found)
    elif found:
        rows = [
            [str(each["name"]), str(each["type"]), *(str(each[key]) for key in ("total", "in_use", "available"))]
            for each in found
        ]
        print_table(["TOKENS", "TYPE", "TOTAL", "IN USE", "AVAILABLE"], rows)
    else:
        click.echo("There are no tokens here; `flowbatch tokens create NAME TOTAL` makes some.")
    return 0


@tokens.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(place: Place, name: str, as_json: bool) -> int:
    """Show how many there are, and how many are in use."""
    known = listed(place)
    found = next((each for each in known if each["name"] == name), None)
    if found is None:
        from difflib import get_close_matches

        close = get_close_matches(name, [str(each["name"]) for each in known], n=1)
        raise InputError(f"there are no tokens {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}")
    if as_json:
        print_json(found)
    else:
        tell(found)
    return 0


@tokens.command()
@click.argument("name")
@click.argument("total", type=click.IntRange(0))
@click.option("--non-replenishable", is_flag=True, help="Used up by each attempt, and never given back.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A word of your own; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def create(place: Place, name: str, total: int, non_replenishable: bool, tags: Sequence[str], as_json: bool) -> int:
    """Create TOTAL tokens NAME that all runs share."""
    from flowbatch.cli.load import no_plugins, parameters

    with no_plugins():
        from flowbatch.spec.values import name_of
    try:
        name_of(name)
    except ValueError as error:
        raise InputError(str(error)) from None
    kind = "NON_REPLENISHABLE" if non_replenishable else "REPLENISHABLE"
    arguments = {"name": name, "total": total, "type": kind, "tags": parameters(tags, "--tag")}
    return change(place, "create_token", arguments, as_json)


@tokens.command()
@click.argument("name")
@click.option("--set", "set_", type=click.IntRange(0), metavar="N", help="There are N.")
@click.option("--add", type=click.IntRange(0), metavar="N", help="There are N more.")
@click.option("--remove", type=click.IntRange(0), metavar="N", help="There are N fewer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def update(place: Place, name: str, set_: int | None, add: int | None, remove: int | None, as_json: bool) -> int:
    """Change how many there are. Jobs that hold some go on; a total below what they hold lets nothing new begin."""
    given = [(word, number) for word, number in (("SET", set_), ("ADD", add), ("REMOVE", remove)) if number is not None]
    if len(given) != 1:
        raise InputError("one of --set, --add and --remove says what to do")
    [(operation, quantity)] = given
    return change(place, "update_token", {"name": name, "operation": operation, "quantity": quantity}, as_json)


@tokens.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def delete(place: Place, name: str, as_json: bool) -> int:
    """Delete tokens that no open job needs. Those that the settings declare come back with the next engine."""
    return change(place, "delete_token", {"name": name}, as_json)


def change(place: Place, verb: str, arguments: dict[str, Any], as_json: bool) -> int:
    from flowbatch.cli.engine import ask_or_open

    value = ask_or_open(place, verb, arguments)
    if as_json:
        print_json(value)
    elif verb == "delete_token":
        click.echo(clean(f"Deleted {value['name']}."))
    else:
        tell(value)
    return 0


def listed(place: Place) -> list[dict[str, Any]]:
    """By the store: what is in use is what live attempts hold, also while no engine runs."""
    if place.channel is not None:
        found: list[dict[str, Any]] = place.channel.get("tokens")["tokens"]
        return found
    from flowbatch.model.tokens import figures

    with place.reader() as reader, reader.snapshot():
        used = reader.tokens_in_use()
        return [figures(row, used.get(row.name, 0)) for row in reader.tokens()]


def tell(found: dict[str, Any]) -> None:
    kind = str(found["type"]).lower().replace("_", "-")
    use = f", {found['in_use']} in use, {found['available']} available" if kind == "replenishable" else " left"
    click.echo(clean(f"{found['name']} ({kind}): {found['total']}{use}"))
