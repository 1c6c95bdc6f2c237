"""DescribeJobQueues and DescribeComputeEnvironments (aws-batch.md §9.1, §10.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from flowbatch.core import scheduling_policies
from flowbatch.core.place_views import desired_milli
from flowbatch.core.queues import QueueState
from flowbatch.core.rooms import shared_vcpus_milli
from flowbatch.core.snapshot import snapshot
from flowbatch.core.state import EnvironmentState
from flowbatch.http.calls import Answer, Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.compute_resources import family
from flowbatch.http.operations.environments import resource_type, told_of
from flowbatch.http.operations.queues import queue_type
from flowbatch.http.operations.shapes import Shape, Token, read
from flowbatch.http.pages import page_size
from flowbatch.http.service import Service
from flowbatch.model.ids import Millis
from flowbatch.model.places import is_of_run

NAMES_MAX: Final = 100
Names = Annotated[list[str], Field(max_length=NAMES_MAX)]


class QueuesInput(Shape):
    jobQueues: Names | None = None
    maxResults: int | None = None
    nextToken: Token | None = None


class EnvironmentsInput(Shape):
    computeEnvironments: Names | None = None
    maxResults: int | None = None
    nextToken: Token | None = None


async def describe_job_queues(call: Call) -> Answer:
    given = read(QueuesInput, call.given)
    call.allow()
    service = call.service
    known = {name: queue for name, queue in service.state.queues.items() if not is_of_run(name)}
    names, answer = page(call, "job-queue", given.jobQueues, sorted(known), given.maxResults, given.nextToken)
    return {"jobQueues": [queue_detail(service, known[name]) for name in names], **answer}


async def describe_compute_environments(call: Call) -> Answer:
    given = read(EnvironmentsInput, call.given)
    call.allow()
    service = call.service
    known = {name: place for name, place in service.state.environments.items() if not is_of_run(name)}
    names, answer = page(
        call, "compute-environment", given.computeEnvironments, sorted(known), given.maxResults, given.nextToken
    )
    return {"computeEnvironments": [environment_detail(service, known[name]) for name in names], **answer}


class SnapshotInput(Shape):
    jobQueue: Annotated[str, Field(min_length=1)]


async def get_job_queue_snapshot(call: Call) -> Answer:
    """What stands at the front of a queue, and who uses how much of it (aws-batch.md §9.7)."""
    given = read(SnapshotInput, call.given)
    service = call.service
    account, now = service.account, service.now()
    name = account.name_of("job-queue", given.jobQueue)
    call.allow(call.target(account.arn("job-queue", name), call.tags_of("job-queue", name, dict)))
    queue = service.state.queues.get(name)
    if queue is None or is_of_run(name):
        raise ClientFailure(f"JobQueue {name} not found")
    seen = snapshot(service.state, queue, Millis(now))
    used = seen["utilization"]
    utilization: dict[str, Any] = {
        "totalCapacityUsage": [{"capacityUnit": "VCPU", "quantity": float(used["vcpus"])}],
        "lastUpdatedAt": now,
    }
    if "shares" in used:
        utilization["fairshareUtilization"] = {
            "activeShareCount": used["active_shares"],
            "topCapacityUtilization": [
                {
                    "shareIdentifier": each["share"],
                    "capacityUsage": [{"capacityUnit": "VCPU", "quantity": float(each["vcpus"])}],
                }
                for each in used["shares"]
            ],
        }
    front = [
        {"jobArn": account.arn("job", each["job"]), "earliestTimeAtPosition": each["earliest_at"]}
        for each in seen["front"]
    ]
    return {"frontOfQueue": {"jobs": front, "lastUpdatedAt": now}, "queueUtilization": utilization}


def page(
    call: Call, kind: str, asked: list[str] | None, known: list[str], most: int | None, token: str | None
) -> tuple[list[str], dict[str, str]]:
    """The names to show, unknown ones silently missing, and the token of the next page where there is one."""
    service = call.service
    size = page_size(most)
    names = known
    if asked:
        wanted = dict.fromkeys(service.account.name_of(kind, text) for text in asked)
        names = [name for name in wanted if name in known]
    question = [kind, asked]
    if token is not None:
        last = str(service.pages.cursor(question, token)[0])
        names = names[names.index(last) + 1 :] if last in names else [name for name in names if name > last]
    shown = names[:size]
    return shown, {"nextToken": service.pages.token(question, [shown[-1]])} if len(names) > size else {}


def queue_detail(service: Service, queue: QueueState) -> dict[str, Any]:
    spec, account = queue.spec, service.account
    orders = spec.orders if len(spec.orders) == len(spec.environments) else range(1, len(spec.environments) + 1)
    policy = scheduling_policies.name_of(service.state, spec)
    return {
        "jobQueueName": spec.name,
        "jobQueueArn": account.arn("job-queue", spec.name),
        "state": "ENABLED" if spec.enabled else "DISABLED",
        **({"schedulingPolicyArn": account.arn("scheduling-policy", policy)} if policy else {}),
        "status": queue.status.value,
        "statusReason": "JobQueue Healthy",
        "priority": spec.priority,
        "computeEnvironmentOrder": [
            {"order": at, "computeEnvironment": account.arn("compute-environment", name)}
            for at, name in zip(orders, spec.environments, strict=True)
        ],
        "serviceEnvironmentOrder": [],
        "jobQueueType": queue_type(service, spec.environments),
        "tags": dict(service.tags("job-queue", spec.name, dict)),
        "jobStateTimeLimitActions": [
            {"reason": each.reason, "state": "RUNNABLE", "maxTimeSeconds": each.max_ms // 1000, "action": "CANCEL"}
            for each in spec.limits
        ],
    }


def environment_detail(service: Service, place: EnvironmentState) -> dict[str, Any]:
    spec, account = place.spec, service.account
    own = hashlib.md5(spec.name.encode(), usedforsecurity=False).hexdigest()
    uuid = f"{own[:8]}-{own[8:12]}-4{own[13:16]}-8{own[17:20]}-{own[20:]}"
    told = told_of(spec)
    resources = told.pop("computeResources", {})
    found: dict[str, Any] = {
        "computeEnvironmentName": spec.name,
        "computeEnvironmentArn": account.arn("compute-environment", spec.name),
        "ecsClusterArn": f"arn:{account.partition}:ecs:{account.region}:{account.number}:cluster/{spec.name}_Batch_{uuid}",
        "uuid": uuid,
        "type": spec.type.value,
        "state": "ENABLED" if spec.enabled else "DISABLED",
        "status": place.status.value,
        "statusReason": "ComputeEnvironment Healthy",
        "serviceRole": f"arn:{account.partition}:iam::{account.number}:role/aws-service-role/batch.amazonaws.com/AWSServiceRoleForBatch",
        "updatePolicy": {"terminateJobsOnUpdate": False, "jobExecutionTimeoutMinutes": 30},
        "containerOrchestrationType": "ECS",
        "tags": dict(service.tags("compute-environment", spec.name, dict)),
        **told,
    }
    if spec.managed:
        found["computeResources"] = resources_detail(place, resources)
    else:
        found["unmanagedvCpus"] = -(-shared_vcpus_milli(spec) // 1000)
    return found


def resources_detail(place: EnvironmentState, told: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as they are, and what else AWS's API was told. Of Fargate there is no more than the maximum."""
    spec = place.spec
    kind = resource_type(spec, told)
    most = -(-spec.total().vcpus_milli // 1000)
    found: dict[str, Any] = {"subnets": [], "securityGroupIds": [], **told, "type": kind, "maxvCpus": most}
    if family(kind) == "FARGATE":
        return found
    return {
        "minvCpus": spec.min_vcpus_milli // 1000,
        "desiredvCpus": -(-desired_milli(place) // 1000),
        "instanceTypes": ["optimal"],
        "tags": {},
        **found,
    }
