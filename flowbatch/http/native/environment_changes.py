"""Changes of compute environments and their nodes over the native API: the verbs of `flowbatch environments`. Who asks may also call
the operation of AWS that does it; for a node, of which AWS Batch knows nothing, the one that updates its environment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.changing import asked_of_engine
from flowbatch.http.native.queue_changes import Deletion
from flowbatch.http.native.routes import asked, variable
from flowbatch.http.operations.environments import KIND, bounded
from flowbatch.http.operations.shapes import Name, Natural, Shape, Whole
from flowbatch.http.policies import Target
from flowbatch.model.places import HERE, is_of_run
from flowbatch.settings import machine

Backend = Literal["local", "process", "docker"]
Cpu = Literal["shares", "quota"]
Word = Annotated[str, Field(max_length=64)]
Amount = int | float | Word
UPDATE = "batch:UpdateComputeEnvironment"


class EnvironmentWords(Shape):
    """As the settings say it."""

    max_vcpus: Amount | None = Field(None, description="The most vCPUs it offers; the server's machine's unless given.")
    vcpus: Amount | None = Field(None, description="The short spelling of `max_vcpus`.")
    min_vcpus: Amount | None = Field(None, description="vCPUs kept for it, idle or not.")
    memory: Amount | None = Field(None, description="MiB, or with a unit, as in 48GiB.")
    gpus: Amount | None = None
    backend: Backend | None = None
    cpu: Cpu | None = None
    spot: bool | None = None
    notice: Amount | None = Field(None, description="Of Spot: between TERM and KILL, as in 2m.")
    scale_down: Amount | None = Field(None, description="How long desiredvCpus stays up after demand has fallen.")
    type: Literal["managed", "unmanaged"] | None = None


class NewEnvironment(Shape):
    environment: Name
    said: EnvironmentWords


class EnvironmentUpdate(Shape):
    """What is left out stays."""

    enabled: bool | None = None
    spot: bool | None = None
    backend: Backend | None = None
    cpu: Cpu | None = None
    min_vcpus_milli: Whole | None = None
    max_vcpus_milli: Whole | None = None
    desired_vcpus_milli: Whole | None = None
    memory_mib: Whole | None = None
    gpus: Whole | None = None
    scale_down_ms: Whole | None = None
    notice_ms: Whole | None = None
    terminate_jobs: bool = Field(False, description="Stop now what runs on what is replaced: a failed attempt.")
    job_timeout_minutes: Annotated[int, Field(ge=1, le=7200)] | None = Field(
        None, description="How long it may go on instead; 30 unless given."
    )


class NodeWords(Shape):
    vcpus_milli: Natural
    memory_mib: Whole | None = Field(None, description="85 % of the server's machine unless given.")
    gpus: Whole = 0
    endpoint: Annotated[str, Field(min_length=1, max_length=1024)] = Field(
        HERE, description="Its Docker Engine, as the server reaches it; the server's machine unless given."
    )


async def create_environment(call: Call) -> Any:
    """Make a compute environment, beside those of the settings. Needs batch:CreateComputeEnvironment, too."""
    given = asked(call, NewEnvironment)
    allow(call, "batch:CreateComputeEnvironment", call.target(call.service.account.arn(KIND, given.environment)))
    bounded(call, sum(not is_of_run(each) for each in call.service.state.environments), "compute environments")
    return await asked_of_engine(call, "create_environment", given.model_dump(exclude_none=True))


async def update_environment(call: Call) -> Any:
    """Enable or disable a compute environment, or change what it has. Needs batch:UpdateComputeEnvironment, too."""
    given = asked(call, EnvironmentUpdate)
    return await changed(call, UPDATE, "update_environment", given.model_dump(exclude_none=True))


async def delete_environment(call: Call) -> Any:
    """Delete a compute environment that is DISABLED and that no queue has. Needs batch:DeleteComputeEnvironment, too."""
    asked(call, Deletion)
    return await changed(call, "batch:DeleteComputeEnvironment", "delete_environment", {})


async def add_node(call: Call) -> Any:
    """Register a node of an unmanaged environment, or another size for it. Needs batch:UpdateComputeEnvironment, too."""
    given = asked(call, NodeWords)
    node = variable(call, "node")
    allow(call, UPDATE, target_of(call))
    memory = given.memory_mib
    if memory is None:
        if given.endpoint != HERE:
            raise ClientFailure(f"memory_mib: how much {node[:128]} offers is needed, for it is elsewhere")
        memory = machine().memory_mib
    arguments = {**given.model_dump(), "memory_mib": memory, "node": node, "environment": variable(call, "environment")}
    return await asked_of_engine(call, "add_node", arguments)


async def drain_node(call: Call) -> Any:
    """Let nothing new start on a node; what runs there ends by itself. Needs batch:UpdateComputeEnvironment, too."""
    asked(call, Deletion)
    return await changed(call, UPDATE, "drain_node", {"node": variable(call, "node")})


async def remove_node(call: Call) -> Any:
    """Take a node away, once nothing runs there. Needs batch:UpdateComputeEnvironment, too."""
    asked(call, Deletion)
    return await changed(call, UPDATE, "remove_node", {"node": variable(call, "node")})


async def changed(call: Call, action: str, verb: str, arguments: dict[str, Any]) -> Any:
    allow(call, action, target_of(call))
    return await asked_of_engine(call, verb, {"environment": variable(call, "environment"), **arguments})


def target_of(call: Call) -> Target:
    name = variable(call, "environment")
    return call.target(call.service.account.arn(KIND, name), call.tags_of(KIND, name, dict))


def allow(call: Call, action: str, environment: Target) -> None:
    """Raises AccessDenied."""
    call.allow(environment)
    call.also(action, environment)
