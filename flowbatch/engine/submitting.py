"""Jobs without a run, and runs that were compiled elsewhere, as they come over the control socket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import convert

from flowbatch.errors import InputError
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import JobPlan, RunPlan
from flowbatch.model.rows import EndedJob
from flowbatch.model.status import Status


def run_plan_of(value: object) -> RunPlan:
    """Raises InputError where it is no plan."""
    try:
        return convert(value, RunPlan, str_keys=True)
    except ValueError as error:
        raise InputError(f"`plan` is no run: {error}") from None


def plan_of(value: object) -> JobPlan:
    """Raises InputError where it is no plan."""
    try:
        return convert(value, JobPlan, str_keys=True)
    except ValueError as error:
        raise InputError(f"`plan` is no job: {error}") from None


def ended_of(values: object) -> tuple[EndedJob, ...]:
    """Raises InputError."""
    if not isinstance(values, list):
        raise InputError("`ended` is a list of jobs")
    return tuple(map(one_ended, values))


def one_ended(value: Mapping[str, Any]) -> EndedJob:
    try:
        return EndedJob(
            JobId(str(value["id"])),
            str(value["name"]),
            Status(value["status"]),
            None if value["size"] is None else int(value["size"]),
            bytes.fromhex(value["cells"]),
            bool(value["again"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"`ended`: {error!r}") from None
