"""Environments of a workflow file or of the settings, their nodes, and the host that they share."""

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from flowbatch.model.places import HERE
from flowbatch.spec.endpoints import endpoint_of
from flowbatch.spec.queue_schema import State
from flowbatch.spec.scalars import shown
from flowbatch.spec.schema_parts import Strict
from flowbatch.spec.values import DurationMs, MinVcpusMilli, Name, SizeMib, VcpusMilli


def _backend(value: object) -> str:
    if value not in ("local", "process", "docker", "fake"):
        raise ValueError(f"must be local, process, docker or fake, found {shown(value)}")
    return str(value)


def _type(value: object) -> str:
    """AWS takes either case, and so do we."""
    if isinstance(value, str) and value.upper() in ("MANAGED", "UNMANAGED"):
        return value.upper()
    raise ValueError(f"must be managed or unmanaged, found {shown(value)}")


Backend = Annotated[str, PlainValidator(_backend, json_schema_input_type=Literal["local", "process", "docker", "fake"])]
Type = Annotated[
    str, PlainValidator(_type, json_schema_input_type=Literal["managed", "unmanaged", "MANAGED", "UNMANAGED"])
]
Endpoint = Annotated[str, PlainValidator(endpoint_of, json_schema_input_type=str)]


class NodeModel(Strict):
    """A piece of capacity of an unmanaged environment; a task must fit one node."""

    vcpus: VcpusMilli = Field(description="vCPUs it offers.")
    memory: SizeMib | None = Field(
        None, description="Memory it offers; 85 % of this machine's unless given, which it must be elsewhere."
    )
    gpus: int = Field(0, ge=0, le=1024, description="GPUs it offers; none unless given.")
    endpoint: Endpoint = Field(
        HERE,
        description="Where it is: local, which is this machine, or another Docker Engine: unix:///path, tcp://host:2376, "
        "ssh://user@host, context:NAME.",
    )


class EnvironmentModel(Strict):
    """A compute environment: where jobs run, and how much of it there is."""

    backend: Backend = Field("local", description="local (each job by its kind), process, docker, or fake.")
    type: Type = Field("MANAGED", description="managed: up to max_vcpus. unmanaged: what its nodes have.")
    vcpus: VcpusMilli | None = Field(None, description="The most vCPUs it offers; this machine's unless given.")
    max_vcpus: VcpusMilli | None = Field(None, description="The long spelling of `vcpus`.")
    min_vcpus: MinVcpusMilli | None = Field(
        None, description="vCPUs kept for it, idle or not, from the others of this host."
    )
    memory: SizeMib | None = Field(None, description="Memory it offers; 85 % of this machine's unless given.")
    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs it offers; none unless given.")
    cpu: Literal["shares", "quota"] = Field(
        "shares", description="vCPUs of containers as a weight, as AWS has it on EC2, or as a cap, as on Fargate."
    )
    spot: bool = Field(False, description="It runs on what on-demand environments leave, and gives it back to them.")
    notice: DurationMs | None = Field(
        None, description="Of Spot: between TERM and KILL when it gives back; 2m unless given."
    )
    scale_down: DurationMs | None = Field(
        None, description="How long desiredvCpus stays up after demand has fallen; 60s unless given."
    )
    state: State | None = Field(None, description="disabled: nothing new starts here.")
    nodes: dict[Name, NodeModel] | None = Field(None, description="Of an unmanaged environment: what there is.")


class HostModel(Strict):
    """What everything that runs on this machine may hold together."""

    vcpus: VcpusMilli | None = Field(None, description="vCPUs; this machine's unless given.")
    memory: SizeMib | None = Field(None, description="Memory; 85 % of this machine's unless given.")
    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs; those that the NVIDIA driver lists unless given.")
