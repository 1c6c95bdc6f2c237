"""CreateJobQueue, UpdateJobQueue, DeleteJobQueue (aws-batch.md §9.1, §9.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations import scheduling_policies
from flowbatch.http.operations.compute_resources import family
from flowbatch.http.operations.environments import KIND as ENVIRONMENT
from flowbatch.http.operations.environments import State, bounded, resource_type, told_of
from flowbatch.http.operations.shapes import Name, Shape, Tags, read
from flowbatch.http.policies import Target
from flowbatch.http.service import Service
from flowbatch.model.jobspec import Queue
from flowbatch.model.place_commands import CreateQueue, DeleteQueue, QueueChange, UpdateQueue
from flowbatch.model.places import QUEUE_ENVIRONMENTS_MAX, is_of_run
from flowbatch.model.queues import LIMITABLE, TimeLimit

KIND: Final = "job-queue"
PRIORITY_MAX: Final = 1_000_000
SAGEMAKER: Final = "is of SageMaker: service environments do not exist here"
TYPES: Final = {"FARGATE": "ECS_FARGATE", "ECS_MANAGED_INSTANCES": "ECS_MANAGED_INSTANCES"}
Priority = Annotated[int, Field(ge=0, le=PRIORITY_MAX)]


class EnvironmentOrder(Shape):
    order: int
    computeEnvironment: Annotated[str, Field(min_length=1)]


class TimeLimitAction(Shape):
    reason: str
    state: Literal["RUNNABLE"]
    maxTimeSeconds: Annotated[int, Field(ge=600, le=86_400)]
    action: Literal["CANCEL", "TERMINATE"]


class Changes(Shape):
    state: State | None = None
    schedulingPolicyArn: str | None = None
    computeEnvironmentOrder: list[EnvironmentOrder] | None = None
    serviceEnvironmentOrder: list[dict[str, Any]] | None = None
    jobStateTimeLimitActions: list[TimeLimitAction] | None = None


class CreateInput(Changes):
    jobQueueName: Name
    priority: Priority
    jobQueueType: Literal["EKS", "ECS", "ECS_FARGATE", "SAGEMAKER_TRAINING", "ECS_MANAGED_INSTANCES"] | None = None
    tags: Tags | None = None


class OneInput(Shape):
    jobQueue: Annotated[str, Field(min_length=1)]


class UpdateInput(Changes, OneInput):
    priority: Priority | None = None


async def create_job_queue(call: Call) -> Answer:
    given = read(CreateInput, call.given)
    service, name, tags = call.service, given.jobQueueName, given.tags or {}
    arn = service.account.arn(KIND, name)
    target = call.target(arn, context_of_request(tags))
    call.allow(target, *used(call, given))
    if tags:
        call.also("batch:TagResource", target)
    places, orders = ordered(service, given.computeEnvironmentOrder or [])
    if given.serviceEnvironmentOrder or given.jobQueueType == "SAGEMAKER_TRAINING":
        raise ClientFailure(f"serviceEnvironmentOrder {SAGEMAKER}")
    judge_type(service, places, given.jobQueueType)
    bounded(call, sum(not is_of_run(each) for each in service.state.queues), "job queues")
    queue = Queue(
        name,
        given.priority,
        places,
        given.state != "DISABLED",
        title=name,
        limits=limits_of(given.jobStateTimeLimitActions or []),
        policy_name=policy_of(service, given.schedulingPolicyArn) or "",
        orders=orders,
    )
    await call.ask(lambda ticket: CreateQueue(ticket, queue, tuple(tags.items())))
    return {"jobQueueName": name, "jobQueueArn": arn}


async def update_job_queue(call: Call) -> Answer:
    given = read(UpdateInput, call.given)
    service = call.service
    name = allowed(call, given.jobQueue, used(call, given))
    if given.serviceEnvironmentOrder:
        raise ClientFailure(f"serviceEnvironmentOrder {SAGEMAKER}")
    places: tuple[str, ...] | None = None
    orders: tuple[int, ...] = ()
    if given.computeEnvironmentOrder is not None:
        places, orders = ordered(service, given.computeEnvironmentOrder)
        judge_type(service, places, None)
    actions = given.jobStateTimeLimitActions
    change = QueueChange(
        enabled=None if given.state is None else given.state == "ENABLED",
        priority=given.priority,
        environments=places,
        policy_name=policy_of(service, given.schedulingPolicyArn),
        limits=None if actions is None else limits_of(actions),
        orders=orders,
    )
    await call.ask(lambda ticket: UpdateQueue(ticket, name, change))
    return {"jobQueueName": name, "jobQueueArn": service.account.arn(KIND, name)}


async def delete_job_queue(call: Call) -> Answer:
    """It must be DISABLED. All its jobs are terminated (`JobQueue deleted`), and it goes once they have ended."""
    name = allowed(call, read(OneInput, call.given).jobQueue, ())
    await call.ask(lambda ticket: DeleteQueue(ticket, name))
    return {}


def allowed(call: Call, text: str, others: Sequence[Target]) -> str:
    """The queue's name. Raises AccessDenied; ClientFailure where there is none."""
    service = call.service
    name = service.account.name_of(KIND, text)
    call.allow(call.target(service.account.arn(KIND, name), call.tags_of(KIND, name, dict)), *others)
    if name not in service.state.queues or is_of_run(name):
        raise ClientFailure(f"JobQueue {name} not found")
    return name


