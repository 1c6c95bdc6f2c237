"""What AWS nests in containerProperties and containerOverrides, and the few mappings that the short spelling has."""

from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, Field

from flowbatch.spec.container_values import (
    DevicePath,
    Driver,
    HostPath,
    Image,
    Limit,
    Shm,
    Swap,
    Swappiness,
    Target,
    UlimitName,
    User,
)
from flowbatch.spec.schema_parts import PairModel, ResourceModel, SecretPairModel, Strict
from flowbatch.spec.values import Command, Text

OTHERWISE: Final = "cannot be overridden, as in AWS; give it in containerProperties, or in the short spelling"
MULTI_NODE: Final = "it belongs to multi-node jobs, which come with a later release"
FILE_SYSTEMS: Final = "file systems of AWS come with a later release; mount a folder of this machine"
Ignored = Annotated[object, Field(description="Accepted as AWS has it; it means nothing on this machine.")]
IGNORED: Final = (
    "job_role_arn", "execution_role_arn", "network_configuration", "fargate_platform_configuration", "ephemeral_storage",
    "runtime_platform", "repository_credentials", "enable_execute_command",
)  # fmt: skip


def _some(value: object) -> object:
    """AWS writes an empty list where nothing is said."""
    return None if value == [] else value


OptionalCommand = Annotated[Command | None, BeforeValidator(_some, json_schema_input_type=list[Text])]


class LogModel(Strict):
    driver: Driver = Field(description="awslogs (flowbatch's own log store), json-file, local, journald, …")
    options: dict[str, Text] | None = Field(None, description="As the driver has them.")


class AwsLogModel(Strict):
    LATER: ClassVar[dict[str, str]] = {"secretOptions": "secrets of a log driver come with a later release"}

    driver: Driver = Field(alias="logDriver", description="awslogs is flowbatch's own log store.")
    options: dict[str, Text] | None = Field(None, description="As the driver has them.")


class AwsUlimitModel(Strict):
    name: UlimitName
    soft: Limit = Field(alias="softLimit")
    hard: Limit = Field(alias="hardLimit")


class AwsHostModel(Strict):
    source: HostPath | None = Field(None, alias="sourcePath", description="A folder or file of this machine.")


class AwsVolumeModel(Strict):
    LATER: ClassVar[dict[str, str]] = dict.fromkeys(
        ("efsVolumeConfiguration", "s3filesVolumeConfiguration"), FILE_SYSTEMS
    )

    name: str = Field(min_length=1, max_length=255, description="What mountPoints call it.")
    host: AwsHostModel | None = Field(None, description="Without a path: a volume of the run.")


class AwsMountModel(Strict):
    source: str = Field(alias="sourceVolume", min_length=1, description="The name of one of `volumes`.")
    target: Target = Field(alias="containerPath")
    readonly: bool = Field(False, alias="readOnly")


class AwsTmpfsModel(Strict):
    target: Target = Field(alias="containerPath")
    size: int = Field(ge=1, le=1 << 31, description="In MiB.")
    options: list[str] | None = Field(None, alias="mountOptions")


class AwsDeviceModel(Strict):
    host: DevicePath = Field(alias="hostPath")
    target: Target | None = Field(None, alias="containerPath", description="The same path unless given.")
    permissions: list[Literal["READ", "WRITE", "MKNOD"]] | None = Field(None, description="All unless given.")


class LinuxModel(Strict):
    """linuxParameters"""

    init: bool | None = Field(None, alias="initProcessEnabled", description="AWS's `init`.")
    shm: Shm | None = Field(None, alias="sharedMemorySize", description="AWS's `shm`, in MiB.")
    tmpfs: list[AwsTmpfsModel] | None = None
    swap: Swap | None = Field(None, alias="maxSwap", description="AWS's `swap`, in MiB.")
    swappiness: Swappiness | None = None
    devices: list[AwsDeviceModel] | None = None


class OverridesModel(Strict):
    """containerOverrides, as SubmitJob has them."""

    LATER: ClassVar[dict[str, str]] = {"instanceType": MULTI_NODE}
    REFUSED: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            "image", "user", "privileged", "readonlyRootFilesystem", "ulimits", "volumes", "mountPoints", "secrets",
            "linuxParameters", "logConfiguration",
        ),
        OTHERWISE,
    )  # fmt: skip

    command: OptionalCommand = Field(None, description="Instead of the definition's or the image's; empty keeps that.")
    environment: list[PairModel] | None = None
    resource_requirements: list[ResourceModel] | None = Field(None, alias="resourceRequirements")
    vcpus: int | None = Field(None, ge=1)
    memory: int | None = Field(None, ge=1)


class PropertiesModel(OverridesModel):
    """containerProperties, as RegisterJobDefinition has them."""

    REFUSED: ClassVar[dict[str, str]] = {}

    image: Image | None = Field(None, description="As a registry has it; pulled where it is missing.")
    user: User | None = None
    privileged: bool | None = None
    readonly: bool | None = Field(None, alias="readonlyRootFilesystem", description="AWS's `readonly`.")
    ulimits: list[AwsUlimitModel] | None = None
    volumes: list[AwsVolumeModel] | None = Field(None, description="What mountPoints mount.")
    mount_points: list[AwsMountModel] | None = Field(None, alias="mountPoints", description="Where, of `volumes`.")
    linux_parameters: LinuxModel | None = Field(None, alias="linuxParameters")
    log_configuration: AwsLogModel | None = Field(None, alias="logConfiguration", description="AWS's `log`.")
    secrets: list[SecretPairModel] | None = None
    job_role_arn: Ignored = Field(None, alias="jobRoleArn")
    execution_role_arn: Ignored = Field(None, alias="executionRoleArn")
    network_configuration: Ignored = Field(None, alias="networkConfiguration")
    fargate_platform_configuration: Ignored = Field(None, alias="fargatePlatformConfiguration")
    ephemeral_storage: Ignored = Field(None, alias="ephemeralStorage")
    runtime_platform: Ignored = Field(None, alias="runtimePlatform")
    repository_credentials: Ignored = Field(None, alias="repositoryCredentials")
    enable_execute_command: Ignored = Field(None, alias="enableExecuteCommand")
