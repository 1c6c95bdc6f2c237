"""`key`: who may call the server, and what they may do there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowbatch.cli.context import Place
from flowbatch.cli.engine import ask_or_open
from flowbatch.cli.output import clean, print_json, print_table, time_text
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from flowbatch.model.access import KeyRow


@click.group()
def key() -> None:
    """Keys of the server: each belongs to a principal, and its policies say what that may do.

    An AWS client uses a key's id and its secret, everything else its bearer token. A secret is shown when it is made, and stored nowhere.
    """


@key.command()
@click.argument("name")
@click.option(
    "--policy", "policies", multiple=True, required=True, metavar="POLICY", help="What it may do; may be repeated."
)
@click.option("--expires", metavar="DURATION", help="How long it is valid: 12h, 90d. For ever unless given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def create(place: Place, name: str, policies: Sequence[str], expires: str | None, as_json: bool) -> int:
    """Make a key for the principal NAME. Prints its secret, once."""
    from flowbatch.http import keys
    from flowbatch.http.arns import NAME

    if not NAME.fullmatch(name):
        raise InputError(f"{name!r}: a principal's name has 1 to 128 letters, digits, hyphens and underscores")
    arguments: dict[str, Any] = {"id": keys.new_id(), "name": name, "policies": list(policies)}
    if expires is not None:
        arguments["expires_at"] = expiry(expires)
    tell(place, ask_or_open(place, "put_key", arguments), as_json)
    return 0


@key.command()
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def rotate(place: Place, key_id: str, as_json: bool) -> int:
    """Give a key another secret; the old one is refused from now on."""
    tell(place, ask_or_open(place, "put_key", {"id": found(place, key_id).id, "rotate": True}), as_json)
    return 0


@key.command()
@click.argument("key_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def revoke(place: Place, key_id: str, as_json: bool) -> int:
    """Refuse a key from now on, for ever."""
    row = found(place, key_id)
    value = ask_or_open(place, "put_key", {"id": row.id, "revoke": True})
    if as_json:
        print_json(value)
    else:
        click.echo(f"fbk_{row.id} of {row.name} is revoked.")
    return 0


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_(place: Place, as_json: bool) -> int:
    """List keys: whose they are, their policies, how long they are valid."""
    with place.reader() as reader:
        rows = reader.access_keys()
    if as_json:
        print_json([row._asdict() for row in rows])
    elif rows:
        print_table(["KEY", "PRINCIPAL", "POLICIES", "MADE", "VALID"], [cells(row) for row in rows])
    else:
        click.echo("There is no key yet: `flowbatch serve` makes the administrator's.")
    return 0


@key.group()
def policy() -> None:
    """Policies in IAM's shape: {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "batch:*", "Resource": "*"}]}."""


@policy.command("put")
@click.argument("name")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def put_policy(place: Place, name: str, file: str, as_json: bool) -> int:
    """Store the policy in FILE as NAME, or put it in the place of what NAME was. It is in force at once."""
    from flowbatch.http.policies import PolicyInvalid, parse_policy

    try:
        document = Path(file).read_text(encoding="utf-8")
        parse_policy(name, document)
    except OSError as error:
        raise InputError(f"{file}: the policy cannot be read: {error.strerror}") from error
    except (PolicyInvalid, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {error}") from error
    ask_or_open(place, "put_policy", {"name": name, "document": document})
    if as_json:
        print_json({"policy": name})
    else:
        click.echo(f"Policy {clean(name)} is in force.")
    return 0


@policy.command("list")
@click.option("--json", "as_json", is_flag=True, help="A JSON list.")
@click.pass_obj
def list_policies(place: Place, as_json: bool) -> int:
    """List policies and their documents."""
    with place.reader() as reader:
        rows = reader.policies()
    if as_json:
        print_json([row._asdict() for row in rows])
    else:
        for row in rows:
            click.echo(clean(f"{row.name} ({time_text(row.updated_at)})\n{row.document}\n"))
    return 0


@policy.command("delete")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def delete_policy(place: Place, name: str, as_json: bool) -> int:
    """Remove a policy that no valid key has."""
    ask_or_open(place, "delete_policy", {"name": name})
    if as_json:
        print_json({"policy": name})
    else:
        click.echo(f"Policy {clean(name)} is gone.")
    return 0


def expiry(text: str) -> int:
    """Epoch milliseconds."""
    from flowbatch.clock import SystemClock
    from flowbatch.spec.quantities import duration_ms

    days = text[:-1]
    try:
        kept_ms = int(days) * 86_400_000 if text.endswith("d") and days.isdigit() else duration_ms(text)
    except ValueError as error:
        raise InputError(f"--expires {text}: {error}") from None
    return SystemClock().now() + kept_ms


def found(place: Place, key_id: str) -> KeyRow:
    wanted = key_id.removeprefix("fbk_").partition("_")[0]
    with place.reader() as reader:
        rows = reader.access_keys()
    for row in rows:
        if row.id == wanted:
            return row
    if theirs := [f"fbk_{row.id}" for row in rows if row.name == key_id]:
        raise InputError(f"{key_id} is a principal; name the key itself: {', '.join(theirs)}")
    raise InputError(f"there is no key {key_id}; `flowbatch key list` lists them")


def tell(place: Place, value: dict[str, Any], as_json: bool) -> None:
    from flowbatch.http import keys

    secret = keys.secret_of(keys.read_master(place.folder.master_key), value["id"], value["generation"])
    token = keys.token(value["id"], secret)
    if as_json:
        print_json(
            {**value, "access_key_id": f"{keys.PREFIX}{value['id']}", "secret_access_key": secret, "token": token}
        )
        return
    click.echo(f"aws_access_key_id = {keys.PREFIX}{value['id']}\naws_secret_access_key = {secret}")
    click.echo(f"# as a bearer token: {token}")


def cells(row: KeyRow) -> list[str]:
    until = "for ever" if row.expires_at is None else f"until {time_text(row.expires_at)}"
    valid = until if row.revoked_at is None else f"revoked {time_text(row.revoked_at)}"
    return [f"fbk_{row.id}", row.name, ", ".join(row.policies), time_text(row.created_at), valid]
