"""What is filled in when an attempt starts: AWS's `Ref::name` and `${{ run.status }}`.

Read by the engine too, so this module imports the standard library alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

_REF: Final = re.compile(r"Ref::([A-Za-z0-9_-]+)", re.ASCII)
STATUS: Final = "${{ run.status }}"  # the one spelling that a compiled workflow holds


def substitute_refs(command: tuple[str, ...], parameters: Mapping[str, str]) -> tuple[str, ...]:
    """AWS's rule as flowbatch reads it: the longest name after `Ref::`, anywhere in an element; one without a value stays.

    A value is not searched again.
    """
    if not any("Ref::" in element for element in command):
        return command
    return tuple(_REF.sub(lambda found: parameters.get(found[1], found[0]), element) for element in command)


def refs_in(command: tuple[str, ...]) -> Iterator[str]:
    """Names of the placeholders, in order, repeated as they repeat."""
    for element in command:
        if "Ref::" in element:
            yield from _REF.findall(element)


def expand_status(text: str, status: str) -> str:
    """For a `finally` job at its start, when the end of the run is known."""
    return text.replace(STATUS, status)
