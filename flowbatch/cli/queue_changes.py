"""The changing verbs of `queues`: enable, disable, update, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, counted, print_json
from flowbatch.errors import InputError

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@click.argument("name")
@click.option("--environment", "environments", multiple=True, required=True, help="In the order given; 1 to 3.")
@click.option("--priority", type=int, help="A higher one is served first; 1 unless given.")
@click.option("--max-running", type=int, help="At most so many attempts at once.")
@click.option("--fair-share", is_flag=True, help="Divided evenly among the shares of its jobs.")
@click.option(
    "--weight", "weights", multiple=True, metavar="SHARE=N", help="Of a share; 1 unless given, lower gets more."
)
@click.option("--scheduling-policy", metavar="NAME", help="Divided as this stored policy of the AWS Batch API says.")
@JSON
@click.pass_obj
def create(
    place: Place,
    /,
    name: str,
    environments: Sequence[str],
    priority: int | None,
    max_running: int | None,
    fair_share: bool,
    weights: Sequence[str],
    scheduling_policy: str | None,
    as_json: bool,
) -> int:
    """Make a queue, beside those of the settings."""
    if scheduling_policy is not None and (fair_share or weights):
        raise InputError(
            "--scheduling-policy: the stored policy says how shares divide the queue; leave the others out"
        )
    said: dict[str, Any] = {"environments": list(environments), "priority": priority, "max_running": max_running}
    if fair_share or weights:
        said["policy"] = {"shares": dict(map(weight_of, weights))}
    arguments: dict[str, Any] = {"queue": name, "said": {key: each for key, each in said.items() if each is not None}}
    if scheduling_policy is not None:
        arguments["scheduling_policy"] = scheduling_policy
    return change(place, "create_queue", arguments, f"{name} is made.", as_json)


def weight_of(word: str) -> tuple[str, float]:
    share, _, factor = word.partition("=")
    try:
        return share, float(factor)
    except ValueError:
        raise InputError(f"--weight {word}: a share and a number are needed, as in ann=0.5") from None


@click.command()
@click.argument("name")
@JSON
@click.pass_obj
def enable(place: Place, name: str, as_json: bool) -> int:
    """Let a queue take jobs again."""
    return change(place, "update_queue", {"queue": name, "enabled": True}, f"{name} is ENABLED.", as_json)


@click.command()
@click.argument("name")
@JSON
@click.pass_obj
def disable(place: Place, name: str, as_json: bool) -> int:
    """Take no more jobs; those that it has go on to their end."""
    return change(place, "update_queue", {"queue": name, "enabled": False}, f"{name} is DISABLED.", as_json)


@click.command()
@click.argument("name")
@click.option("--priority", type=click.IntRange(0, 1_000_000), help="A higher one is served first.")
@click.option("--environment", "environments", multiple=True, help="In the order given; 1 to 3.")
@click.option("--max-running", type=click.IntRange(0), help="At most so many attempts at once; 0 lifts the limit.")
@click.option("--scheduling-policy", metavar="NAME", help="Another stored policy, for a queue that has one.")
@JSON
@click.pass_obj
def update(
    place: Place,
    name: str,
    priority: int | None,
    environments: Sequence[str],
    max_running: int | None,
    scheduling_policy: str | None,
    as_json: bool,
) -> int:
    """Change a queue's priority, environments, limit or policy; they hold at once."""
    given = {
        "priority": priority,
        "environments": list(environments) or None,
        "max_running": max_running,
        "scheduling_policy": scheduling_policy,
    }
    arguments = {key: value for key, value in given.items() if value is not None}
    if not arguments:
        raise InputError("nothing is to be changed: see `flowbatch queues update --help`")
    return change(place, "update_queue", {"queue": name, **arguments}, f"{name} is updated.", as_json)


@click.command()
@click.argument("name")
@JSON
@click.pass_obj
def delete(place: Place, name: str, as_json: bool) -> int:
    """Delete a DISABLED queue: all its jobs are terminated (`JobQueue deleted`)."""
    return change(place, "delete_queue", {"queue": name}, f"{name} is deleted.", as_json)


def change(place: Place, verb: str, arguments: dict[str, Any], done: str, as_json: bool) -> int:
    from flowbatch.cli.engine import ask_or_open

    value = ask_or_open(place, verb, arguments, settle=True)
    if as_json:
        print_json(value)
        return 0
    click.echo(clean(done))
    if value.get("terminated"):
        click.echo(f"{counted(int(value['terminated']), 'task')} of it terminated.")
    return 0
