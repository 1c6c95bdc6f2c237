"""A single job that is submitted over the native API, as `flowbatch submit` does beside its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import anyio.to_thread
from msgspec.structs import replace
from pydantic import Field

from flowbatch.errors import InputError, WorkflowInvalid
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.files import asks
from flowbatch.http.native.once import Once, once
from flowbatch.http.native.routes import asked
from flowbatch.http.native.shapes import QueuedSaid
from flowbatch.http.operations.shapes import JobName, Shape, Whole
from flowbatch.http.operations.submission import submit
from flowbatch.model.ids import JobId
from flowbatch.model.jobspec import JobPlan, Need
from flowbatch.spec.single import single_problems, single_text

if TYPE_CHECKING:
    from flowbatch.spec.compile import Plan

FILE = "submit.yaml"  # what stands for the file in messages
Text = Annotated[str, Field(max_length=4096)]


class Needed(Shape):
    job: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="Its id.")
    index: Whole | None = Field(None, description="Of an array this child alone.")


class Single(Shape):
    """What is left out is as in a workflow file."""

    name: JobName
    command: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    queue: Annotated[str, Field(min_length=1, max_length=128)] = "default"
    array: int | None = Field(None, description="So many children.")
    vcpus: int | float | None = None
    memory: int | Text | None = Field(None, description="MiB, or with a unit, as in 3GiB.")
    gpus: int | None = None
    image: Text | None = None
    env: Annotated[dict[str, str], Field(max_length=1000)] = Field(default={})
    attempts: int | None = None
    timeout: Text | int | None = Field(None, description="Of each attempt, as in 1h30m.")
    needs: Annotated[list[Needed], Field(max_length=1000)] = Field(
        default=[], description="It starts once these have succeeded."
    )


async def submit_single(call: Call) -> QueuedSaid:
    """Queue a single job, which belongs to no run. It is compiled by the rules of a server, as a workflow is.

    Who submits must be allowed what it comes to, batch:SubmitJob with its container as it would run, and batch:DescribeJobs of what
    it needs. With an Idempotency-Key it is made once, however often it is sent.
    """
    given = asked(call, Single)
    service = call.service
    call.allow(call.target(service.account.arn("job-queue", given.queue), call.tags_of("job-queue", given.queue, dict)))
    async with once(call, service.reader.job_ids) as known:
        return await queued(call, given, known)


async def queued(call: Call, given: Single, known: Once | None) -> QueuedSaid:
    """`known`: what its key makes. Raises Failure."""
    service = call.service
    try:
        plan = await compiled(call, given)
    except ClientFailure:
        if known is None or not known.again:
            raise
        return QueuedSaid(job=known.id, name=given.name, queue=given.queue, warnings=[])  # by the settings of then
    warnings = [each.message for each in plan.warnings]
    if known is not None and known.again:
        return QueuedSaid(job=known.id, name=given.name, queue=given.queue, warnings=warnings)
    for action, targets in asks(service, call.principal, plan):
        call.also(action, *targets)
    if len(service.state.jobs) >= service.limits.jobs_open:
        raise ClientFailure(f"{service.limits.jobs_open} jobs are open: none is taken before some have ended")
    needs = tuple(dict.fromkeys(Need(JobId(each.job), index=each.index) for each in given.needs))
    job = JobPlan(JobId(str(uuid4()) if known is None else known.id), replace(plan.run.jobs[0].spec, needs=needs))
    await submit(call, job)
    return QueuedSaid(job=job.id, name=job.spec.key, queue=job.spec.queue, warnings=warnings)


async def compiled(call: Call, given: Single) -> Plan:
    """Raises ClientFailure."""
    compile = call.service.compile
    if compile is None:
        raise ClientFailure("This server takes no jobs but those of the AWS Batch API")
    layer: dict[str, Any] = given.model_dump(exclude={"name", "needs"}, exclude_none=True)
    if not given.env:
        del layer["env"]
    text, who = single_text(given.name, layer), call.principal.name
    try:
        return await anyio.to_thread.run_sync(lambda: compile(FILE, text, {}, (), who, None))
    except WorkflowInvalid as error:
        raise ClientFailure("\n".join(single_problems(error, given.name))) from None
    except InputError as error:
        raise ClientFailure(str(error)) from None
