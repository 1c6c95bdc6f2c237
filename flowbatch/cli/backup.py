"""`backup`: a copy of the store, whether an engine runs or not."""

from __future__ import annotations

from pathlib import Path

import click

from flowbatch.cli.context import Place
from flowbatch.cli.output import print_json
from flowbatch.errors import InputError


@click.command()
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace FILE where it is there.")
@click.option("--json", "as_json", is_flag=True)
@click.pass_obj
def backup(place: Place, file: str, force: bool, as_json: bool) -> int:
    """Copy the store to FILE while it is in use: everything that was told to anybody is in it. Logs are not.

    To go back to it: stop the engine, put the copy in the place of `flowbatch.db` in the state folder, remove `flowbatch.db-wal` and
    `flowbatch.db-shm` beside it, and `flowbatch resume`.
    """
    from flowbatch.store.backup import back_up

    target = Path(file).absolute()
    if target.is_dir():
        raise InputError(f"{target}: a folder; name the file that the copy goes to")
    if target.exists() and target.samefile(place.folder.database):
        raise InputError(f"{target}: this is the store itself")
    if target.exists() and not force:
        raise InputError(f"{target}: there is a file already; --force replaces it")
    with place.reader():  # says what is wrong with the folder in the words of every other verb
        size = back_up(place.folder.database, target)
    if as_json:
        print_json({"file": str(target), "bytes": size})
    else:
        click.echo(f"{target}: {size / 1024 / 1024:.1f} MiB.")
    return 0
