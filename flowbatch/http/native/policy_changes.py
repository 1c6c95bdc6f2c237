"""Scheduling policies over the native API: the verbs of `flowbatch queues policies`. Who asks may also call the operation of AWS that
does it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from flowbatch.core import scheduling_policies
from flowbatch.http.calls import Call
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.queue_changes import Deletion, Shares
from flowbatch.http.native.routes import asked, variable
from flowbatch.http.operations.scheduling_policies import KIND
from flowbatch.http.operations.shapes import Name, Shape


class PolicyWords(Shares):
    """As the settings say it of a queue."""

    share_decay: Annotated[str, Field(max_length=32)] | None = Field(
        None, description="How long usage counts: `24h`, `90m`; ten minutes unless given."
    )
    compute_reservation: int | None = Field(None, description="Per cent of the vCPUs kept for shares to come.")


class NewPolicy(Shape):
    scheduling_policy: Name
    said: PolicyWords


class PolicyUpdate(Shape):
    """As a whole: what is not said is as of a new one."""

    said: PolicyWords


class DivisionSaid(BaseModel):
    share_decay_ms: int
    compute_reservation: int = Field(description="Per cent.")
    shares: dict[str, float] = Field(description="Weights; lower gets more.")


class PolicySaid(BaseModel):
    scheduling_policy: str
    stored: bool = Field(description="False: a queue's own, which changes where the queue is declared.")
    policy: DivisionSaid
    queues: list[str] = Field(description="That it divides.")


class PoliciesSaid(BaseModel):
    scheduling_policies: list[PolicySaid]


async def list_scheduling_policies(call: Call) -> Any:
    """The scheduling policies with the queues that they divide, by name."""
    call.allow()
    return {"scheduling_policies": scheduling_policies.overview(call.service.state)}


async def create_scheduling_policy(call: Call) -> Any:
    """Make a scheduling policy that queues can share. Needs batch:CreateSchedulingPolicy, too."""
    given = asked(call, NewPolicy)
    target = call.target(call.service.account.arn(KIND, given.scheduling_policy))
    call.allow(target)
    call.also("batch:CreateSchedulingPolicy", target)
    return await asked_of_engine(call, "create_scheduling_policy", given.model_dump(exclude_unset=True))


async def update_scheduling_policy(call: Call) -> Any:
    """Change a scheduling policy as a whole, in all queues that have it. Needs batch:UpdateSchedulingPolicy, too."""
    given = asked(call, PolicyUpdate)
    name = allowed(call, "batch:UpdateSchedulingPolicy")
    arguments = {"scheduling_policy": name, **given.model_dump(exclude_unset=True)}
    return await asked_of_engine(call, "update_scheduling_policy", arguments)


async def delete_scheduling_policy(call: Call) -> Any:
    """Delete a scheduling policy that no queue has. Needs batch:DeleteSchedulingPolicy, too."""
    asked(call, Deletion)
    name = allowed(call, "batch:DeleteSchedulingPolicy")
    return await asked_of_engine(call, "delete_scheduling_policy", {"scheduling_policy": name})


def allowed(call: Call, action: str) -> str:
    """The policy's name. Raises AccessDenied."""
    name = variable(call, "policy")
    target = call.target(call.service.account.arn(KIND, name), call.tags_of(KIND, name, dict))
    call.allow(target)
    call.also(action, target)
    return name
