"""Create-, Describe-, Update-, Delete- and ListSchedulingPolicies (aws-batch.md §9.4)."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import Field

from flowbatch.core.scheduling_policies import all_of
from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.shapes import Name, Shape, Tags, Token, read
from flowbatch.http.pages import page_size
from flowbatch.http.service import Service
from flowbatch.model.place_commands import CreateSchedulingPolicy, DeleteSchedulingPolicy, UpdateSchedulingPolicy
from flowbatch.model.queues import DECAY_MS_MAX, RESERVATION_MAX, WEIGHT_ONE, FairShare
from flowbatch.spec.queues import overlap

KIND: Final = "scheduling-policy"
ARNS_MAX: Final = 100
SHARES_MAX: Final = 500
ENTRY: Final = re.compile(r"[A-Za-z0-9]{1,255}|[A-Za-z0-9]{0,254}\*", re.ASCII)


class ShareAttributes(Shape):
    shareIdentifier: str
    weightFactor: Annotated[float, Field(ge=0.0001, le=999.9999)] | None = None


class FairsharePolicy(Shape):
    shareDecaySeconds: Annotated[int, Field(ge=0, le=DECAY_MS_MAX // 1000)] | None = None
    computeReservation: Annotated[int, Field(ge=0, le=RESERVATION_MAX)] | None = None
    shareDistribution: Annotated[list[ShareAttributes], Field(max_length=SHARES_MAX)] | None = None


class Policies(Shape):
    fairsharePolicy: FairsharePolicy | None = None
    quotaSharePolicy: dict[str, Any] | None = None


class CreateInput(Policies):
    name: Name
    tags: Tags | None = None


class OneInput(Shape):
    arn: Annotated[str, Field(min_length=1)]


class UpdateInput(Policies, OneInput):
    pass


class DescribeInput(Shape):
    arns: Annotated[list[str], Field(max_length=ARNS_MAX)]


class ListInput(Shape):
    maxResults: int | None = None
    nextToken: Token | None = None


async def create_scheduling_policy(call: Call) -> Answer:
    given = read(CreateInput, call.given)
    tags = given.tags or {}
    arn = call.service.account.arn(KIND, given.name)
    target = call.target(arn, context_of_request(tags))
    call.allow(target)
    if tags:
        call.also("batch:TagResource", target)
    policy = policy_of(given)
    await call.ask(lambda ticket: CreateSchedulingPolicy(ticket, given.name, policy, tuple(tags.items())))
    return {"name": given.name, "arn": arn}


async def update_scheduling_policy(call: Call) -> Answer:
    """As a whole, for all queues that have it, at once. Without a policy nothing is changed."""
    given = read(UpdateInput, call.given)
    name = allowed(call, given.arn)
    if given.fairsharePolicy is not None or given.quotaSharePolicy is not None:
        policy = policy_of(given)
        await call.ask(lambda ticket: UpdateSchedulingPolicy(ticket, name, policy))
    return {}


async def delete_scheduling_policy(call: Call) -> Answer:
    name = allowed(call, read(OneInput, call.given).arn)
    await call.ask(lambda ticket: DeleteSchedulingPolicy(ticket, name))
    return {}


async def describe_scheduling_policies(call: Call) -> Answer:
    given = read(DescribeInput, call.given)
    call.allow()
    service = call.service
    known = all_of(service.state)
    names = dict.fromkeys(service.account.name_of(KIND, arn) for arn in given.arns)
    return {"schedulingPolicies": [detail(service, name, known[name]) for name in names if name in known]}


async def list_scheduling_policies(call: Call) -> Answer:
    given = read(ListInput, call.given)
    call.allow()
    service = call.service
    names, size = sorted(all_of(service.state)), page_size(given.maxResults)
    if given.nextToken is not None:
        last = str(service.pages.cursor([KIND], given.nextToken)[0])
        names = [name for name in names if name > last]
    answer: dict[str, Any] = {"schedulingPolicies": [{"arn": service.account.arn(KIND, name)} for name in names[:size]]}
    if len(names) > size:
        answer["nextToken"] = service.pages.token([KIND], [names[size - 1]])
    return answer


def allowed(call: Call, arn: str) -> str:
    """The policy's name. Raises AccessDenied; ClientFailure where there is none."""
    service = call.service
    name = service.account.name_of(KIND, arn)
    call.allow(call.target(service.account.arn(KIND, name), call.tags_of(KIND, name, dict)))
    if name not in all_of(service.state):
        raise ClientFailure(f"Scheduling policy {name} not found")
    return name


def policy_of(given: Policies) -> FairShare:
    """Raises ClientFailure."""
    if given.quotaSharePolicy is not None:
        raise ClientFailure("quotaSharePolicy is of SageMaker: quota shares do not exist here; give fairsharePolicy")
    said = given.fairsharePolicy or FairsharePolicy()
    weights: dict[str, int] = {}
    for at, each in enumerate(said.shareDistribution or []):
        place = f"fairsharePolicy.shareDistribution[{at}].shareIdentifier"
        name = each.shareIdentifier
        if not ENTRY.fullmatch(name):
            raise ClientFailure(f"{place}: 1 to 255 letters and digits, with a `*` at the end for any rest")
        clash = next((other for other in weights if overlap(name, other)), None)
        if clash is not None:
            raise ClientFailure(f"{place}: {name} and {clash} overlap: a share would have two weights")
        factor = 1 if each.weightFactor is None else each.weightFactor
        weights[name] = round(Decimal(repr(factor)) * WEIGHT_ONE)
    return FairShare((said.shareDecaySeconds or 0) * 1000, said.computeReservation or 0, tuple(weights.items()))


def detail(service: Service, name: str, policy: FairShare) -> dict[str, Any]:
    return {
        "name": name,
        "arn": service.account.arn(KIND, name),
        "fairsharePolicy": {
            "shareDecaySeconds": policy.decay_ms // 1000,
            "computeReservation": policy.reservation,
            "shareDistribution": [
                {"shareIdentifier": share, "weightFactor": weight / WEIGHT_ONE} for share, weight in policy.weights
            ],
        },
        "tags": dict(service.tags(KIND, name, dict)),
    }
