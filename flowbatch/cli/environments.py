"""`environments`: what compute environments there are, and changes of them. Asked of the engine, else made as one."""

from __future__ import annotations

from typing import Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import clean, counted, print_json, print_table
from flowbatch.errors import InputError

Found = dict[str, Any]
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="A JSON object: the host, and a list of environments.")
@click.pass_context
def environments(context: click.Context, as_json: bool) -> int:
    """Compute environments: alone, it lists them.

    Those of the settings serve every run; RUN/NAME belongs to the workflow file of a run. What a command changes lasts until the
    settings themselves say something else.
    """
    if context.invoked_subcommand is not None:
        if as_json:
            verb = context.invoked_subcommand
            raise InputError(f"environments --json: give it after the verb, as in `environments {verb} --json`")
        return 0
    return list_environments(context.obj, as_json)


@environments.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON object: the host, and a list of environments.")
@click.pass_obj
def list_(place: Place, as_json: bool) -> int:
    """List the environments, with what runs there."""
    return list_environments(place, as_json)


@environments.command()
@click.argument("name", metavar="[RUN/]NAME")
@JSON
@click.pass_obj
def show(place: Place, name: str, as_json: bool) -> int:
    """Show an environment: its sizes, what runs there, its queues and its nodes."""
    found = one_of(looked_up(place)["environments"], name)
    if as_json:
        print_json(found)
    else:
        draw(found)
    return 0


@environments.command()
@click.argument("name")
@click.option("--max-vcpus", "vcpus", metavar="N", help="The most vCPUs it offers; this machine's unless given.")
@click.option("--min-vcpus", metavar="N", help="vCPUs kept for it, idle or not.")
@click.option("--memory", metavar="SIZE", help="Memory it offers: MiB, or 48GiB; most of this machine's unless given.")
@click.option("--gpus", metavar="N", help="GPUs it offers.")
@click.option(
    "--backend", type=click.Choice(["local", "process", "docker"]), help="What runs tasks there; local: both."
)
@click.option("--cpu", type=click.Choice(["shares", "quota"]), help="vCPUs of containers as a weight, or as a cap.")
@click.option("--spot", is_flag=True, help="It has what other environments leave free.")
@click.option("--notice", metavar="TIME", help="Of Spot: between TERM and KILL.")
@click.option("--scale-down", metavar="TIME", help="How long desiredvCpus stays up after demand has fallen.")
@click.option("--unmanaged", is_flag=True, help="It has the nodes that you add.")
@JSON
@click.pass_obj
def create(place: Place, /, name: str, unmanaged: bool, spot: bool, as_json: bool, **given: str | None) -> int:
    """Make an environment, beside those of the settings. No queue has it yet."""
    said: Found = {key: number_or_text(value) for key, value in given.items() if value is not None}
    said |= {"type": "unmanaged"} if unmanaged else {}
    said |= {"spot": True} if spot else {}
    return changed(place, "create_environment", {"environment": name, "said": said}, f"{name} is made.", as_json)


@environments.command()
@click.argument("name")
@JSON
@click.pass_obj
def enable(place: Place, name: str, as_json: bool) -> int:
    """Let new tasks start there."""
    return changed(place, "update_environment", {"environment": name, "enabled": True}, f"{name} is ENABLED.", as_json)


@environments.command()
@click.argument("name")
@JSON
@click.pass_obj
def disable(place: Place, name: str, as_json: bool) -> int:
    """Let nothing new start there; what runs ends by itself."""
    return changed(
        place, "update_environment", {"environment": name, "enabled": False}, f"{name} is DISABLED.", as_json
    )


@environments.command()
@click.argument("name")
@click.option("--min-vcpus", metavar="N", help="vCPUs kept for it, idle or not.")
@click.option("--max-vcpus", metavar="N", help="The most vCPUs it offers.")
@click.option("--desired-vcpus", metavar="N", help="Raise desiredvCpus now; it falls again by itself.")
@click.option("--memory", metavar="SIZE", help="Memory it offers: MiB, or 48GiB.")
@click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs it offers.")
@click.option("--scale-down", metavar="TIME", help="How long desiredvCpus stays up after demand has fallen.")
@click.option("--notice", metavar="TIME", help="Of Spot: between TERM and KILL.")
@click.option("--backend", type=click.Choice(["local", "process", "docker"]), help="What runs tasks there.")
@click.option("--cpu", type=click.Choice(["shares", "quota"]), help="vCPUs of containers as a weight, or as a cap.")
@click.option("--spot/--on-demand", default=None, help="Whether it is Spot capacity.")
@click.option("--terminate-jobs", is_flag=True, help="Stop now what runs on what is replaced: a failed attempt.")
@click.option("--job-timeout", metavar="TIME", help="How long it may go on instead; 30m unless given.")
@JSON
@click.pass_obj
def update(place: Place, /, name: str, as_json: bool, **given: Any) -> int:
    """Change what an environment has.

    Sizes hold at once: what runs goes on, and nothing starts while more runs than there is. Another --backend, --cpu or --spot
    replaces what tasks run on: those that run have --job-timeout left, or are stopped with --terminate-jobs, and are tried
    again where their retry strategy says so.
    """
    arguments = {key: value for key, value in parsed(given).items() if value is not None}
    if not set(arguments) - {"terminate_jobs", "job_timeout_minutes"}:
        raise InputError("nothing is to be changed: see `flowbatch environments update --help`")
    return changed(place, "update_environment", {"environment": name, **arguments}, f"{name} is updated.", as_json)


