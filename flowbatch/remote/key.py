"""The key that a server is asked with: of the environment, or of a file that is its owner's alone."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from flowbatch.errors import InputError

TOKEN: Final = re.compile(r"fbk_[a-z0-9]{12}_[A-Za-z0-9_-]{51}")
FILE_BYTES: Final = 65_536


def find_key(file: str | None) -> str | None:
    """None where there is none: of a server without keys nobody asks for one. Raises InputError."""
    given = os.environ.get("FLOWBATCH_KEY", "").strip()
    if file is None:
        if given and not TOKEN.fullmatch(given):
            raise InputError("FLOWBATCH_KEY is no key; one reads fbk_…, as `flowbatch key create` prints it")
        return given or None
    path = Path(file)
    try:
        if path.stat().st_mode & 0o077:
            raise InputError(f"{file}: others may read this key; `chmod 600 {file}`")
        with path.open("rb") as stream:
            text = stream.read(FILE_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"--key-file {file}: {error.strerror}") from error
    found = TOKEN.search(text)
    if found is None:
        raise InputError(
            f"--key-file {file}: there is no key in it; one reads fbk_…, as `flowbatch key create` prints it"
        )
    return found[0]
