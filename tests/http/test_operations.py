"""Every operation of AWS Batch, as botocore's own model of the service has it: served, or refused in so many words (aws-batch.md §14.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from flowbatch.http.operations import refused, table
from tests.http.rig import a_server

pytestmark = pytest.mark.slow
ARN = "arn:aws:batch:us-east-1:000000000000"
JOB = "00000000-0000-4000-8000-000000000000"
NAMED = {  # what there is, or what has a form
    "jobQueue": "default", "computeEnvironment": "default", "jobDefinition": "hello:1", "consumableResource": "licence",
    "resourceArn": f"{ARN}:job-queue/default", "arn": f"{ARN}:scheduling-policy/even", "jobId": JOB, "job": JOB,
}  # fmt: skip


def model() -> Any:
    return boto3.client("batch", region_name="us-east-1").meta.service_model


def least(shape: Shape, name: str = "") -> Any:
    """The smallest input that boto3 lets through: what is required, the first of each enum."""
    if isinstance(shape, StructureShape):
        return {key: least(shape.members[key], key) for key in shape.required_members}
    if isinstance(shape, ListShape):
        return [least(shape.member, name.removesuffix("s"))]
    if isinstance(shape, MapShape):
        return {"key": least(shape.value)}
    if getattr(shape, "enum", None):
        return shape.enum[0]
    return {"integer": 1, "long": 1, "boolean": True, "double": 1.0, "float": 1.0}.get(
        shape.type_name, NAMED.get(name, "x1")
    )


def test_every_operation_has_its_own_path() -> None:
    """The method and the path are the model's; what the model does not have, we do not have."""
    service = model()
    wanted = {}
    for name in service.operation_names:
        http = service.operation_model(name).http
        wanted[http["method"], http["requestUri"].partition("{")[0]] = name
    ours = {key: route.name for key, route in {**table.routes(), **table.prefixed()}.items()}
    assert ours == wanted
    assert len(ours) == 48


async def test_every_operation_is_served_or_says_that_it_is_of_sagemaker(tmp_path: Path) -> None:
    """With the least that boto3 lets through, by the administrator: an answer as the model has it, or AWS's ClientException."""
    async with a_server(tmp_path) as rig:
        await rig.define("hello")
        batch = rig.client()
        await rig.call(batch.create_consumable_resource, consumableResourceName="licence", totalQuantity=1)
        await rig.call(batch.create_scheduling_policy, name="even")
        served, refusals = set(), {}
        service = model()
        for name in sorted(
            service.operation_names, key=lambda each: (each.startswith("De") and "Describe" not in each, each)
        ):
            operation: OperationModel = service.operation_model(name)
            given = least(operation.input_shape)
            try:
                await rig.call(getattr(batch, xform_name(name)), **given)
            except ClientError as error:
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                refusals[name] = f"{code} {status} {error.response['Error']['Message']}"
            else:
                served.add(name)
        of_sagemaker = {name for name, said in refusals.items() if f"{name} is of SageMaker: " in said}
        assert of_sagemaker == set(refused.SAGEMAKER)
        assert {said[:19] for said in refusals.values()} == {"ClientException 400"}
        assert {name: said.partition("Exception : ")[2].partition(", RequestId")[0] for name, said in refusals.items()
                if name not in of_sagemaker} == {
            "CreateComputeEnvironment": "computeResources is required for MANAGED.",
            "CreateJobQueue": "computeEnvironmentOrder: 1 to 3 are possible, not 0",
            "DeleteComputeEnvironment": "Cannot delete, environment default is ENABLED: disable it first",
            "DeleteJobQueue": "Cannot delete, queue default is ENABLED: disable it first",
            "RegisterJobDefinition": "a job definition of type container has containerProperties or ecsProperties or "
            "eksProperties, and there is none",
            "ListJobs": "Exactly one of jobQueue, arrayJobId and multiNodeJobId is needed",
        }  # fmt: skip
        assert len(served) + len(refusals) == 48


async def test_the_examples_of_aws_are_taken(tmp_path: Path) -> None:
    """Those of the service's own model: they make what the later ones use, and what they ask of others' things finds nothing."""
    examples = botocore.session.get_session().get_component("data_loader").load_service_model("batch", "examples-1")
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        taken = set()
        for name, each in sorted(examples["examples"].items()):
            if (
                name.startswith(("Cancel", "Create", "Describe", "List", "Register", "Terminate"))
                and "Tags" not in name
            ):
                for example in each:
                    await rig.call(getattr(batch, xform_name(name)), **example["input"])
                taken.add(name)
        assert {"CreateComputeEnvironment", "CreateJobQueue", "RegisterJobDefinition", "ListJobs"} <= taken
        state = rig.running.service.state
        assert any(place.spec.spot for place in state.environments.values())
        assert any(len(queue.spec.environments) > 1 for queue in state.queues.values())
