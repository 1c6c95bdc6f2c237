"""`queues`: what job queues there are, and what stands at the front of one. Asked of the engine, else made from the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from flowbatch.cli import queue_changes, queue_policies
from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, counted, print_json, print_json_list, print_table, time_text
from flowbatch.errors import BackendUnavailable, InputError

if TYPE_CHECKING:
    from flowbatch.core.state import State

Found = dict[str, Any]


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_context
def queues(context: click.Context, as_json: bool) -> int:
    """Job queues: alone, it lists them.

    Those of the settings serve every run; RUN/NAME is a queue that a workflow file made for its own run.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise InputError(
                f"queues --json: give it after the verb, as in `queues {context.invoked_subcommand} --json`"
            )
        return 0
    place: Place = context.obj
    return list_queues(place, as_json)


@queues.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_(place: Place, as_json: bool) -> int:
    """List the queues, the highest priority first."""
    return list_queues(place, as_json)


@queues.command()
@click.argument("name", metavar="[RUN/]NAME")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def show(place: Place, name: str, as_json: bool) -> int:
    """Show a queue: its policy, who uses it, and the first hundred jobs in the order they will be served."""
    names = [each["queue"] for each in asked(place, "queues")]
    whole = resolved(name, names)
    found = asked(place, "queue", queue=whole)
    if not isinstance(found, dict):
        raise InputError(f"queue {name} has just gone: its run has ended")
    if as_json:
        print_json(found)
    else:
        draw(found)
    return 0


for verb in (
    queue_changes.create,
    queue_changes.enable,
    queue_changes.disable,
    queue_changes.update,
    queue_changes.delete,
):
    queues.add_command(verb)
queues.add_command(queue_policies.policies)


def list_queues(place: Place, as_json: bool) -> int:
    found = asked(place, "queues")
    if as_json:
        print_json_list(found)
        return 0
    headers = ["QUEUE", "STATE", "PRIORITY", "ENVIRONMENTS", "POLICY", "RUNNING", "RUNNABLE"]
    print_table(headers, [cells(each) for each in found])
    return 0


def cells(queue: Found) -> list[str]:
    return [
        queue["queue"],
        queue["state"],
        str(queue["priority"]),
        ", ".join(queue["environments"]) or "-",
        "FIFO" if queue["policy"] is None else "fair share",
        str(queue["running"]),
        str(queue["runnable"]),
    ]


def resolved(name: str, names: list[str]) -> str:
    """The whole name: itself, or the one queue of a run that is called so. Raises InputError."""
    if name in names:
        return name
    alike = [each for each in names if each.rpartition("/")[2] == name]
    if len(alike) == 1:
        return alike[0]
    if alike:
        raise InputError(f"queue {name}: several runs have one, say which: {', '.join(alike)}")
    raise InputError(
        f"there is no queue {name}; there {'are' if len(names) > 1 else 'is'} {', '.join(names) or 'none'}"
    )


# --- where it comes from


def asked(place: Place, verb: str, **arguments: str) -> Any:
    """The engine knows best; without one, what a life would begin with is looked at."""
    if place.held:
        try:
            return place.ask(verb, **arguments)
        except BackendUnavailable:
            if place.server is not None:
                raise
            # it has just ended
    from flowbatch.clock import SystemClock
    from flowbatch.core import scheduling_policies
    from flowbatch.core.snapshot import overview, snapshot

    state = stored(place)
    if verb == "queues":
        return overview(state)
    if verb == "scheduling_policies":
        return scheduling_policies.overview(state)
    queue = state.queues.get(arguments["queue"])
    return None if queue is None else snapshot(state, queue, SystemClock().now())


def stored(place: Place) -> State:
    """What an engine would have in memory, were it started now; nothing is changed, and nothing starts."""
    from flowbatch.clock import SystemClock
    from flowbatch.core.machine import Machine
    from flowbatch.core.recovery import rebuild
    from flowbatch.core.state import State
    from flowbatch.settings import configuration

    state = State()
    if place.folder.exists():
        with place.reader() as reader:
            state = rebuild(reader.open_work())
    state.draining = True
    Machine(state).handle([configuration(place.settings)], SystemClock().now())
    return state


# --- the drawing


def draw(queue: Found) -> None:
    from flowbatch.cli.show import print_fields

    utilization = queue["utilization"]
    print_fields(
        [
            ("queue", queue["queue"]),
            ("state", f"{queue['state']}, {queue['status']}"),
            ("priority", str(queue["priority"])),
            ("environments", ", ".join(queue["environments"])),
            ("max running", "" if queue["max_running"] is None else str(queue["max_running"])),
            ("policy", policy_text(queue["policy"])),
            ("limits", "; ".join(limit_text(each) for each in queue["limits"])),
            ("running", f"{counted(queue['running'], 'task')} on {utilization['vcpus']:g} vCPU"),
            ("runnable", counted(queue["runnable"], "task")),
        ]
    )
    draw_shares(utilization)
    draw_front(queue)


def draw_shares(utilization: Found) -> None:
    if not utilization.get("shares"):
        return
    click.echo()
    rows = [
        [
            each["share"] or "(none)",
            f"{each['weight']:g}",
            str(each["jobs"]),
            f"{each['vcpus']:g}",
            used_text(each["used_vcpu_s"]),
            f"{each['rank']:,.1f}",
        ]
        for each in utilization["shares"]
    ]
    print_table(["SHARE", "WEIGHT", "JOBS", "VCPU NOW", "USED", "RANK (LOWEST IS NEXT)"], rows)
    if utilization["active_shares"] > len(rows):
        click.echo(f"… of {utilization['active_shares']} active shares.")


def used_text(vcpu_s: float) -> str:
    return f"{vcpu_s:,.1f} vCPU s" if vcpu_s < 3600 else f"{vcpu_s / 3600:,.1f} vCPU h"


def draw_front(queue: Found) -> None:
    click.echo()
    if not queue["front"]:
        click.echo("Nothing waits in it.")
        return
    shared = queue["policy"] is not None
    headers = ["NEXT", "JOB", "RUN", *(["SHARE"] if shared else []), "AT THIS PLACE SINCE", "REASON"]
    rows = []
    for number, each in enumerate(queue["front"], 1):
        share = [each["share"] or "-"] if shared else []
        run = "-" if each["run"] is None else each["run"][:8]
        rows.append(
            [str(number), each["name"], run, *share, time_text(each["earliest_at"]), each["status_reason"] or ""]
        )
    print_table(headers, rows)
    if queue["runnable"] > len(rows):
        click.echo(
            f"… of {counted(queue['runnable'], 'RUNNABLE task')}; some may wait for a backoff or a limit of their job."
        )
    reasons = {each["reason"] for each in queue["blocked"]}
    if reasons:
        click.echo(clean(f"{counted(len(queue['blocked']), 'job')} of it cannot start as the environments are now."))


def policy_text(policy: Found | None) -> str:
    from flowbatch.cli.check import span_text

    if policy is None:
        return "FIFO: by priority, then by age"
    window_ms = max(policy["share_decay_ms"], 600_000)
    words = [f"fair share, usage counts for {span_text(window_ms)}"]
    if policy["compute_reservation"]:
        words.append(f"{policy['compute_reservation']} % kept for shares to come")
    if policy["shares"]:
        words.append("weights " + ", ".join(f"{name}={weight:g}" for name, weight in policy["shares"].items()))
    return "; ".join(words)


def limit_text(limit: Found) -> str:
    from flowbatch.cli.check import span_text

    return f"cancelled after {span_text(limit['max_time_ms'])} of {limit['reason']}"
