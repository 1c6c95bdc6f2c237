"""What runs, as pydantic models: the program, what it needs and what it runs in. A job has these keys, and so do a node group and
a container of several."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from flowbatch.spec.container_schema import LogModel, PropertiesModel
from flowbatch.spec.container_values import (
    DeviceText,
    Image,
    Limits,
    Network,
    Shm,
    Swap,
    TmpfsText,
    UlimitName,
    User,
    Volume,
)
from flowbatch.spec.deferred import Lazy
from flowbatch.spec.schema_parts import FakeModel, PairModel, ResourceModel, SecretPairModel, Strict
from flowbatch.spec.values import Command, DurationMs, EnvName, Listed, Name, Script, SizeMib, Text, VcpusMilli


def _secrets(value: object) -> object:
    """AWS's list of {name, valueFrom} says the same as the mapping VARIABLE: name."""
    if not isinstance(value, list):
        return value
    secrets: dict[str, object] = {}
    for item in value:
        name = item.get("name") if isinstance(item, dict) and set(item) == {"name", "valueFrom"} else None
        if not isinstance(name, str):
            raise ValueError("each item is {name: VARIABLE, valueFrom: name of a secret}")
        if name in secrets:
            raise ValueError(f"{name!r} is given twice")
        secrets[name] = item["valueFrom"]
    return secrets


Secrets = Annotated[
    dict[EnvName, Name],
    BeforeValidator(_secrets, json_schema_input_type=dict[EnvName, Name] | list[SecretPairModel]),
]


class ProgramModel(Strict):
    """What is run, whoever asks for it."""

    vcpus: VcpusMilli | None = Field(None, description="vCPUs it reserves; 1 unless given, fractions allowed.")
    memory: SizeMib | None = Field(None, description="Memory it reserves and may use: MiB, or 3GiB. Omitted: no limit.")
    gpus: int | None = Field(None, ge=0, le=1024, description="GPUs it reserves.")
    command: Command | None = Field(None, description="The program and its arguments, run as they stand.")
    script: Script | None = Field(None, description="Lines for /bin/sh -ec, instead of `command`.")
    env: dict[EnvName, Text] | None = Field(None, description="Environment variables.")
    secrets: Secrets | None = Field(
        None, description="Environment variables whose values are secrets: {VARIABLE: name of a secret}."
    )
    user: User | None = Field(None, description="Run as this user; a process needs root for it.")
    workdir: str | None = Field(
        None, min_length=1, description="The folder it runs in; the workflow's own, or the image's, unless given."
    )
    stop_grace: DurationMs | None = Field(None, description="Between TERM and KILL; 30s unless given.")
    image: Image | None = Field(None, description="Runs it as a container of this image, else it is a process.")
    pull: Literal["missing", "always", "never"] | None = Field(
        None, description="When the image is pulled: missing (unless given), always, never."
    )
    volumes: list[Volume] | None = Field(
        None, description="Mounts: ./folder:/path, /folder:/path:ro, or a volume of the run as name:/path."
    )
    tmpfs: Listed[TmpfsText] | None = Field(None, description="Memory mounted as a folder: /scratch:size=64MiB,noexec.")
    shm: Shm | None = Field(None, description="The size of /dev/shm: MiB, or 1GiB.")
    swap: Swap | None = Field(None, description="Swap beyond `memory`: MiB, or 1GiB; none unless given.")
    ulimits: dict[UlimitName, Limits] | None = Field(
        None, description="Limits of its processes: {nofile: 1024, core: 0:-1, nproc: {soft: 10, hard: 20}}."
    )
    devices: list[DeviceText] | None = Field(
        None, description="Devices of this machine: /dev/fuse, /dev/sdb:/dev/disk:r."
    )
    readonly: bool | None = Field(None, description="Its root file system cannot be written.")
    network: Network | None = Field(None, description="bridge (unless given), none, or host.")
    privileged: bool | None = Field(None, description="As root on this machine; needs to be allowed.")
    init: bool | None = Field(None, description="A small init as its first process; true unless given.")
    cpu: Literal["shares", "quota"] | None = Field(
        None, description="vCPUs as a weight (shares) or a cap (quota); the environment's unless given."
    )
    log: Lazy[LogModel] | None = Field(
        None, description="The log driver and its options; flowbatch's own store unless given."
    )
    fake: Lazy[FakeModel] | None = Field(
        None, alias="x-fake", description="A script for the fake backend (--dry-run, tests)."
    )
    environment: list[Lazy[PairModel]] | None = Field(None, description="AWS's spelling of `env`: [{name, value}].")
    resource_requirements: list[Lazy[ResourceModel]] | None = Field(
        None, alias="resourceRequirements", description="AWS's vcpus, memory, gpus: [{type: MEMORY, value: '2048'}]."
    )
    container_properties: Lazy[PropertiesModel] | None = Field(
        None, alias="containerProperties", description="As in RegisterJobDefinition."
    )
    stop_timeout: int | None = Field(None, alias="stopTimeout", ge=1, description="AWS's `stop_grace`, in seconds.")
