"""computeResources of a MANAGED compute environment: its shapes, and what does not go together (aws-batch.md §10.1, §10.2)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.shapes import Shape, Tags

VCPUS_MAX: Final = 1_000_000
SIZES: Final = frozenset({"minvCpus", "maxvCpus", "desiredvCpus"})  # which the environment itself has
NOT_FARGATE: Final = (
    "minvCpus", "desiredvCpus", "instanceTypes", "allocationStrategy", "tags", "ec2KeyPair", "ec2Configuration", "imageId",
    "instanceRole", "placementGroup", "launchTemplate", "bidPercentage", "spotIamFleetRole", "scalingPolicy",
)  # fmt: skip


def upper(value: object) -> object:
    """AWS takes types in any case and keeps them in upper case."""
    return value.upper() if isinstance(value, str) else value


Type = Annotated[
    Literal["EC2", "SPOT", "FARGATE", "FARGATE_SPOT", "ECS_MANAGED_INSTANCES"], BeforeValidator(upper)
]  # fmt: skip
Vcpus = Annotated[int, Field(ge=0, le=VCPUS_MAX)]
Strategy = Literal[
    "BEST_FIT", "BEST_FIT_PROGRESSIVE", "BEST_FIT_PROGRESSIVE_ORDERED", "SPOT_CAPACITY_OPTIMIZED",
    "SPOT_PRICE_CAPACITY_OPTIMIZED", "SPOT_CAPACITY_OPTIMIZED_PRIORITIZED",
]  # fmt: skip
UserData = Literal["EKS_BOOTSTRAP_SH", "EKS_NODEADM"]
Image = Annotated[str, Field(min_length=1, max_length=256)]


def family(kind: str) -> str:
    """Those between which an environment may change, and which a queue does not mix."""
    return kind.removesuffix("_SPOT") if kind != "SPOT" else "EC2"


class LaunchTemplateOverride(Shape):
    launchTemplateId: str | None = None
    launchTemplateName: str | None = None
    version: str | None = None
    targetInstanceTypes: list[str] | None = None
    userdataType: UserData | None = None


class LaunchTemplate(Shape):
    launchTemplateId: str | None = None
    launchTemplateName: str | None = None
    version: str | None = None
    overrides: Annotated[list[LaunchTemplateOverride], Field(max_length=10)] | None = None
    userdataType: UserData | None = None


class Ec2Configuration(Shape):
    imageType: Image
    imageIdOverride: Image | None = None
    batchImageStatus: str | None = None
    imageKubernetesVersion: Image | None = None


class ScalingPolicy(Shape):
    """0 takes a delay away; else 20 minutes to a week."""

    minScaleDownDelayMinutes: Annotated[int, Field(ge=0, le=10_080)] | None = None


class Resources(Shape):
    """What may be given at any time."""

    minvCpus: Vcpus | None = None
    desiredvCpus: Vcpus | None = None
    allocationStrategy: Strategy | None = None
    instanceTypes: list[str] | None = None
    imageId: str | None = None
    subnets: list[str] | None = None
    securityGroupIds: list[str] | None = None
    ec2KeyPair: str | None = None
    instanceRole: str | None = None
    tags: Tags | None = None
    placementGroup: str | None = None
    bidPercentage: Annotated[int, Field(ge=0, le=100)] | None = None
    launchTemplate: LaunchTemplate | None = None
    ec2Configuration: Annotated[list[Ec2Configuration], Field(max_length=2)] | None = None
    scalingPolicy: ScalingPolicy | None = None
    managedInstancesProvider: dict[str, Any] | None = None
    capacityTags: Tags | None = None

    @property
    def scale_down_ms(self) -> int | None:
        minutes = None if self.scalingPolicy is None else self.scalingPolicy.minScaleDownDelayMinutes
        if minutes and minutes < 20:
            raise ClientFailure(
                f"computeResources.scalingPolicy.minScaleDownDelayMinutes: 20 to 10080, or 0, not {minutes}"
            )
        return None if minutes is None else minutes * 60_000

    def judge_family(self, kind: str) -> None:
        """Raises ClientFailure, in AWS's words."""
        if family(kind) == "FARGATE":
            for name in NOT_FARGATE:
                if getattr(self, name, None) is not None:
                    raise ClientFailure(f"{name} is not applicable for Fargate.")

    def kept(self) -> dict[str, Any]:
        """What is shown again as it was given."""
        return self.model_dump(exclude_none=True, exclude={"updateToLatestImageVersion", *SIZES})


class ComputeResources(Resources):
    type: Type
    maxvCpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)]
    spotIamFleetRole: str | None = None

    def judge(self, *, strict: bool) -> None:
        """Raises ClientFailure."""
        self.judge_family(self.type)
        if family(self.type) == "EC2" and strict:
            if self.minvCpus is None:
                raise ClientFailure("Resource minvCpus is required.")
            if self.instanceRole is None:
                raise ClientFailure("Instance role is required.")
        if (self.minvCpus or 0) > self.maxvCpus:
            raise ClientFailure(
                f"computeResources.minvCpus: {self.minvCpus} is more than maxvCpus, which is {self.maxvCpus}"
            )


class ComputeResourcesUpdate(Resources):
    type: Type | None = None
    maxvCpus: Annotated[int, Field(ge=1, le=VCPUS_MAX)] | None = None
    updateToLatestImageVersion: bool | None = None

    def judge(self, before: str) -> None:
        """`before`: its type until now. Raises ClientFailure."""
        self.judge_family(self.type or before)
        if self.type is not None and family(self.type) != family(before):
            raise ClientFailure(
                f"computeResources.type: {before} cannot become {self.type}; create another environment"
            )
        if self.allocationStrategy == "BEST_FIT":
            raise ClientFailure("computeResources.allocationStrategy: BEST_FIT cannot be given in an update")
