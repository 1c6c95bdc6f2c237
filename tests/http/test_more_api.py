"""Consumable resources, multi-node jobs and shares, called by boto3."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowbatch.model.jobspec import Queue
from flowbatch.model.queues import FairShare
from tests.http.rig import FAKE, a_server
from tests.http.test_jobs_api import refused

pytestmark = pytest.mark.slow
NEEDS = [{"type": "VCPU", "value": "0.5"}, {"type": "MEMORY", "value": "64"}]


async def test_consumable_resources(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        made = await rig.call(
            batch.create_consumable_resource, consumableResourceName="licence", totalQuantity=2, tags={"of": "x"}
        )
        arn = made["consumableResourceArn"]
        await rig.call(
            batch.create_consumable_resource,
            consumableResourceName="Budget",
            resourceType="NON_REPLENISHABLE",
            totalQuantity=5,
        )
        again = await refused(rig, batch.create_consumable_resource, consumableResourceName="licence")
        assert again.startswith("ClientException")
        wanted = {"consumableResourceList": [{"consumableResource": arn, "quantity": 2}]}
        await rig.call(
            batch.register_job_definition,
            jobDefinitionName="holds",
            type="container",
            containerProperties={"image": "i:1", "resourceRequirements": NEEDS},
            consumableResourceProperties={"consumableResourceList": [{"consumableResource": "licence", "quantity": 1}]},
        )
        submit: dict[str, Any] = {"jobQueue": "default", "jobDefinition": "holds"}
        verbs = rig.running.app.verbs
        await rig.call(batch.update_consumable_resource, consumableResource=arn, operation="SET", quantity=1)
        first = await rig.call(batch.submit_job, jobName="two", consumableResourcePropertiesOverride=wanted, **submit)
        told: Any = await verbs.call("why", {"job": first["jobId"]})
        assert "licence" in told
        listed = await rig.call(batch.list_jobs_by_consumable_resource, consumableResource="licence")
        assert [(each["jobName"], each["quantity"]) for each in listed["jobs"]] == [("two", 2)]
        for _ in range(2):
            await rig.call(
                batch.update_consumable_resource,
                consumableResource=arn,
                operation="ADD",
                quantity=1,
                clientToken="once",
            )
        [job] = await rig.until_ended(batch, first["jobId"])
        assert job["status"] == "SUCCEEDED"
        assert job["consumableResourceProperties"] == wanted
        found = await rig.call(batch.describe_consumable_resource, consumableResource="licence")
        assert (found["totalQuantity"], found["inUseQuantity"], found["availableQuantity"]) == (2, 0, 2)
        assert found["tags"] == {"of": "x"}
        filters = [{"name": "CONSUMABLE_RESOURCE_NAME", "values": ["bud*"]}]
        names = (await rig.call(batch.list_consumable_resources, filters=filters))["consumableResources"]
        assert [each["consumableResourceName"] for each in names] == ["Budget"]
        page = await rig.call(batch.list_consumable_resources, maxResults=1)
        rest = await rig.call(batch.list_consumable_resources, maxResults=1, nextToken=page["nextToken"])
        assert [each["consumableResourceName"] for each in rest["consumableResources"]] == ["licence"]
        await rig.call(batch.delete_consumable_resource, consumableResource="licence")
        assert "not found" in await refused(rig, batch.describe_consumable_resource, consumableResource="licence")


async def test_a_multi_node_job(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        box = {"image": "i:1", "command": ["work"], "resourceRequirements": NEEDS}
        await rig.call(
            batch.register_job_definition,
            jobDefinitionName="gang",
            type="multinode",
            nodeProperties={
                "numNodes": 3,
                "mainNode": 0,
                "nodeRangeProperties": [
                    {"targetNodes": "0:0", "container": box},
                    {"targetNodes": "1:2", "container": {**box, "command": ["help"]}},
                ],
            },
        )
        made = await rig.call(
            batch.submit_job,
            jobName="g",
            jobQueue="default",
            jobDefinition="gang",
            nodeOverrides={
                "nodePropertyOverrides": [{"targetNodes": "0:0", "containerOverrides": {"command": ["lead"]}}]
            },
        )
        job = made["jobId"]
        parent, first, second = await rig.until_ended(batch, job, f"{job}#0", f"{job}#2")
        assert "container" not in parent
        assert (parent["nodeProperties"]["numNodes"], parent["nodeProperties"]["mainNode"]) == (3, 0)
        assert parent["attempts"][-1]["container"]["exitCode"] == 0
        assert first["nodeDetails"] == {"nodeIndex": 0, "isMainNode": True}
        assert first["container"]["command"] == ["lead"]
        assert (second["nodeDetails"]["isMainNode"], second["container"]["command"]) == (False, ["help"])
        listed = []
        for status in ("SUCCEEDED", "FAILED", "RUNNABLE"):
            page = await rig.call(batch.list_jobs, multiNodeJobId=job, jobStatus=status)
            listed += [each["nodeProperties"]["nodeIndex"] for each in page["jobSummaryList"]]
        assert sorted(listed) == [0, 1, 2]
        text = await refused(
            rig,
            batch.submit_job,
            jobName="g",
            jobQueue="default",
            jobDefinition="gang",
            nodeOverrides={"nodePropertyOverrides": [{"targetNodes": "0:1", "containerOverrides": {"command": ["x"]}}]},
        )
        assert "Non matching targets - 0:1" in text


async def test_shares(tmp_path: Path) -> None:
    queues = (Queue("default"), Queue("fair", policy=FairShare()))
    async with a_server(tmp_path, replace(FAKE, queues=queues)) as rig:
        batch = rig.client()
        await rig.define("long", {"duration": "1h"})
        submit = {"jobName": "j", "jobDefinition": "long"}
        assert "hare" in await refused(rig, batch.submit_job, jobQueue="fair", **submit)
        assert "hare" in await refused(rig, batch.submit_job, jobQueue="default", shareIdentifier="a", **submit)
        for share in ("a", "b"):
            made = await rig.call(batch.submit_job, jobQueue="fair", shareIdentifier=share, **submit)
        await rig.call(batch.list_jobs, jobQueue="fair", jobStatus="STARTING")
        [job] = (await rig.call(batch.describe_jobs, jobs=[made["jobId"]]))["jobs"]
        assert job["shareIdentifier"] == "b"
        filters = [{"name": "SHARE_IDENTIFIER", "values": ["b"]}]
        listed: list[str] = []
        for status in ("RUNNABLE", "STARTING", "RUNNING"):
            page = await rig.call(batch.list_jobs, jobQueue="fair", jobStatus=status, filters=filters)
            listed += [each["jobId"] for each in page["jobSummaryList"]]
        assert listed == [made["jobId"]]