@environments.command()
@click.argument("name")
@JSON
@click.pass_obj
def delete(place: Place, name: str, as_json: bool) -> int:
    """Delete an environment that is DISABLED and that no queue has. What runs there ends first."""
    return changed(place, "delete_environment", {"environment": name}, f"{name} is deleted.", as_json)


@environments.group()
def nodes() -> None:
    """Nodes of an unmanaged environment: capacity that you register, drain and take away while things run."""


@nodes.command()
@click.argument("environment")
@click.argument("node")
@click.option("--vcpus", required=True, metavar="N", help="vCPUs it offers.")
@click.option("--memory", metavar="SIZE", help="Memory it offers; 85 % of this machine's unless given.")
@click.option("--gpus", type=click.IntRange(0), default=0, metavar="N", help="GPUs it offers.")
@click.option(
    "--endpoint",
    metavar="URL",
    help="Its Docker Engine: unix:///path, tcp://host:2376, ssh://user@host, context:NAME. This machine's unless given.",
)
@JSON
@click.pass_obj
def add(
    place: Place,
    environment: str,
    node: str,
    vcpus: str,
    memory: str | None,
    gpus: int,
    endpoint: str | None,
    as_json: bool,
) -> int:
    """Register NODE, or another size for it; one that was draining takes tasks again."""
    from flowbatch.cli.load import no_plugins
    from flowbatch.settings import machine

    with no_plugins():
        from flowbatch.model.places import HERE
        from flowbatch.spec.endpoints import endpoint_of
        from flowbatch.spec.quantities import size_mib, vcpus_milli
        from flowbatch.spec.values import name_of
    where = HERE if endpoint is None else read("--endpoint", endpoint_of, endpoint)
    if memory is None and where != HERE:
        raise InputError(f"--memory: how much {node} offers is needed, for it is elsewhere ({where})")
    arguments: Found = {
        "environment": environment,
        "node": read("NODE", name_of, node),
        "vcpus_milli": read("--vcpus", vcpus_milli, number_or_text(vcpus)),
        "gpus": gpus,
        "endpoint": where,
    }
    if memory is not None:
        arguments["memory_mib"] = read("--memory", size_mib, number_or_text(memory))
    elif place.server is None:  # a server looks at the machine that is its own
        arguments["memory_mib"] = machine().memory_mib
    return changed(place, "add_node", arguments, f"{environment} has node {node}.", as_json)


@nodes.command()
@click.argument("environment")
@click.argument("node")
@JSON
@click.pass_obj
def drain(place: Place, environment: str, node: str, as_json: bool) -> int:
    """Let nothing new start on NODE; what runs there ends by itself."""
    return changed(place, "drain_node", {"environment": environment, "node": node}, f"{node} is draining.", as_json)


@nodes.command()
@click.argument("environment")
@click.argument("node")
@JSON
@click.pass_obj
def remove(place: Place, environment: str, node: str, as_json: bool) -> int:
    """Take NODE away, once nothing runs there."""
    return changed(place, "remove_node", {"environment": environment, "node": node}, f"{node} is gone.", as_json)


# --- words into arguments