def used(call: Call, given: Changes) -> list[Target]:
    """The environments and the policy that the queue is to have: they are asked for too (aws-batch.md §13.2)."""
    account = call.service.account
    names = [account.name_of(ENVIRONMENT, each.computeEnvironment) for each in given.computeEnvironmentOrder or []]
    found = [call.target(account.arn(ENVIRONMENT, name), call.tags_of(ENVIRONMENT, name, dict)) for name in names]
    policy = policy_of(call.service, given.schedulingPolicyArn)
    if policy:
        kind = scheduling_policies.KIND
        found.append(call.target(account.arn(kind, policy), call.tags_of(kind, policy, dict)))
    return found


def policy_of(service: Service, arn: str | None) -> str | None:
    """Its name; empty where it is to have none."""
    return arn if not arn else service.account.name_of(scheduling_policies.KIND, arn)


def ordered(service: Service, given: Sequence[EnvironmentOrder]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names, in ascending `order`, and those numbers. Raises ClientFailure."""
    found = sorted((each.order, service.account.name_of(ENVIRONMENT, each.computeEnvironment)) for each in given)
    orders, names = tuple(order for order, _ in found), tuple(name for _, name in found)
    if not 1 <= len(found) <= QUEUE_ENVIRONMENTS_MAX:
        raise ClientFailure(f"computeEnvironmentOrder: 1 to {QUEUE_ENVIRONMENTS_MAX} are possible, not {len(found)}")
    if len(set(orders)) < len(orders):
        raise ClientFailure("computeEnvironmentOrder: each `order` can be given once")
    if len(set(names)) < len(names):
        raise ClientFailure("computeEnvironmentOrder: each compute environment can be given once")
    for name in names:
        if name not in service.state.environments or is_of_run(name):
            raise ClientFailure(f"ComputeEnvironment {name} not found")
    return names, orders


def judge_type(service: Service, environments: Sequence[str], asked: str | None) -> None:
    """Raises ClientFailure where kinds are mixed, or are not what the queue is said to be for."""
    kinds = {family_of(service, name) for name in environments}
    if len(kinds) > 1:
        raise ClientFailure(f"computeEnvironmentOrder: {' and '.join(sorted(kinds))} cannot be mixed in one queue")
    if asked is not None and asked != queue_type(service, environments):
        raise ClientFailure(f"jobQueueType: {asked} does not go with environments of {kinds.pop()}")


def family_of(service: Service, name: str) -> str:
    place = service.state.environments.get(name)
    if place is None or not place.spec.managed:
        return "EC2"
    return family(resource_type(place.spec, told_of(place.spec).get("computeResources", {})))


def queue_type(service: Service, environments: Sequence[str]) -> str:
    return TYPES.get(family_of(service, environments[0]), "ECS") if environments else "ECS"


def limits_of(actions: Sequence[TimeLimitAction]) -> tuple[TimeLimit, ...]:
    """Raises ClientFailure."""
    for at, each in enumerate(actions):
        place = f"jobStateTimeLimitActions[{at}]"
        if each.reason not in LIMITABLE:
            raise ClientFailure(f"{place}.reason: one of {', '.join(LIMITABLE)}, not {each.reason[:200]!r}")
        if each.action != "CANCEL":
            raise ClientFailure(f"{place}.action: {each.action} is for queues of SageMaker; CANCEL is for these")
        if any(each.reason == other.reason for other in actions[:at]):
            raise ClientFailure(f"{place}.reason: {each.reason} has an action already")
    return tuple(TimeLimit(each.reason, each.maxTimeSeconds * 1000) for each in actions)
