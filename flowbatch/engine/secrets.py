"""Secrets are resolved when an attempt starts, go into its order, and are kept nowhere (semantics.md 29)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from flowbatch.model.jobspec import SecretSource

COMMAND_SECONDS: Final = 30
VALUE_BYTES: Final = 64 * 1024


class SecretMissing(Exception):
    """Says which secret cannot be had and why, never its value."""


def resolve(source: SecretSource, folder: str = "") -> str:
    """Blocks (files, commands): call it in a worker thread. `folder`: where a command runs. Raises SecretMissing."""
    value = value_of(source, folder)
    if "\0" in value:
        raise SecretMissing(
            f"{source.file or (source.command or ('',))[0]}: has a NUL character, which no variable can hold"
        )
    return value


def value_of(source: SecretSource, folder: str) -> str:
    if source.env is not None:
        value = os.environ.get(source.env)
        if value is None:
            raise SecretMissing(f"the environment variable {source.env} is not set")
        return value
    if source.file is not None:
        try:
            with Path(source.file).open(encoding="utf-8") as file:
                value = file.read(VALUE_BYTES + 1)
        except (OSError, UnicodeDecodeError) as error:
            raise SecretMissing(f"{source.file}: {getattr(error, 'strerror', None) or 'is not UTF-8'}") from None
        if len(value) > VALUE_BYTES:
            raise SecretMissing(f"{source.file}: has more than {VALUE_BYTES // 1024} KiB")
        return value.rstrip("\n")
    command = source.command or ()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # the terminal, and Ctrl-C on it, are the run's and not the command's
            start_new_session=True,
            capture_output=True,
            cwd=folder or None,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SecretMissing(f"{command[0]}: {getattr(error, 'strerror', None) or 'took longer than 30 s'}") from None
    if done.returncode != 0:
        raise SecretMissing(f"{command[0]} exited with {done.returncode}")
    return done.stdout.decode("utf-8", "replace").rstrip("\n")


def absent(source: SecretSource) -> str | None:
    """Why the source cannot be there at all, checked at submission; a command is only run when a task needs it."""
    if source.env is not None and source.env not in os.environ:
        return f"the environment variable {source.env} is not set"
    if source.file is not None and not Path(source.file).is_file():
        return f"there is no file {source.file}"
    return None
