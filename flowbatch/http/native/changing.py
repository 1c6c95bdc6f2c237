"""What the native API changes: the verbs of the engine's socket, each by a principal that may, recorded with its effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from flowbatch.engine.verbs import Verbs
from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.routes import NotFound, asked
from flowbatch.http.native.subjects import job_target, run_target
from flowbatch.http.operations.shapes import REASON_MAX, Shape
from flowbatch.http.policies import Target
from flowbatch.model.stimuli import Stimulus

RANGES_MAX = 1000


class OfCall(Verbs):
    """The verbs, asked by a call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        super().__init__(call.service.engine)

    async def _ask(self, command: Callable[[int], Stimulus]) -> object:
        return await self._call.ask(command)


class Change(Shape):
    """`address`, as the command line has it, or ids: a run, a job, ranges of a job's children or those that failed."""

    address: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    run: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    job: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    indices: (
        Annotated[list[Annotated[list[int], Field(min_length=2, max_length=2)]], Field(max_length=RANGES_MAX)] | None
    ) = None
    failed: bool = False


class Stop(Change):
    reason: Annotated[str, Field(max_length=REASON_MAX)] = ""


async def asked_of_engine(call: Call, verb: str, arguments: Mapping[str, Any]) -> Any:
    """Raises ClientFailure where the engine refuses."""
    try:
        return await OfCall(call).call(verb, arguments)
    except InputError as error:
        raise ClientFailure(str(error)) from None


async def cancel(call: Call) -> Any:
    """Fail what has not started; what runs ends by itself."""
    return await change(call, "cancel", asked(call, Stop))


async def terminate(call: Call) -> Any:
    """Cancel, and stop what runs."""
    return await change(call, "terminate", asked(call, Stop))


async def retry(call: Call) -> Any:
    """Run again what failed in a run, and what failed because of it."""
    return await change(call, "retry", asked(call, Change))


async def change(call: Call, verb: str, given: Change) -> Any:
    arguments = meant(call, given)
    if isinstance(given, Stop):
        arguments["reason"] = given.reason
    return await asked_of_engine(call, verb, arguments)


def meant(call: Call, given: Change) -> dict[str, Any]:
    """The verb's arguments, once the caller may change that. Raises ClientFailure, AccessDenied, NotFound."""
    named = given.run is not None or given.job is not None
    if named == (given.address is not None):
        raise ClientFailure("Either `address` is needed, or `run` and `job`")
    if given.address is None:
        call.allow(*owners(call, given.run, given.job))
        reader = call.service.reader
        if given.run is not None and not reader.has_run(given.run):
            raise NotFound(f"There is no run {given.run}; its whole id is needed here, an `address` takes a part of it")
        if given.job is not None and not reader.has_job(given.job):
            raise NotFound(f"There is no job {given.job}; its whole id is needed here, an `address` takes its name")
        return {"run": given.run, "job": given.job, "indices": given.indices, "failed": given.failed}
    try:
        found = call.service.reader.resolve(given.address)
    except InputError as error:
        call.allow(run_target(call, given.address.partition("/")[0]))
        raise NotFound(str(error)) from None
    call.allow(*owners(call, found.run_id, found.job_id))
    if found.member is not None:
        raise ClientFailure(
            f"{given.address}: nodes and containers live and end with their job; name that, without the @"
        )
    indices = None if found.indices is None else [list(span) for span in found.indices]
    return {"run": found.run_id, "job": found.job_id, "indices": indices, "failed": found.failed}


def owners(call: Call, run: str | None, job: str | None) -> list[Target]:
    """Whose leave is needed. A job of a run that is named by its id alone is its run's matter too."""
    if run is None and job is not None:
        stored = call.service.reader.job(job)
        run = None if stored is None or stored.row.run is None else call.service.reader.resolve(job).run_id
    targets = [] if run is None else [run_target(call, run)]
    return targets if job is None else [*targets, job_target(call, job)]
