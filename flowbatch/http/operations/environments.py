"""CreateComputeEnvironment, UpdateComputeEnvironment, DeleteComputeEnvironment (aws-batch.md §10).

On one machine the vCPUs, the kind of capacity and the scale-down delay mean something; instance types, subnets, roles and the like are
kept as they were given and shown again (§10.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import from_json, to_json

from flowbatch.http.calls import Answer, Call, context_of_request
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.compute_resources import ComputeResources, ComputeResourcesUpdate, family, upper
from flowbatch.http.operations.shapes import Name, Shape, Tags, read
from flowbatch.model.container import Cpu
from flowbatch.model.jobspec import Environment
from flowbatch.model.place_commands import CreateEnvironment, DeleteEnvironment, EnvironmentChange, UpdateEnvironment
from flowbatch.model.places import SCALE_DOWN_MS, EnvironmentType, is_of_run
from flowbatch.model.resources import Resources
from flowbatch.settings import host

KIND: Final = "compute-environment"
PLACES_MAX: Final = 50  # of environments, and of queues (aws-batch.md §15)
State = Literal["ENABLED", "DISABLED"]
Vcpus = Annotated[int, Field(ge=0, le=1_000_000)]
KEPT: Final = ("serviceRole", "context", "ecsSettings", "updatePolicy")


class EcsSettings(Shape):
    containerInsights: Literal["ENABLED", "ENHANCED", "DISABLED"] | None = None


class CreateInput(Shape):
    computeEnvironmentName: Name
    type: Annotated[Literal["MANAGED", "UNMANAGED"], BeforeValidator(upper)]
    state: State | None = None
    unmanagedvCpus: Vcpus | None = None
    computeResources: ComputeResources | None = None
    serviceRole: str | None = None
    tags: Tags | None = None
    eksConfiguration: dict[str, Any] | None = None
    context: str | None = None
    ecsSettings: EcsSettings | None = None


class UpdatePolicy(Shape):
    terminateJobsOnUpdate: bool | None = None
    jobExecutionTimeoutMinutes: Annotated[int, Field(ge=1, le=7200)] | None = None


class UpdateInput(Shape):
    computeEnvironment: Annotated[str, Field(min_length=1)]
    state: State | None = None
    unmanagedvCpus: Vcpus | None = None
    computeResources: ComputeResourcesUpdate | None = None
    serviceRole: str | None = None
    updatePolicy: UpdatePolicy | None = None
    eksConfiguration: dict[str, Any] | None = None
    context: str | None = None
    ecsSettings: EcsSettings | None = None


class OneInput(Shape):
    computeEnvironment: Annotated[str, Field(min_length=1)]


async def create_compute_environment(call: Call) -> Answer:
    given = read(CreateInput, call.given)
    name, tags = given.computeEnvironmentName, given.tags or {}
    arn = call.service.account.arn(KIND, name)
    target = call.target(arn, context_of_request(tags))
    call.allow(target)
    if tags:
        call.also("batch:TagResource", target)
    judge(given, strict=call.service.limits.strict)
    bounded(call, sum(not is_of_run(each) for each in call.service.state.environments), "compute environments")
    spec = environment_of(given, call.service.state.host.limit or host())
    resources = given.computeResources
    desired = 1000 * ((resources.desiredvCpus or 0) if resources is not None else 0)
    await call.ask(lambda ticket: CreateEnvironment(ticket, spec, desired, tuple(tags.items())))
    return {"computeEnvironmentName": name, "computeEnvironmentArn": arn}


async def update_compute_environment(call: Call) -> Answer:
    given = read(UpdateInput, call.given)
    spec = allowed(call, given.computeEnvironment)
    if given.eksConfiguration is not None:
        raise ClientFailure("eksConfiguration: compute environments here are of ECS, not of EKS")
    resources, change = given.computeResources, EnvironmentChange(
        enabled=None if given.state is None else given.state == "ENABLED",
        share_vcpus_milli=milli(given.unmanagedvCpus),
        aws=told_again(spec, given),
    )  # fmt: skip
    if resources is not None:
        if not spec.managed:
            raise ClientFailure(f"computeResources is not applicable for UNMANAGED: {spec.name} has registered nodes")
        change = with_resources(spec, change, resources)
    policy = given.updatePolicy or UpdatePolicy()
    minutes = policy.jobExecutionTimeoutMinutes or 30
    now = policy.terminateJobsOnUpdate is True
    await call.ask(lambda ticket: UpdateEnvironment(ticket, spec.name, change, now, minutes))
    return {
        "computeEnvironmentName": spec.name,
        "computeEnvironmentArn": call.service.account.arn(KIND, spec.name),
    }


async def delete_compute_environment(call: Call) -> Answer:
    """It must be DISABLED and detached from all queues; it goes once what runs there has ended."""
    spec = allowed(call, read(OneInput, call.given).computeEnvironment)
    await call.ask(lambda ticket: DeleteEnvironment(ticket, spec.name))
    return {}


def allowed(call: Call, text: str) -> Environment:
    """Raises AccessDenied; ClientFailure where there is none."""
    service = call.service
    name = service.account.name_of(KIND, text)
    call.allow(call.target(service.account.arn(KIND, name), call.tags_of(KIND, name, dict)))
    found = service.state.environments.get(name)
    if found is None or is_of_run(name):
        raise ClientFailure(f"ComputeEnvironment {name} not found")
    return found.spec


def bounded(call: Call, count: int, what: str) -> None:
    if call.service.limits.strict and count >= PLACES_MAX:
        raise ClientFailure(f"Limit exceeded: {PLACES_MAX} {what} exist; delete one, or serve with --no-strict")


def judge(given: CreateInput, *, strict: bool) -> None:
    """What AWS looks at beyond the shapes. Raises ClientFailure."""
    resources = given.computeResources
    if given.eksConfiguration is not None:
        raise ClientFailure("eksConfiguration: pods are not supported here; leave it out, for an environment of ECS")
    if given.type == "UNMANAGED":
        if resources is not None:
            raise ClientFailure("computeResources is not applicable for UNMANAGED: register nodes instead")
        if given.serviceRole is None and strict:
            raise ClientFailure("Service role is required for UNMANAGED.")
        return
    if given.unmanagedvCpus is not None:
        raise ClientFailure("unmanagedvCpus is not applicable for MANAGED.")
    if resources is None:
        raise ClientFailure("computeResources is required for MANAGED.")
    resources.judge(strict=strict)


def environment_of(given: CreateInput, room: Resources) -> Environment:
    """It offers the vCPUs that were asked for, and the memory and the GPUs of the machine (`room`)."""
    resources = given.computeResources
    told = {key: value for key, value in given.model_dump(exclude_none=True).items() if key in KEPT}
    if resources is None:
        return Environment(
            given.computeEnvironmentName, "local", Resources(), given.state != "DISABLED", given.computeEnvironmentName,
            type=EnvironmentType.UNMANAGED, share_vcpus_milli=milli(given.unmanagedvCpus), aws=to_json(told).decode(),
        )  # fmt: skip
    spot = resources.type.endswith("SPOT")
    told["computeResources"] = with_minimum(resources.kept(), spot, resources.minvCpus)
    return Environment(
        given.computeEnvironmentName,
        "local",
        room._replace(vcpus_milli=resources.maxvCpus * 1000),
        given.state != "DISABLED",
        given.computeEnvironmentName,
        Cpu.QUOTA if family(resources.type) == "FARGATE" else Cpu.SHARES,
        spot=spot,
        min_vcpus_milli=0 if spot else 1000 * (resources.minvCpus or 0),  # Spot keeps nothing: it has what others leave
        scale_down_ms=resources.scale_down_ms or SCALE_DOWN_MS,
        aws=to_json(told).decode(),
    )


def with_resources(spec: Environment, change: EnvironmentChange, given: ComputeResourcesUpdate) -> EnvironmentChange:
    """Raises ClientFailure."""
    from msgspec.structs import replace

    given.judge(resource_type(spec, told_of(spec).get("computeResources", {})))
    spot = spec.spot if given.type is None else given.type.endswith("SPOT")
    return replace(
        change,
        min_vcpus_milli=0 if spot else milli(given.minvCpus),
        max_vcpus_milli=milli(given.maxvCpus),
        desired_vcpus_milli=milli(given.desiredvCpus),
        scale_down_ms=given.scale_down_ms,
        spot=None if spot == spec.spot else spot,
    )


def milli(vcpus: int | None) -> int | None:
    return None if vcpus is None else vcpus * 1000


def told_again(spec: Environment, given: UpdateInput) -> str | None:
    """What is kept of the environment beside what it is, with what this update says; None where it says nothing of the kind."""
    said = {key: value for key, value in given.model_dump(exclude_none=True).items() if key in KEPT}
    resources = given.computeResources
    if not said and resources is None:
        return None
    before = told_of(spec)
    merged = {**before, **said}
    if resources is not None:
        own = before.get("computeResources", {})
        spot = spec.spot if resources.type is None else resources.type.endswith("SPOT")
        known = own.get("minvCpus", spec.min_vcpus_milli // 1000)
        least = known if resources.minvCpus is None else resources.minvCpus
        merged["computeResources"] = with_minimum({**own, **resources.kept()}, spot, least)
    return to_json(merged).decode()


def with_minimum(told: dict[str, Any], spot: bool, least: int | None) -> dict[str, Any]:
    """Spot keeps nothing here, so that its minimum is only told again."""
    found = {key: value for key, value in told.items() if key != "minvCpus"}
    return {**found, "minvCpus": least} if spot and least else found


def told_of(spec: Environment) -> dict[str, Any]:
    """What AWS's API was told of it."""
    found: dict[str, Any] = from_json(spec.aws) if spec.aws else {}
    return found


def resource_type(spec: Environment, told: Mapping[str, Any]) -> str:
    """computeResources.type: as it was given, but for a change between on-demand and Spot since."""
    given = str(told.get("type", "EC2"))
    if given.endswith("SPOT") == spec.spot:
        return given
    if family(given) == "FARGATE":
        return "FARGATE_SPOT" if spec.spot else "FARGATE"
    return "SPOT" if spec.spot else "EC2"