def parsed(given: dict[str, Any]) -> Found:
    from flowbatch.cli.load import no_plugins

    with no_plugins():
        from flowbatch.spec.quantities import duration_ms, size_mib, vcpus_milli
    readers = {
        "min_vcpus": ("min_vcpus_milli", vcpus_or_none(vcpus_milli)),
        "max_vcpus": ("max_vcpus_milli", vcpus_milli),
        "desired_vcpus": ("desired_vcpus_milli", vcpus_or_none(vcpus_milli)),
        "memory": ("memory_mib", size_mib),
        "scale_down": ("scale_down_ms", duration_ms),
        "notice": ("notice_ms", duration_ms),
        "job_timeout": ("job_timeout_minutes", lambda value: -(-duration_ms(value) // 60_000)),
    }
    found: Found = {key: given[key] for key in ("gpus", "backend", "cpu", "spot")}
    found["terminate_jobs"] = given["terminate_jobs"] or None
    for key, (name, reader) in readers.items():
        if given[key] is not None:
            found[name] = read(f"--{key.replace('_', '-')}", reader, number_or_text(given[key]))
    return found


def vcpus_or_none(reader: Any) -> Any:
    """A minimum of 0 is none."""
    return lambda value: 0 if value == 0 else reader(value)


def number_or_text(word: str) -> int | float | str:
    """As YAML would have it."""
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def read(option: str, reader: Any, value: object) -> Any:
    try:
        return reader(value)
    except ValueError as error:
        raise InputError(f"{option}: {error}") from None


# --- asking, and telling


def changed(place: Place, verb: str, arguments: Found, done: str, as_json: bool) -> int:
    from flowbatch.cli.engine import ask_or_open

    value = ask_or_open(place, verb, arguments, settle=True)
    if as_json:
        print_json(value)
        return 0
    click.echo(clean(done if value.get("status") != "DELETING" or not value.get("running") else still_there(value)))
    if verb == "update_environment" and value.get("status") == "UPDATING":
        tasks = counted(int(value["running"]), "task")
        click.echo(clean(f"It is UPDATING: {tasks} still run on what is replaced."))
    elif verb == "drain_node" and value.get("running"):
        click.echo(f"{counted(int(value['running']), 'task')} still run there, and end by themselves.")
    return 0


def still_there(value: Found) -> str:
    return (
        f"{value['environment']} is DELETING: it goes once {counted(int(value['running']), 'task')} there have ended."
    )


def looked_up(place: Place) -> Found:
    """The engine knows best; without one, what a life would begin with."""
    from flowbatch.core.place_views import host_view, overview
    from flowbatch.errors import BackendUnavailable

    if place.held:
        try:
            value = place.ask("environments")
        except BackendUnavailable:
            if place.server is not None:
                raise
            # it has just ended
        else:
            assert isinstance(value, dict)
            return value
    from flowbatch.cli.queues import stored

    state = stored(place)
    return {"host": host_view(state), "environments": overview(state)}


def one_of(found: list[Found], name: str) -> Found:
    """By its whole name, or by what a file calls it where one run alone has it. Raises InputError."""
    alike = [each for each in found if each["environment"] == name]
    alike = alike or [each for each in found if each["environment"].rpartition("/")[2] == name]
    if len(alike) == 1:
        return alike[0]
    names = ", ".join(each["environment"] for each in alike or found)
    if alike:
        raise InputError(f"environment {name}: several runs have one, say which: {names}")
    raise InputError(f"there is no environment {name}; there {'is' if len(found) == 1 else 'are'} {names or 'none'}")


def list_environments(place: Place, as_json: bool) -> int:
    found = looked_up(place)
    if as_json:
        print_json(found)
        return 0
    headers = ["ENVIRONMENT", "TYPE", "STATE", "STATUS", "MIN", "DESIRED", "MAX VCPUS", "MEMORY", "RUNNING", "USED"]
    print_table(headers, [cells(each) for each in found["environments"]])
    host = found["host"]
    if host["guard"] is not None:
        click.echo(f"Host: {amount_text(host['used'])} of {amount_text(host['guard'])} are held.")
    return 0


def cells(each: Found) -> list[str]:
    from flowbatch.model.resources import memory_text

    return [
        each["environment"],
        kind_of(each),
        each["state"],
        each["status"],
        *(f"{each[key]:g}" for key in ("min_vcpus", "desired_vcpus", "max_vcpus")),
        memory_text(each["memory_mib"]),
        str(each["running"]),
        amount_text(each["used"]),
    ]


def kind_of(each: Found) -> str:
    return f"{each['type']} SPOT" if each["spot"] else str(each["type"])


def amount_text(used: Found) -> str:
    from flowbatch.model.resources import Resources

    return str(Resources(round(used["vcpus"] * 1000), used["memory_mib"], used["gpus"]))


def draw(found: Found) -> None:
    from flowbatch.cli.output import duration_text
    from flowbatch.cli.show import print_fields
    from flowbatch.model.resources import memory_text

    total = amount_text({"vcpus": found["max_vcpus"], "memory_mib": found["memory_mib"], "gpus": found["gpus"]})
    notice = found.get("notice_ms")
    print_fields(
        [
            ("environment", found["environment"]),
            ("type", f"{kind_of(found)}, backend {found['backend']}, cpu {found['cpu']}"),
            ("state", f"{found['state']}, {found['status']}"),
            ("vCPUs", f"{found['min_vcpus']:g} min, {found['desired_vcpus']:g} desired, {found['max_vcpus']:g} max"),
            ("offers", total),
            ("running", f"{counted(found['running'], 'task')} on {amount_text(found['used'])}"),
            ("notice", "" if notice is None else duration_text(notice)),
            ("queues", ", ".join(found["queues"]) or "none"),
            ("changed", f"{', '.join(found['changed'])}: not as the settings say" if found["changed"] else ""),
        ]
    )
    if "nodes" in found:
        click.echo()
        rows = [
            [
                node["node"], node["state"], node["endpoint"], f"{node['vcpus']:g}", memory_text(node["memory_mib"]),
                str(node["running"]), amount_text(node["used"]),
            ]
            for node in found["nodes"]
        ]  # fmt: skip
        print_table(["NODE", "STATE", "ENDPOINT", "VCPUS", "MEMORY", "RUNNING", "USED"], rows)
