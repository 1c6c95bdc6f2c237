"""What people type to name a run, a job, children or an attempt.

    RUN[/JOB[:INDEX|:A-B|:failed][@NODE][#ATTEMPT]]     RUN: an id, a unique prefix, a workflow's name, `last`
                                                        NODE: a node's number, or a container's name
    UUID    UUID:INDEX    UUID#NODE                     AWS's ids of a job, a child, a node

Only the form is judged here; `lookup` says whether such a thing exists.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from flowbatch.errors import InputError

UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
ADDRESS: Final = re.compile(
    r"(?P<run>[^/:@#\s][^/:@#]*)?(?:/(?P<job>[^/:@#\s]+))?(?::(?P<children>[^/:@#]*))?(?:@(?P<node>[^/:@#]*))?"
    r"(?:#(?P<attempt>[^/:@#]*))?"
)
FORM: Final = "RUN[/JOB[:INDEX|:A-B|:failed][@NODE][#ATTEMPT]]"


class Address(Struct, frozen=True):
    run: str | None  # None: `job` is a UUID
    job: str | None = None
    indices: tuple[tuple[int, int], ...] | None = None  # closed ranges
    failed: bool = False
    node: str | None = None
    attempt: int | None = None


def parse(text: str) -> Address:
    """Raises InputError that says which part is wrong. A lone UUID may be a run's or a job's: it is given as `run`."""
    found = ADDRESS.fullmatch(text.strip())
    if found is None or found["run"] is None:
        raise InputError(f"{text!r}: not an address; it reads {FORM}")
    run, job = found["run"], found["job"]
    indices, failed = children_of(text, found["children"])
    node = found["node"]
    if node == "":
        raise InputError(f"{text!r}: after the @ stands the number of a node, or the name of a container")
    if UUID.fullmatch(run) and job is None:
        run = run.lower()
        if found["children"] is not None:
            return Address(None, run, indices, failed, node, number_of(text, "attempt", found["attempt"], 1))
        if found["attempt"] is not None:
            number_of(text, "node", found["attempt"], 0)
            return Address(None, run, node=found["attempt"])
        return Address(run) if node is None else Address(None, run, node=node)
    attempt = number_of(text, "attempt", found["attempt"], 1)
    if job is None and (found["children"] is not None or node is not None or attempt is not None):
        raise InputError(f"{text!r}: children, nodes and attempts are those of a job; it reads {FORM}")
    return Address(run, job, indices, failed, node, attempt)


def children_of(text: str, part: str | None) -> tuple[tuple[tuple[int, int], ...] | None, bool]:
    if part is None:
        return None, False
    if part == "failed":
        return None, True
    if match := re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part, re.ASCII):
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"{text!r}: the range {part} is empty; did you mean {last}-{first}?")
        return ((first, last),), False
    raise InputError(f"{text!r}: {part!r} is no index (17), range (3-8) or 'failed'")


def number_of(text: str, what: str, part: str | None, least: int) -> int | None:
    if part is None:
        return None
    if re.fullmatch(r"\d{1,5}", part, re.ASCII) and int(part) >= least:
        return int(part)
    raise InputError(f"{text!r}: {part!r} is no {what}; it is a number from {least}")
