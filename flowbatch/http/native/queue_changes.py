"""Changes of job queues over the native API: the verbs of `flowbatch queues`. Who asks may also call the operation of AWS that does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from flowbatch.http.calls import Call
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.routes import asked, variable
from flowbatch.http.operations import scheduling_policies
from flowbatch.http.operations.environments import KIND as ENVIRONMENT
from flowbatch.http.operations.environments import bounded
from flowbatch.http.operations.queues import KIND, PRIORITY_MAX
from flowbatch.http.operations.shapes import Name, Shape, Whole
from flowbatch.http.policies import Target
from flowbatch.model.places import is_of_run

Names = Annotated[list[Annotated[str, Field(max_length=128)]], Field(max_length=100)]
Policy = Annotated[str, Field(min_length=1, max_length=128)]


class Shares(Shape):
    shares: Annotated[dict[str, int | float], Field(max_length=1000)] = Field(
        default={}, description="Weights; 1 unless given, lower gets more."
    )


class QueueWords(Shape):
    """As the settings say it."""

    environments: Names = Field(description="In the order given; 1 to 3.")
    priority: int | None = Field(None, description="A higher one is served first; 1 unless given.")
    max_running: int | None = Field(None, description="At most so many attempts at once.")
    policy: Shares | None = Field(None, description="Divided among the shares of its jobs.")


class NewQueue(Shape):
    queue: Name
    said: QueueWords
    scheduling_policy: Policy | None = Field(None, description="Divided as this stored policy says.")


class QueueUpdate(Shape):
    """What is left out stays."""

    enabled: bool | None = None
    priority: Annotated[int, Field(ge=0, le=PRIORITY_MAX)] | None = None
    environments: Names | None = None
    max_running: Whole | None = Field(None, description="0 lifts the limit.")
    scheduling_policy: Policy | None = None


class Deletion(Shape):
    """No more than what is in the path."""


async def create_queue(call: Call) -> Any:
    """Make a job queue, beside those of the settings. Needs batch:CreateJobQueue on it and on what it is to have, too."""
    given = asked(call, NewQueue)
    target = call.target(call.service.account.arn(KIND, given.queue))
    allow(call, "batch:CreateJobQueue", target, given.said.environments, given.scheduling_policy)
    bounded(call, sum(not is_of_run(each) for each in call.service.state.queues), "job queues")
    return await asked_of_engine(call, "create_queue", given.model_dump(exclude_none=True))


async def update_queue(call: Call) -> Any:
    """Enable or disable a job queue, or change its priority, environments, limit or policy. Needs batch:UpdateJobQueue, too."""
    given = asked(call, QueueUpdate)
    name = variable(call, "queue")
    allow(call, "batch:UpdateJobQueue", target_of(call, name), given.environments or (), given.scheduling_policy)
    return await asked_of_engine(call, "update_queue", {"queue": name, **given.model_dump(exclude_none=True)})


async def delete_queue(call: Call) -> Any:
    """Delete a DISABLED job queue; all its jobs are terminated. Needs batch:DeleteJobQueue, too."""
    asked(call, Deletion)
    name = variable(call, "queue")
    allow(call, "batch:DeleteJobQueue", target_of(call, name), (), None)
    return await asked_of_engine(call, "delete_queue", {"queue": name})


def target_of(call: Call, name: str) -> Target:
    return call.target(call.service.account.arn(KIND, name), call.tags_of(KIND, name, dict))


def allow(call: Call, action: str, queue: Target, environments: Sequence[str], policy: str | None) -> None:
    """The environments and the policy that it is to have are asked for too (aws-batch.md §13.2). Raises AccessDenied."""
    call.allow(queue)
    arn, others = call.service.account.arn, [(ENVIRONMENT, each) for each in environments]
    if policy is not None:
        others.append((scheduling_policies.KIND, policy))
    used = (call.target(arn(kind, name), call.tags_of(kind, name, dict)) for kind, name in others)
    call.also(action, queue, *used)
