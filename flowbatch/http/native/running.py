"""Runs that are submitted over the native API: a workflow's text, or a file of a folder that the server watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import anyio.to_thread
from pydantic import Field

from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.files import asks, workflow_arn
from flowbatch.http.native.routes import asked
from flowbatch.http.native.shapes import SubmittedSaid
from flowbatch.http.operations.shapes import Shape
from flowbatch.model.stimuli import SubmitRun
from flowbatch.spec.pinning import pinned

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan

FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.ya?ml")
Compile = Callable[
    [str, bytes, Mapping[str, str], Sequence[str], str], "Plan"
]  # file, text, parameters, only, principal


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
    """
    given = asked(call, Submission)
    call.allow(call.target(workflow_arn(call.service.account, given.name.rpartition(".")[0])))
    if not FILE.fullmatch(given.name):
        raise ClientFailure(
            "name: a file's name is needed, such as render.yaml: letters, digits, dots, hyphens and underscores"
        )
    compiled: Compile | None = call.service.compile
    if compiled is None:
        raise ClientFailure("This server takes no workflows")

    def compile() -> Plan:
        return compiled(given.name, given.workflow.encode(), given.params, given.only, call.principal.name)

    try:
        plan = await anyio.to_thread.run_sync(compile)
    except InputError as error:
        raise ClientFailure(str(error)) from None
    for action, targets in asks(call.service, call.principal, plan):
        call.also(action, *targets)
    run = pinned(plan.run, plan.environments, plan.queues)
    if len(call.service.state.jobs) + len(run.jobs) > call.service.limits.jobs_open:
        raise ClientFailure(f"{call.service.limits.jobs_open} jobs are open: none is taken before some have ended")
    value: Any = await call.ask(lambda ticket: SubmitRun(ticket, run, must_fit=True))
    return SubmittedSaid(run=str(value), warnings=[str(each) for each in plan.warnings])
