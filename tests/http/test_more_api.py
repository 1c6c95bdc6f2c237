"""Consumable resources, multi-node jobs and shares, called by boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flowbatch.model.jobspec import Queue
from flowbatch.model.queues import FairShare
from tests.http.rig import FAKE, Rig, a_server
from tests.http.test_jobs_api import refused
from tests.http.test_native_api import ended, spec, submit

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
        listed = await rig.call(batch.list_jobs_by_consumable_resource, consumableResource="licence")
        assert [(each["jobName"], each["jobStatus"]) for each in listed["jobs"]] == [("two", "SUCCEEDED")]
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
        [begun] = first["attempts"]
        assert begun["container"]["exitCode"] == 0
        assert begun["container"]["logStreamName"] == first["container"]["logStreamName"]
        assert [each["stoppedAt"] for each in second["attempts"]] == [second["stoppedAt"]]
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
        await streams_are_found(rig, job, first["container"]["logStreamName"])


async def test_the_beginning_of_several_jobs_is_the_stream_of_none(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        ids = [f"abcdef01-{number}111-4333-8444-555555555555" for number in range(2)]
        await submit(rig, *((job, spec(f"j{at}")) for at, job in enumerate(ids)))
        await ended(rig)
        logs = rig.client("logs")
        asked: dict[str, Any] = {"logGroupName": "/aws/batch/job", "logStreamNamePrefix": f"j0/default/{ids[0][:9]}"}
        with pytest.raises(logs.exceptions.InvalidParameterException, match="several jobs begin with abcdef01-"):
            await rig.call(logs.describe_log_streams, **asked)
        asked["logStreamNamePrefix"] += "0"
        [stream] = (await rig.call(logs.describe_log_streams, **asked))["logStreams"]
        assert stream["logStreamName"] == f"j0/default/{ids[0]}.0.1"


async def streams_are_found(rig: Rig, job: str, lead: str) -> None:
    """The job's, and those of its nodes, by its id or what begins it."""
    logs = rig.client("logs")

    async def found(prefix: str) -> list[str]:
        told = await rig.call(logs.describe_log_streams, logGroupName="/aws/batch/job", logStreamNamePrefix=prefix)
        return [each["logStreamName"] for each in told["logStreams"]]

    every = await found(f"gang/default/{job}")
    assert lead in every
    assert f"gang/default/{job}.0.1" in every
    assert await found(f"gang/default/{job[:8]}") == await found(f"gang/default/{job[:35]}") == every
    assert await found(lead) == [lead]
    assert await found(f"gang/default/{job[:8]}.0") == await found(f"x/default/{job[:8]}") == []
    for short in ("gang/default/", f"gang/default/{job[:7]}", "gang"):
        with pytest.raises(logs.exceptions.InvalidParameterException, match="8 characters of it at least"):
            await found(short)
    limit = {"logGroupName": "/aws/batch/job", "logStreamName": lead, "limit": 10_001}
    with pytest.raises(logs.exceptions.InvalidParameterException, match="limit"):
        await rig.call(logs.get_log_events, **limit)


async def test_overrides_of_single_containers(tmp_path: Path) -> None:
    async with a_server(tmp_path, FAKE) as rig:
        batch = rig.client()
        size = [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}]
        box = {"image": "busybox", "resourceRequirements": size}
        await rig.call(
            batch.register_job_definition,
            jobDefinitionName="two",
            type="container",
            ecsProperties={
                "taskProperties": [
                    {
                        "containers": [
                            {**box, "name": "main", "command": ["serve"]},
                            {**box, "name": "side", "command": ["watch"], "essential": False},
                        ]
                    }
                ]
            },
        )
        over = {"name": "main", "command": ["other"], "environment": [{"name": "A", "value": "b"}]}
        submit = {"jobName": "t", "jobQueue": "default", "jobDefinition": "two"}
        made = await rig.call(
            batch.submit_job, **submit, ecsPropertiesOverride={"taskProperties": [{"containers": [over]}]}
        )
        [job] = await rig.until_ended(batch, made["jobId"])
        main, side = job["ecsProperties"]["taskProperties"][0]["containers"]
        assert (main["command"], main["environment"]) == (["other"], [{"name": "A", "value": "b"}])
        assert side["command"] == ["watch"]
        unknown = {"taskProperties": [{"containers": [{"name": "mainn", "command": ["x"]}]}]}
        text = await refused(rig, batch.submit_job, **submit, ecsPropertiesOverride=unknown)
        assert "unknown container 'mainn' (did you mean 'main'?)" in text


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
        listed: set[str] = set()
        for status in ("RUNNABLE", "STARTING", "RUNNING"):  # it moves on meanwhile
            page = await rig.call(batch.list_jobs, jobQueue="fair", jobStatus=status, filters=filters)
            listed |= {each["jobId"] for each in page["jobSummaryList"]}
        assert listed == {made["jobId"]}
        await rig.call(batch.terminate_job, jobId=made["jobId"], reason="enough")
        await rig.until_ended(batch, made["jobId"])
        await rig.define("quick")
        again = await rig.call(
            batch.submit_job, jobName="k", jobQueue="fair", jobDefinition="quick", shareIdentifier="b"
        )
        await rig.until_ended(batch, again["jobId"])
        first = await rig.call(batch.list_jobs, jobQueue="fair", filters=filters, maxResults=1)
        rest = await rig.call(
            batch.list_jobs, jobQueue="fair", filters=filters, maxResults=1, nextToken=first["nextToken"]
        )
        found = [(each["jobId"], each["shareIdentifier"]) for page in (first, rest) for each in page["jobSummaryList"]]
        assert found == [(again["jobId"], "b"), (made["jobId"], "b")]  # whatever their status, the newest first
        assert "nextToken" not in rest
        for status, job_id in (("FAILED", made["jobId"]), ("SUCCEEDED", again["jobId"])):
            page = await rig.call(batch.list_jobs, jobQueue="fair", filters=filters, jobStatus=status)
            assert [each["jobId"] for each in page["jobSummaryList"]] == [job_id]


