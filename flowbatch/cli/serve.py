"""`serve`: the server, in this process, until it is told to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from flowbatch.cli.context import Place
from flowbatch.errors import InputError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from flowbatch.app import App
    from flowbatch.library.shelves import Library
    from flowbatch.serve import Listening, Serving
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
@click.option("--account", default="000000000000", help="The account number in ARNs.")
@click.option("--region", default="us-east-1", help="The region in ARNs.")
@click.option(
    "--no-strict", is_flag=True, help="Lift AWS's limits (timeouts, sizes of arrays, numbers of dependencies)."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Calls a second of each key; unlimited unless given.",
)
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
    account: str,
    region: str,
    no_strict: bool,
    rate: float | None,
) -> int:
    """Serve the AWS Batch API, and run what lies in FOLDER, until SIGTERM or Ctrl-C.

    A workflow in FOLDER runs on its `schedule`; without one when it appears and whenever its content changes; with `start: manual` not by
    itself. What is wrong with it stands beside it in NAME.errors.txt. A file in FOLDER/inbox runs once, and moves to inbox/done or inbox/failed.

    boto3 and the AWS command line reach it by `--endpoint-url http://127.0.0.1:7070`. The first start makes an administrator's key and writes it to
    admin.key in the state folder, as a credentials file of AWS's tools. Tasks outlive the server: the next start goes on with them.
    """
    from flowbatch import logs
    from flowbatch.cli.load import no_plugins

    logs.configure(level="info")
    with no_plugins():
        from flowbatch.http.arns import Account
        from flowbatch.http.service import Limits
        from flowbatch.serve import Listening, run
    if not (account.isdigit() and len(account) == 12):
        raise InputError(f"--account {account}: an account has 12 digits")
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key belong together: give both")
    listening = Listening(
        addresses=tuple(map(address, listen)) or Listening().addresses,
        names=tuple(names),
        open_to_all=insecure_no_auth,
        certificate=None if tls_cert is None or tls_key is None else (tls_cert, tls_key),
        behind_proxy=behind_proxy,
        account=Account(account, region),
        limits=Limits(strict=not no_strict, calls_per_s=rate),
    )

    def read_again() -> Settings:
        from flowbatch.settings import read_settings

        return read_settings(place.folder.path, place.config)

    def started(running: Serving) -> None:
        say_started(place, listening, running)
        if folder is not None:
            click.echo(f"Watching {folder.absolute()}", err=True)

    def watch(app: App) -> AbstractContextManager[Library]:
        from flowbatch.cli.watching import open_library

        assert folder is not None
        return open_library(place, folder, app, insecure=insecure_folder)

    watching = None if folder is None else watch
    return anyio.run(run, place.folder, place.settings, listening, read_again, started, watching)


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
