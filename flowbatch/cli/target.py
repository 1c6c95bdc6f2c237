"""An address on the command line, to what the engine understands."""

from __future__ import annotations

from typing import Any

from flowbatch.cli.context import Place
from flowbatch.errors import InputError
from flowbatch.model.stimuli import Target


def resolve_target(place: Place, address: str) -> tuple[Target, dict[str, Any]]:
    """The target, and the same as arguments of a verb. Raises InputError where the address means nothing here."""
    with place.records() if place.server is not None else place.fresh_reader() as reader:
        found = reader.resolve(address)
    if found.member is not None:
        raise InputError(f"{address}: nodes and containers live and end with their job; name that, without the @")
    target = Target(found.run_id, found.job_id, found.indices, found.failed)
    return target, {
        "run": target.run,
        "job": target.job,
        "indices": None if target.indices is None else [list(span) for span in target.indices],
        "failed": target.failed,
    }
