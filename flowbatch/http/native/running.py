"""Runs that are submitted over the native API: a workflow's text, or a file of a folder that the server watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import anyio.to_thread
from pydantic import Field

from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.files import asks, workflow_arn
from flowbatch.http.native.once import Once, once
from flowbatch.http.native.routes import NotFound, asked, variable
from flowbatch.http.native.shapes import SubmittedSaid
from flowbatch.http.operations.shapes import Shape
from flowbatch.model.stimuli import SubmitRun
from flowbatch.spec.pinning import pinned

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan

FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.ya?ml")
Compile = Callable[
    [str, bytes, Mapping[str, str], Sequence[str], str, str | None], "Plan"
]  # file, text, parameters, only, principal, the run's id if that is known


class Shelves(Protocol):
    """A folder that the server watches."""

    async def start(self, name: str, params: Mapping[str, str]) -> str: ...
    def files(self) -> list[dict[str, Any]]: ...


class Start(Shape):
    params: Annotated[dict[str, str], Field(max_length=1000)] = Field(default={}, description="As `-p NAME=VALUE`.")
    folder: Annotated[str, Field(max_length=4096)] | None = Field(
        None, description="Where several have a file of that name."
    )


class Submission(Shape):
    workflow: Annotated[str, Field(min_length=1, max_length=1024 * 1024)] = Field(
        description="The text of a workflow file."
    )
    name: Annotated[str, Field(max_length=132)] = Field(
        "workflow.yaml", description="What messages call it; its stem names the workflow."
    )
    params: Annotated[dict[str, str], Field(max_length=1000)] = Field(default={}, description="As `-p NAME=VALUE`.")
    only: Annotated[list[str], Field(max_length=1000)] = Field(
        default=[], description="These jobs, and what they need."
    )


async def submit_run(call: Call) -> SubmittedSaid:
    """Submit a workflow. It is compiled by the rules of a server: secrets, mounts and sources are those that its settings allow.

    Who submits must be allowed all that the run comes to: batch:SubmitJob of each job, with its container as it would run.
    With an Idempotency-Key it is made once, however often it is sent.
    """
    given = asked(call, Submission)
    call.allow(call.target(workflow_arn(call.service.account, given.name.rpartition(".")[0])))
    if not FILE.fullmatch(given.name):
        raise ClientFailure(
            "name: a file's name is needed, such as render.yaml: letters, digits, dots, hyphens and underscores"
        )
    async with once(call, call.service.reader.run_ids) as known:
        return await submitted(call, given, known)


async def submitted(call: Call, given: Submission, known: Once | None) -> SubmittedSaid:
    """`known`: what its key makes. Raises Failure."""
    compiled: Compile | None = call.service.compile
    if compiled is None:
        raise ClientFailure("This server takes no workflows")
    run_id = None if known is None else known.id

    def compile() -> Plan:
        return compiled(given.name, given.workflow.encode(), given.params, given.only, call.principal.name, run_id)

    try:
        plan = await anyio.to_thread.run_sync(compile)
    except InputError as error:
        if known is not None and known.again:  # the settings have changed since it was made: it has been, all the same
            return SubmittedSaid(run=known.id, warnings=[])
        raise ClientFailure(str(error)) from None
    if known is not None and known.again:
        return SubmittedSaid(run=known.id, warnings=[str(each) for each in plan.warnings])
    for action, targets in asks(call.service, call.principal, plan):
        call.also(action, *targets)
    run = pinned(plan.run, plan.environments, plan.queues)
    if len(call.service.state.jobs) + len(run.jobs) > call.service.limits.jobs_open:
        raise ClientFailure(f"{call.service.limits.jobs_open} jobs are open: none is taken before some have ended")
    value: Any = await call.ask(lambda ticket: SubmitRun(ticket, run, must_fit=True))
    return SubmittedSaid(run=str(value), warnings=[str(each) for each in plan.warnings])


async def list_library(call: Call) -> Any:
    """The files of the folders that the server watches, and when each runs: on its `schedule`, at a `change`, or `manual`ly."""
    call.allow()
    return {"files": [each for library in call.service.libraries for each in library.files()]}


async def start_file(call: Call) -> SubmittedSaid:
    """Run a file of a watched folder now, by its last good version; one with `start: manual` waits for this.

    Its run is the folder's principal's, whose policies must allow what it comes to; the caller needs this action on the workflow.
    """
    name = variable(call, "file")
    call.allow(call.target(workflow_arn(call.service.account, name.rpartition(".")[0])))
    given = asked(call, Start)
    having = [
        library
        for library in call.service.libraries
        for each in library.files()
        if each["file"] == name and given.folder in (None, each["folder"])
    ]
    if not having:
        raise NotFound(f"There is no file {name[:128]} in a folder that is watched here")
    if len(having) > 1:
        raise ClientFailure(f"Several folders have {name}: `folder` says which")
    try:
        return SubmittedSaid(run=await having[0].start(name, given.params), warnings=[])
    except InputError as error:
        raise ClientFailure(str(error)) from None
