"""`serve`: the server, in this process, until it is told to end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.errors import InputError
from flowbatch.spec.serving import Folder, Serve

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flowbatch.library.shelves import Library
    from flowbatch.serve import Grounds, Listening, Serving
    from flowbatch.settings import Settings


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--insecure-folder", is_flag=True, help="Watch FOLDER though others may write to it.")
@click.option(
    "--listen", "listen", multiple=True, metavar="ADDR:PORT", help="[default: 127.0.0.1:7070]; may be repeated."
)
@click.option("--host-name", "names", multiple=True, metavar="NAME", help="A name that the server is reached by.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="The chain of a certificate; with --tls-key.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key.")
@click.option("--behind-proxy", is_flag=True, help="Something in front of it speaks TLS.")
@click.option("--insecure-no-auth", is_flag=True, help="Take every call for an administrator's; on loopback only.")
@click.option("--account", help="The account number in ARNs.  [default: 000000000000]")
@click.option("--region", help="The region in ARNs.  [default: us-east-1]")
@click.option(
    "--no-strict", is_flag=True, help="Lift AWS's limits (timeouts, sizes of arrays, numbers of dependencies)."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Calls a second of each key; unlimited unless given.",
)
@click.option("--print-unit", is_flag=True, help="Print a systemd unit that serves as this command would.")
@click.pass_obj
def serve(
    place: Place,
    folder: Path | None,
    insecure_folder: bool,
    listen: Sequence[str],
    names: Sequence[str],
    tls_cert: Path | None,
    tls_key: Path | None,
    behind_proxy: bool,
    insecure_no_auth: bool,
    account: str | None,
    region: str | None,
    no_strict: bool,
    rate: float | None,
    print_unit: bool,
) -> int:
    """Serve the AWS Batch API, and run what lies in FOLDER, until SIGTERM or Ctrl-C.

    A workflow in FOLDER runs on its `schedule`; without one when it appears and whenever its content changes; with `start: manual` not by
    itself. What is wrong with it stands beside it in NAME.errors.txt. A file in FOLDER/inbox runs once, and moves to inbox/done or inbox/failed.

    boto3 and the AWS command line reach it by `--endpoint-url http://127.0.0.1:7070`. The first start makes an administrator's key and writes it to
    admin.key in the state folder, as a credentials file of AWS's tools. Tasks outlive the server: the next start goes on with them.

    What is given here can stand in flowbatch.yaml, under `serve`; several folders too, each with a principal and policies of its own. SIGHUP reads
    the settings again.
    """
    from flowbatch import logs
    from flowbatch.cli.load import no_plugins

    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key belong together: give both")
    if account is not None and not (account.isascii() and account.isdigit() and len(account) == 12):
        raise InputError(f"--account {account}: an account has 12 digits")
    given = Serve(
        tuple(listen),
        tuple(names),
        None if tls_cert is None or tls_key is None else (str(tls_cert), str(tls_key)),
        behind_proxy,
        account,
        region,
        not no_strict,
        rate,
        () if folder is None else (Folder(str(folder.absolute())),),
    )
    if print_unit:
        from flowbatch.cli.unit import unit, words_of

        words = words_of(place, given, insecure_folder=insecure_folder, insecure_no_auth=insecure_no_auth)
        click.echo(unit(words, Path.cwd()), nl=False)
        return 0
    logs.configure(level="info")
    with no_plugins():
        from flowbatch.http.connections import make_room
        from flowbatch.serve import run
    said = over(given, place.settings.serve)
    listening = listening_of(said, open_to_all=insecure_no_auth)
    make_room(listening.limits.connections)

    def read_again() -> Settings:
        from flowbatch.settings import read_settings

        return read_settings(place.folder.path, place.config)

    def started(running: Serving) -> None:
        say_started(place, listening, running)
        for each in said.folders:
            click.echo(f"Watching {each.path}", err=True)

    watching = [partial(watched, place, each, insecure_folder) for each in said.folders]
    from flowbatch.cli.watching import compiler

    compiling = partial(compiler, place)
    return anyio.run(run, place.folder, place.settings, listening, read_again, started, watching, compiling)


def over(given: Serve, settings: Serve) -> Serve:
    """Flags over settings. A FOLDER is watched alone, by the rules that the settings have for it."""
    folders = settings.folders
    if given.folders:
        rules = {os.path.realpath(each.path): each for each in settings.folders}
        folders = tuple(rules.get(os.path.realpath(each.path), each) for each in given.folders)
    return Serve(
        given.listen or settings.listen,
        given.host_names or settings.host_names,
        given.tls or settings.tls,
        given.behind_proxy or settings.behind_proxy,
        given.account or settings.account,
        given.region or settings.region,
        given.strict and settings.strict,
        given.rate or settings.rate,
        folders,
    )


def listening_of(said: Serve, *, open_to_all: bool) -> Listening:
    """Raises InputError."""
    from flowbatch.http.arns import Account
    from flowbatch.http.service import Limits
    from flowbatch.serve import Listening

    usual = Account()
    return Listening(
        addresses=tuple(map(address, said.listen)) or Listening().addresses,
        names=said.host_names,
        open_to_all=open_to_all,
        certificate=None if said.tls is None else (Path(said.tls[0]), Path(said.tls[1])),
        behind_proxy=said.behind_proxy,
        account=Account(said.account or usual.number, said.region or usual.region),
        limits=Limits(strict=said.strict, calls_per_s=said.rate),
    )


def watched(place: Place, rule: Folder, insecure: bool, grounds: Grounds) -> AbstractContextManager[Library]:
    """A folder that the settings do not know has names of its own in the store, as it had before there were several."""
    from flowbatch.cli.watching import MARK, open_library

    prefix = rule.principal + MARK if rule in grounds.settings().serve.folders else ""
    return open_library(
        place, grounds.settings, rule, grounds.app, grounds.warden(rule), insecure=insecure, prefix=prefix
    )


def address(text: str) -> tuple[str, int]:
    """`127.0.0.1:7070`, `[::1]:7070`, `:7070` (loopback) or `7070`."""
    from ipaddress import ip_address

    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if host == "localhost":
        host = "127.0.0.1"
    try:
        ip_address(host)
    except ValueError:
        raise InputError(f"--listen {text}: an address is needed, such as 127.0.0.1:7070; {host!r} is none") from None
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise InputError(f"--listen {text}: a port is a number up to 65535")
    return host, int(port)


def say_started(place: Place, listening: Listening, running: Serving) -> None:
    import sys

    if listening.open_to_all:
        click.echo("WARNING: --insecure-no-auth: every program on this machine may do everything here.", err=True)
    click.echo(f"Serving on {' '.join(running.urls)} (state folder {place.folder.path})", err=True)
    if listening.open_to_all:
        return
    click.echo(f"The administrator's key is in {place.folder.admin_key}:", err=True)
    click.echo(f"  export AWS_SHARED_CREDENTIALS_FILE={place.folder.admin_key}", err=True)
    click.echo(
        f"  export AWS_ENDPOINT_URL_BATCH={running.urls[0]} AWS_DEFAULT_REGION={listening.account.region}", err=True
    )
    if running.administrator is not None and running.secret is not None and sys.stderr.isatty():
        from flowbatch.http.keys import token

        click.echo(f"  bearer token: {token(running.administrator.id, running.secret)}", err=True)
