"""CancelJob and TerminateJob, of one and of many (aws-batch.md §1.1, §2, §14.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from flowbatch.http.calls import Answer, Call
from flowbatch.http.failures import AccessDenied, ClientFailure
from flowbatch.http.operations.identifiers import JobName, job_name
from flowbatch.http.operations.shapes import Reason, Shape, read
from flowbatch.http.operations.submission import job_tags
from flowbatch.http.policies import Target as Resource
from flowbatch.model.stimuli import Cancel, Target, Terminate

Command = Callable[[int, Target, str], Cancel | Terminate]


class OneInput(Shape):
    jobId: Annotated[str, Field(min_length=1)]
    reason: Reason


class ManyInput(Shape):
    jobs: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=50)]
    reason: Reason


async def cancel_job(call: Call) -> Answer:
    return await one(call, Cancel)


async def terminate_job(call: Call) -> Answer:
    return await one(call, Terminate)


async def cancel_jobs(call: Call) -> Answer:
    return await many(call, Cancel)


async def terminate_jobs(call: Call) -> Answer:
    return await many(call, Terminate)


async def one(call: Call, command: Command) -> Answer:
    """What has ended, and what was never here, is no error."""
    given = read(OneInput, call.given)
    name = job_name(call.service.account, given.jobId)
    call.allow(resource(call, name))
    await tell(call, command, name, given.reason)
    return {}


async def many(call: Call, command: Command) -> Answer:
    """Each by itself: what is wrong with one is told beside it, and the call succeeds."""
    given = read(ManyInput, call.given)
    successful, errors = [], []
    for text in given.jobs:
        try:
            name = job_name(call.service.account, text)
            call.allow(resource(call, name))
            await tell(call, command, name, given.reason)
        except AccessDenied as error:
            call.service.note(call.row(error))
            errors.append({"job": text, "code": "AccessDenied", "message": str(error)})
        except ClientFailure as error:
            errors.append({"job": text, "code": error.code, "message": str(error)})
        else:
            successful.append(text)
    if call.decision is None:
        call.allow()
    call.recorded = True  # each by itself
    return {"successful": successful, "errors": errors}


def resource(call: Call, name: JobName) -> Resource:
    tags = call.tags_of("job", name.job, lambda: job_tags(call, name.job))
    return call.target(call.service.account.arn("job", str(name)), tags)


async def tell(call: Call, command: Command, name: JobName, reason: str) -> None:
    indices = None if name.index is None else ((name.index, name.index),)
    if name.node is not None:
        raise ClientFailure(f"{name} is a node: a multi-node job is cancelled and terminated as a whole, by its own id")
    await call.ask(lambda ticket: command(ticket, Target(job=name.job, indices=indices), reason))
