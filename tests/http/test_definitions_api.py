"""Job definitions, queues, environments and tags, called by boto3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowbatch.http.service import Limits
from tests.http.rig import a_server
from tests.http.test_jobs_api import refused

pytestmark = pytest.mark.slow
BOX: dict[str, Any] = {
    "image": "busybox:1",
    "command": ["echo", "hello"],
    "jobRoleArn": "arn:aws:iam::000000000000:role/some",
    "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "128"}],
}
ARN = "arn:aws:batch:us-east-1:000000000000"


async def test_revisions_count_up_and_are_described(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        for number in (1, 2, 3):
            made = await rig.call(
                batch.register_job_definition,
                jobDefinitionName="blur",
                type="container",
                containerProperties=BOX,
                tags={"n": str(number)},
            )
            assert made["jobDefinitionArn"] == f"{ARN}:job-definition/blur:{number}"
        await rig.call(batch.deregister_job_definition, jobDefinition="blur:3")
        await rig.call(batch.deregister_job_definition, jobDefinition=f"{ARN}:job-definition/blur:3")

        async def revisions(**arguments: Any) -> list[tuple[int, str]]:
            page = await rig.call(batch.describe_job_definitions, **arguments)
            return [(each["revision"], each["status"]) for each in page["jobDefinitions"]]

        assert await revisions(jobDefinitionName="blur") == [(1, "ACTIVE"), (2, "ACTIVE"), (3, "INACTIVE")]
        assert await revisions(jobDefinitionName="blur", status="ACTIVE") == [(1, "ACTIVE"), (2, "ACTIVE")]
        assert await revisions(jobDefinitions=["blur:2", "none:1", "none"]) == [(2, "ACTIVE")]
        assert await revisions() == [(1, "ACTIVE"), (2, "ACTIVE"), (3, "INACTIVE")]
        found = await rig.call(batch.describe_job_definitions, maxResults=2, jobDefinitionName="blur")
        rest = await rig.call(
            batch.describe_job_definitions, maxResults=2, jobDefinitionName="blur", nextToken=found["nextToken"]
        )
        assert [each["revision"] for each in rest["jobDefinitions"]] == [3]
        assert "nextToken" not in rest
        [first] = (await rig.call(batch.describe_job_definitions, jobDefinitions=["blur:1"]))["jobDefinitions"]
        assert {key: first["containerProperties"][key] for key in BOX} == BOX
        assert first["containerProperties"]["volumes"] == []
        assert first["tags"] == {"n": "1"}
        submit = {"jobName": "j", "jobQueue": "default"}
        made = await rig.call(batch.submit_job, jobDefinition="blur", **submit)
        [job] = await rig.until_ended(batch, made["jobId"])
        assert job["jobDefinition"] == f"{ARN}:job-definition/blur:2"
        assert job["container"]["image"] == "busybox:1"
        assert job["tags"] == {}
        text = await refused(rig, batch.submit_job, jobDefinition="blur:3", **submit)
        assert "INACTIVE" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jobDefinitionName": "a b"}, "jobDefinitionName: must have 1 to 128"),
        ({"containerProperties": {**BOX, "memory": -1}}, "memory"),
        ({"containerProperties": {**BOX, "user": "$(id"}}, "User '$(id' does not match regex"),
        (
            {"retryStrategy": {"evaluateOnExit": [{"action": "exit"}]}},
            "RetryAttempts must be provided with retry strategy",
        ),
        ({"retryStrategy": {"attempts": 11}}, "retryStrategy.attempts: must be at most 10"),
        ({"parameters": {"x": "y" * 25000}}, "Job definition size must be less than 24 KiB"),
        ({"tags": {"k" * 129: "v"}}, "1 to 128 characters"),
        ({"type": "multinode"}, "type multinode has nodeProperties, and found containerProperties"),
        (
            {"containerProperties": {"image": "i:1", "resourceRequirements": [{"type": "VCPU", "value": "1"}]}},
            "containerProperties.resourceRequirements: MEMORY is needed",
        ),
        ({"containerProperties": {"image": "i:1", "vcpus": 1, "memory": 3}}, "MEMORY must be at least 4 (MiB)"),
        ({"timeout": {"attemptDurationSeconds": 30}}, "attemptDurationSeconds must be at least 60, and 30 is not"),
        ({"timeout": {"attemptDurationSeconds": 10**12}}, "longer than ten years"),
    ],
)
async def test_what_registering_refuses(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        common: dict[str, Any] = {"jobDefinitionName": "d", "type": "container", "containerProperties": BOX}
        assert said in await refused(rig, batch.register_job_definition, **{**common, **changed})
        assert not rig.running.service.state.definitions


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([["VCPU", "1"]], "ecsProperties.taskProperties[0].containers.resourceRequirements: MEMORY is needed"),
        ([["VCPU", "1"], ["MEMORY", "2"]], "MEMORY must be at least 4 (MiB), and 2 is not"),
        ([["VCPU", "1"], ["MEMORY", "64"]], None),
    ],
)
async def test_a_task_of_several_containers_has_its_sizes(
    tmp_path: Path, sizes: list[list[str]], said: str | None
) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        requirements = [{"type": kind, "value": value} for kind, value in sizes]
        boxes = [
            {"name": "app", "image": "i:1", "resourceRequirements": requirements},
            {"name": "helper", "image": "i:1", "essential": False},
        ]
        given = {
            "jobDefinitionName": "d",
            "type": "container",
            "ecsProperties": {"taskProperties": [{"containers": boxes}]},
        }
        if said is None:
            await rig.call(batch.register_job_definition, **given)
        else:
            assert said in await refused(rig, batch.register_job_definition, **given)


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        (["0:0", "2:3"], "node 1 is in none of them"),
        ([":2"], "node 3 is in none of them"),
        ([":"], None),
        (["0:1", "2:"], None),
        (["0:3", "1:2"], None),
    ],
)
async def test_the_ranges_of_a_multi_node_job_cover_all_of_it(
    tmp_path: Path, ranges: list[str], said: str | None
) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        nodes = {
            "numNodes": 4,
            "mainNode": 0,
            "nodeRangeProperties": [{"targetNodes": each, "container": BOX} for each in ranges],
        }
        given = {"jobDefinitionName": "d", "type": "multinode", "nodeProperties": nodes}
        if said is None:
            await rig.call(batch.register_job_definition, **given)
        else:
            assert said in await refused(rig, batch.register_job_definition, **given)


@pytest.mark.parametrize(
    "changed",
    [
        {"tags": {"a": 1}},
        {"tags": []},
        {"tags": {"a": None}},
        {"type": None},
        {"timeout": 90},
        {"timeout": "90s"},
        {"timeout": {"attemptDurationSeconds": "30s"}},
        {"timeout": {"attemptDurationSeconds": 59.5}},
        {"timeout": {"attemptDurationSeconds": 1e308}},
    ],
)
async def test_what_no_sdk_sends_is_refused_too(tmp_path: Path, changed: dict[str, Any]) -> None:
    async with a_server(tmp_path) as rig:
        given = {"jobDefinitionName": "d", "type": "container", "containerProperties": BOX, **changed}
        answer = await rig.post("/v1/registerjobdefinition", json.dumps(given).encode(), {})
        assert answer["__type"] == "ClientException"
        assert next(iter(changed)) in answer["message"], answer


async def test_a_lenient_server_takes_definitions_that_aws_refuses(tmp_path: Path) -> None:
    async with a_server(tmp_path, limits=Limits(strict=False)) as rig:
        batch = rig.client()
        await rig.call(
            batch.register_job_definition,
            jobDefinitionName="d",
            type="container",
            containerProperties={"image": "i:1"},
            timeout={"attemptDurationSeconds": 5},
        )


async def test_queues_and_environments_are_described(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        [queue] = (await rig.call(batch.describe_job_queues))["jobQueues"]
        assert (queue["jobQueueName"], queue["state"], queue["status"]) == ("default", "ENABLED", "VALID")
        assert queue["computeEnvironmentOrder"] == [
            {"order": 1, "computeEnvironment": f"{ARN}:compute-environment/default"}
        ]
        names = ["default", "nowhere", f"{ARN}:job-queue/default"]
        assert len((await rig.call(batch.describe_job_queues, jobQueues=names))["jobQueues"]) == 1
        [place] = (await rig.call(batch.describe_compute_environments, computeEnvironments=["default"]))[
            "computeEnvironments"
        ]
        assert (place["type"], place["status"], place["computeResources"]["maxvCpus"]) == ("MANAGED", "VALID", 4)
        assert place["computeResources"]["type"] == "EC2"
        text = await refused(
            rig, batch.describe_job_queues, jobQueues=["arn:aws:batch:eu-west-1:000000000000:job-queue/x"]
        )
        assert "this server's is 000000000000 in us-east-1" in text


async def test_tags(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("hello", tags={"a": "1"})
        made = await rig.call(
            batch.submit_job, jobName="j", jobQueue="default", jobDefinition="hello", tags={"team": "x", "old": "o"}
        )
        for arn, before in (
            (made["jobArn"], {"team": "x", "old": "o"}),
            (f"{ARN}:job-definition/hello:1", {"a": "1"}),
            (f"{ARN}:job-queue/default", {}),
            (f"{ARN}:compute-environment/default", {}),
        ):
            assert (await rig.call(batch.list_tags_for_resource, resourceArn=arn))["tags"] == before
            await rig.call(batch.tag_resource, resourceArn=arn, tags={"team": "y", "with space": "+-=._:/@"})
            await rig.call(batch.untag_resource, resourceArn=arn, tagKeys=["old", "with space"])
            after = {key: value for key, value in {**before, "team": "y"}.items() if key != "old"}
            assert (await rig.call(batch.list_tags_for_resource, resourceArn=arn))["tags"] == after
        [job] = await rig.until_ended(batch, made["jobId"])
        assert job["tags"] == {"team": "y"}
        assert "not found" in await refused(rig, batch.list_tags_for_resource, resourceArn=f"{ARN}:job-queue/none")
        assert "have no tags" in await refused(rig, batch.list_tags_for_resource, resourceArn=made["jobArn"] + ":1")
        many = {f"k{number}": "v" for number in range(51)}
        assert "at most 50 tags" in await refused(rig, batch.tag_resource, resourceArn=made["jobArn"], tags=many)


async def test_sagemaker_is_refused_in_so_many_words(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        assert "is of SageMaker" in await refused(rig, batch.describe_service_job, jobId="x")
        assert "is of SageMaker" in await refused(rig, batch.list_quota_shares, jobQueue="default")