async def test_an_update_that_is_sent_again_is_made_once_also_by_the_next_life(tmp_path: Path) -> None:
    total = 10
    for _ in range(2):
        async with a_server(tmp_path) as rig:
            batch = rig.client()
            if total == 10:
                await rig.call(batch.create_consumable_resource, consumableResourceName="c", totalQuantity=10)
                total += 1
            for operation, quantity, more in (("ADD", 1, 0), ("ADD", 1, 0), ("ADD", 2, 2), ("REMOVE", 1, -1)):
                # the same payload under the same token is the same request; another one is not
                found = await rig.call(
                    batch.update_consumable_resource,
                    consumableResource="c", operation=operation, quantity=quantity, clientToken="once",
                )  # fmt: skip
                total += more if total < 12 else 0
                assert found["consumableResourceName"] == "c"
            assert found["totalQuantity"] == 12


async def test_jobs_by_what_they_hold_in_pages_with_filters(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.call(batch.create_consumable_resource, consumableResourceName="c", totalQuantity=100)
        await rig.define("quick")
        await rig.define("long", {"duration": "1h"})
        wanted = {"consumableResourceList": [{"consumableResource": "c", "quantity": 2}]}
        ids = []
        for at in range(5):
            made = await rig.call(
                batch.submit_job, jobName=f"Odd{at}" if at % 2 else f"even{at}", jobQueue="default",
                jobDefinition="long" if at == 4 else "quick", consumableResourcePropertiesOverride=wanted,
            )  # fmt: skip
            ids.append(made["jobId"])
        await rig.until_ended(batch, *ids[:4])
        ask = batch.list_jobs_by_consumable_resource

        async def names(**more: Any) -> list[str]:
            found: list[str] = []
            token: dict[str, str] = {}
            while True:
                page = await rig.call(ask, consumableResource="c", **more, **token)
                found += [each["jobName"] for each in page["jobs"]]
                assert all(each["quantity"] == 2 for each in page["jobs"])
                if "nextToken" not in page:
                    return found
                token = {"nextToken": page["nextToken"]}

        assert await names() == await names(maxResults=2) == ["even4", "Odd3", "even2", "Odd1", "even0"]
        done = {"name": "JOB_STATUS", "values": ["SUCCEEDED", "FAILED"]}
        odd = {"name": "JOB_NAME", "values": ["oDD*"]}
        assert await names(filters=[done], maxResults=1) == ["Odd3", "even2", "Odd1", "even0"]
        assert await names(filters=[odd], maxResults=1) == ["Odd3", "Odd1"]
        assert await names(filters=[{"name": "JOB_NAME", "values": ["EVEN2", "odd1"]}, done]) == ["even2", "Odd1"]
        text = await refused(rig, ask, consumableResource="c", filters=[{"name": "JOB_STATUS", "values": ["DONE"]}])
        assert "The filter JOB_STATUS takes SUBMITTED, PENDING" in text


async def test_what_overrides_what_of_resources(tmp_path: Path) -> None:
    """aws-batch.md §6.3: per type; the deprecated keys override the definition's deprecated keys alone."""
    vcpu, memory = {"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}
    new, old = {"resourceRequirements": [vcpu, memory]}, {"vcpus": 1, "memory": 64}
    cases: list[tuple[dict[str, Any], dict[str, Any], dict[str, str]]] = [
        (new, {"vcpus": 3, "memory": 99}, {"VCPU": "1", "MEMORY": "64"}),
        ({"resourceRequirements": [vcpu]}, {"vcpus": 3}, {"VCPU": "1"}),
        (old, {"vcpus": 3}, {"VCPU": "3", "MEMORY": "64"}),
        (old, {"memory": 128}, {"VCPU": "1", "MEMORY": "128"}),
        (new, {"resourceRequirements": [{**memory, "value": "99"}], "vcpus": 4}, {"VCPU": "1", "MEMORY": "99"}),
        (old, {"resourceRequirements": [{**vcpu, "value": "2"}]}, {"VCPU": "2", "MEMORY": "64"}),
    ]
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        for at, (needs, override, runs_with) in enumerate(cases):
            box = {"command": ["true"], **needs}
            await rig.call(
                batch.register_job_definition, jobDefinitionName=f"d{at}", type="container", containerProperties=box
            )
            made = await rig.call(
                batch.submit_job, jobName="j", jobQueue="default", jobDefinition=f"d{at}", containerOverrides=override
            )
            [job] = (await rig.call(batch.describe_jobs, jobs=[made["jobId"]]))["jobs"]
            shown = {each["type"]: each["value"] for each in job["container"]["resourceRequirements"]}
            assert shown == runs_with, (needs, override)
