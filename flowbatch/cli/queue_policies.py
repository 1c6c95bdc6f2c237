"""`queues policies`: scheduling policies that queues share, AWS's fair-share ones: list, create, update, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json_list, print_table
from flowbatch.cli.queue_changes import JSON, change, weight_of
from flowbatch.errors import InputError


@click.group(invoke_without_command=True)
@click.pass_context
def policies(context: click.Context) -> int:
    """Scheduling policies, which say how shares divide a queue: alone, it lists them.

    One that is made here can be given to several queues: `queues create NAME --scheduling-policy POLICY`. A queue whose `policy` stands
    in the settings has one of its own, which is listed too, and changes there.
    """
    return 0 if context.invoked_subcommand is not None else list_policies(context.obj, as_json=False)


def words(command: Callable[..., int]) -> Callable[..., int]:
    """What a policy says, as options."""
    for option in (
        click.option("--weight", "weights", multiple=True, metavar="SHARE=N", help="1 unless given, lower gets more."),
        click.option("--compute-reservation", type=int, metavar="N", help="Per cent kept for shares to come."),
        click.option("--share-decay", metavar="TIME", help="How long usage counts: 24h; ten minutes unless given."),
    ):
        command = option(command)
    return command


@policies.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_(place: Place, as_json: bool) -> int:
    """List the policies, with the queues that they divide."""
    return list_policies(place, as_json)


def list_policies(place: Place, as_json: bool) -> int:
    from flowbatch.cli.queues import asked, policy_text

    found = asked(place, "scheduling_policies")
    if as_json:
        print_json_list(found)
    elif found:
        rows = [
            [
                each["scheduling_policy"],
                "" if each["stored"] else "the queue's own",
                policy_text(each["policy"]),
                ", ".join(each["queues"]) or "-",
            ]
            for each in found
        ]
        print_table(["POLICY", "", "SAYS", "QUEUES"], rows)
    else:
        click.echo("There are no scheduling policies here; `flowbatch queues policies create NAME` makes one.")
    return 0


@policies.command()
@click.argument("name")
@words
@JSON
@click.pass_obj
def create(
    place: Place,
    name: str,
    share_decay: str | None,
    compute_reservation: int | None,
    weights: Sequence[str],
    as_json: bool,
) -> int:
    """Make a policy that queues can share; without options it divides them evenly."""
    arguments = {"scheduling_policy": name, "said": said_of(share_decay, compute_reservation, weights)}
    return change(place, "create_scheduling_policy", arguments, f"{name} is made.", as_json)


@policies.command()
@click.argument("name")
@words
@JSON
@click.pass_obj
def update(
    place: Place,
    name: str,
    share_decay: str | None,
    compute_reservation: int | None,
    weights: Sequence[str],
    as_json: bool,
) -> int:
    """Change a policy as a whole, in all queues that have it, at once: what is left out is as of a new one."""
    said = said_of(share_decay, compute_reservation, weights)
    if not said:
        raise InputError("nothing is said of the policy: see `flowbatch queues policies update --help`")
    arguments = {"scheduling_policy": name, "said": said}
    return change(place, "update_scheduling_policy", arguments, f"{name} is updated.", as_json)


@policies.command()
@click.argument("name")
@JSON
@click.pass_obj
def delete(place: Place, name: str, as_json: bool) -> int:
    """Delete a policy that no queue has."""
    return change(place, "delete_scheduling_policy", {"scheduling_policy": name}, f"{name} is deleted.", as_json)


def said_of(share_decay: str | None, compute_reservation: int | None, weights: Sequence[str]) -> dict[str, Any]:
    given = {
        "share_decay": share_decay,
        "compute_reservation": compute_reservation,
        "shares": dict(map(weight_of, weights)) or None,
    }
    return {key: value for key, value in given.items() if value is not None}
