"""Compute environments, job queues and scheduling policies made, changed and deleted by boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flowbatch.http.service import Limits
from flowbatch.model.jobspec import Queue
from flowbatch.model.queues import JOB_REQUIREMENT, FairShare, reason_code
from tests.http.rig import FAKE, Rig, a_server
from tests.http.test_jobs_api import refused

pytestmark = pytest.mark.slow
ARN = "arn:aws:batch:us-east-1:000000000000"
EC2: dict[str, Any] = {
    "type": "EC2", "minvCpus": 0, "maxvCpus": 2, "desiredvCpus": 0, "instanceTypes": ["m5"], "subnets": ["subnet-1"],
    "securityGroupIds": ["sg-1"], "instanceRole": "ecsInstanceRole", "tags": {"of": "host"},
    "launchTemplate": {"launchTemplateName": "t"}, "ec2Configuration": [{"imageType": "ECS_AL2023"}],
}  # fmt: skip
ROLE = f"{ARN.replace(':batch:us-east-1', ':iam:')}:role/x"


async def environment(rig: Rig, batch: Any, name: str) -> Any:
    found = await rig.call(batch.describe_compute_environments, computeEnvironments=[name])
    return found["computeEnvironments"][0] if found["computeEnvironments"] else None


async def queue(rig: Rig, batch: Any, name: str) -> Any:
    found = await rig.call(batch.describe_job_queues, jobQueues=[name])
    return found["jobQueues"][0] if found["jobQueues"] else None


async def make(rig: Rig, batch: Any, name: str, kind: str = "MANAGED", **more: Any) -> Any:
    return await rig.call(batch.create_compute_environment, computeEnvironmentName=name, type=kind, **more)


def in_order(*names: str) -> list[dict[str, Any]]:
    return [{"order": at * 10, "computeEnvironment": name} for at, name in enumerate(names)]


async def test_an_environment_and_a_queue_from_first_to_last_and_through_a_restart(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        made = await make(rig, batch, "mine", computeResources=EC2, tags={"team": "film"})
        assert made["computeEnvironmentArn"] == f"{ARN}:compute-environment/mine"
        await rig.call(
            batch.create_job_queue,
            jobQueueName="line", priority=7, computeEnvironmentOrder=in_order("mine", f"{ARN}:compute-environment/default"),
            tags={"team": "film"},
            jobStateTimeLimitActions=[
                {"reason": reason_code(JOB_REQUIREMENT), "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}
            ],
        )  # fmt: skip
        before = [await environment(rig, batch, "mine"), await queue(rig, batch, "line")]
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        place, line = await environment(rig, batch, "mine"), await queue(rig, batch, "line")
        assert [place, line] == before
        assert (place["type"], place["state"], place["status"]) == ("MANAGED", "ENABLED", "VALID")
        assert {key: place["computeResources"][key] for key in EC2} == EC2
        assert place["tags"] == line["tags"] == {"team": "film"}
        assert (line["state"], line["status"], line["priority"]) == ("ENABLED", "VALID", 7)
        assert line["computeEnvironmentOrder"] == [
            {"order": 0, "computeEnvironment": f"{ARN}:compute-environment/mine"},
            {"order": 10, "computeEnvironment": f"{ARN}:compute-environment/default"},
        ]
        assert "schedulingPolicyArn" not in line
        box = {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
        await rig.call(
            batch.register_job_definition, jobDefinitionName="true", type="container", containerProperties=box
        )
        job = await rig.call(batch.submit_job, jobName="j", jobQueue="line", jobDefinition="true")
        [ended] = await rig.until_ended(batch, job["jobId"])
        assert (ended["status"], ended["jobQueue"]) == ("SUCCEEDED", f"{ARN}:job-queue/line")
        # taken apart, in AWS's order
        text = await refused(rig, batch.delete_job_queue, jobQueue="line")
        assert "Cannot delete, queue line is ENABLED: disable it first" in text
        await rig.call(batch.update_job_queue, jobQueue=f"{ARN}:job-queue/line", state="DISABLED", priority=3)
        text = await refused(rig, batch.submit_job, jobName="j", jobQueue="line", jobDefinition="true")
        assert text.startswith("ClientException")
        text = await refused(rig, batch.delete_compute_environment, computeEnvironment="mine")
        assert "Cannot delete, environment mine is ENABLED" in text
        await rig.call(batch.update_compute_environment, computeEnvironment="mine", state="DISABLED")
        text = await refused(rig, batch.delete_compute_environment, computeEnvironment="mine")
        assert "Cannot delete, found existing JobQueue relationship (line)" in text
        assert (await queue(rig, batch, "line"))["priority"] == 3
        await rig.call(batch.delete_job_queue, jobQueue="line")
        assert await queue(rig, batch, "line") is None
        await rig.call(batch.delete_compute_environment, computeEnvironment=f"{ARN}:compute-environment/mine")
        assert await environment(rig, batch, "mine") is None
        # the same name again has nothing of the first one's
        await make(rig, batch, "mine", computeResources=EC2)
        assert (await environment(rig, batch, "mine"))["tags"] == {}


async def test_a_queue_that_is_deleted_takes_its_jobs_along(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("long", {"duration": "1h"})
        await rig.call(
            batch.create_job_queue, jobQueueName="line", priority=1, computeEnvironmentOrder=in_order("default")
        )
        job = await rig.call(batch.submit_job, jobName="j", jobQueue="line", jobDefinition="long")
        await rig.call(batch.update_job_queue, jobQueue="line", state="DISABLED")
        await rig.call(batch.delete_job_queue, jobQueue="line")
        [ended] = await rig.until_ended(batch, job["jobId"])
        assert (ended["status"], ended["statusReason"]) == ("FAILED", "JobQueue deleted")
        assert await queue(rig, batch, "line") is None


async def test_kinds_of_capacity(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        nets = {"subnets": ["subnet-1"], "securityGroupIds": ["sg-1"]}
        await make(rig, batch, "spot", "managed", computeResources={**EC2, "type": "SPOT", "minvCpus": 2})
        await make(rig, batch, "far", computeResources={"type": "FARGATE_SPOT", "maxvCpus": 16, **nets})
        await make(rig, batch, "own", "UNMANAGED", serviceRole=ROLE, unmanagedvCpus=64)
        places = rig.running.service.state.environments
        assert (places["spot"].spec.spot, places["spot"].spec.min_vcpus_milli) == (True, 0)
        assert (places["far"].spec.spot, places["far"].spec.cpu.value) == (True, "quota")
        spot, far, own = [await environment(rig, batch, name) for name in ("spot", "far", "own")]
        assert (spot["computeResources"]["type"], spot["computeResources"]["minvCpus"]) == ("SPOT", 2)
        assert far["computeResources"] == {"type": "FARGATE_SPOT", "maxvCpus": 16, **nets}
        assert (own["type"], own["unmanagedvCpus"], own["serviceRole"]) == ("UNMANAGED", 64, ROLE)
        assert "computeResources" not in own
        text = await refused(
            rig, batch.create_job_queue, jobQueueName="q", priority=1, computeEnvironmentOrder=in_order("spot", "far")
        )
        assert "EC2 and FARGATE cannot be mixed" in text
        await rig.call(
            batch.create_job_queue, jobQueueName="q", priority=1, computeEnvironmentOrder=in_order("far"),
            jobQueueType="ECS_FARGATE",
        )  # fmt: skip
        assert (await queue(rig, batch, "q"))["jobQueueType"] == "ECS_FARGATE"
        # what is unmanaged has the nodes that its owner adds
        node = {"environment": "own", "node": "n1", "vcpus_milli": 1000, "memory_mib": 64}
        await rig.running.app.verbs.call("add_node", node)
        await rig.call(batch.create_job_queue, jobQueueName="o", priority=1, computeEnvironmentOrder=in_order("own"))
        box = {"command": ["true"], "resourceRequirements": [{"type": "VCPU", "value": "1"}]}
        await rig.call(batch.register_job_definition, jobDefinitionName="t", type="container", containerProperties=box)
        job = await rig.call(batch.submit_job, jobName="j", jobQueue="o", jobDefinition="t")
        [ended] = await rig.until_ended(batch, job["jobId"])
        assert ended["status"] == "SUCCEEDED"
        assert (await environment(rig, batch, "own"))["unmanagedvCpus"] == 64
        # a maximum that is only said makes the machine no larger
        await make(rig, batch, "huge", computeResources={**EC2, "maxvCpus": 100_000})
        state = rig.running.service.state
        assert state.host.guard is not None
        assert state.host.limit is not None
        assert state.host.guard.vcpus_milli == max(state.host.limit.vcpus_milli, 4000)


@pytest.mark.parametrize("strict", [True, False])
async def test_what_is_refused_of_an_environment(tmp_path: Path, strict: bool) -> None:
    def less(*names: str, **more: Any) -> dict[str, Any]:
        return {**{key: value for key, value in EC2.items() if key not in names}, **more}

    fargate = {"type": "FARGATE", "maxvCpus": 4, "subnets": ["subnet-1"]}
    cases: list[tuple[dict[str, Any], str, bool]] = [
        ({}, "computeResources is required for MANAGED.", True),
        ({"computeResources": less("instanceRole")}, "Instance role is required.", strict),
        ({"computeResources": less("minvCpus")}, "Resource minvCpus is required.", strict),
        ({"computeResources": {**fargate, "desiredvCpus": 1}}, "desiredvCpus is not applicable for Fargate.", True),
        ({"computeResources": {**fargate, "tags": {"a": "b"}}}, "tags is not applicable for Fargate.", True),
        ({"computeResources": less(minvCpus=3)}, "minvCpus: 3 is more than maxvCpus, which is 2", True),
        ({"computeResources": less(desiredvCpus=3)}, "desired_vcpus (3) must lie between", True),
        ({"computeResources": less(type="LAMBDA")}, "computeResources.type", True),
        ({"computeResources": less(maxvCpus=0)}, "computeResources.maxvCpus", True),
        ({"computeResources": less(scalingPolicy={"minScaleDownDelayMinutes": 5})}, "20 to 10080", True),
        ({"computeResources": EC2, "state": "DISABLED"}, "it must be created ENABLED", True),
        ({"computeResources": EC2, "unmanagedvCpus": 1}, "unmanagedvCpus is not applicable for MANAGED.", True),
        ({"computeResources": EC2, "tags": {"aws:x": "y"}}, "the prefix aws: is reserved", True),
        ({"type": "UNMANAGED"}, "Service role is required for UNMANAGED.", strict),
        ({"type": "UNMANAGED", "computeResources": EC2}, "computeResources is not applicable for UNMANAGED", True),
        ({"type": "SOLID"}, "type: Input should be 'MANAGED' or 'UNMANAGED'", True),
        ({"computeResources": EC2, "computeEnvironmentName": "default"}, "Object already exists", True),
        ({"computeResources": EC2, "computeEnvironmentName": "a b"}, "computeEnvironmentName: must be 1 to 128", True),
        (
            {"computeResources": EC2, "eksConfiguration": {"eksClusterArn": "arn:x", "kubernetesNamespace": "n"}},
            "pods are not supported here",
            True,
        ),
    ]
    async with a_server(tmp_path, limits=Limits(strict=strict)) as rig:
        batch = rig.client()
        for at, (given, said, is_refused) in enumerate(cases):
            body = {"computeEnvironmentName": f"e{at}", "type": "MANAGED", **given}
            if is_refused:
                text = await refused(rig, batch.create_compute_environment, **body)
                assert text.startswith("ClientException"), text
                assert said in text, (given, text)
            else:
                await rig.call(batch.create_compute_environment, **body)


async def test_an_environment_is_updated(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await make(rig, batch, "mine", computeResources=EC2)
        await make(rig, batch, "own", "UNMANAGED", serviceRole=ROLE)

        async def update(name: str = "mine", **given: Any) -> Any:
            await rig.call(batch.update_compute_environment, computeEnvironment=name, **given)
            found = await environment(rig, batch, name)
            return found.get("computeResources", found)

        async def no(said: str, name: str = "mine", **given: Any) -> None:
            text = await refused(rig, batch.update_compute_environment, computeEnvironment=name, **given)
            assert text.startswith("ClientException"), text
            assert said in text

        found = await update(computeResources={"maxvCpus": 8, "minvCpus": 1, "instanceTypes": ["c5"]})
        assert {
            **EC2,
            "maxvCpus": 8,
            "minvCpus": 1,
            "instanceTypes": ["c5"],
            "desiredvCpus": 1,
        }.items() <= found.items()
        assert (await update(computeResources={"desiredvCpus": 4}))["desiredvCpus"] == 4
        await no("Manually scaling down compute environment is not supported.", computeResources={"desiredvCpus": 2})
        await no("must lie between", computeResources={"desiredvCpus": 9})
        await no("EC2 cannot become FARGATE", computeResources={"type": "FARGATE"})
        await no("must not be more than max_vcpus", computeResources={"minvCpus": 9})
        await no("jobExecutionTimeoutMinutes", updatePolicy={"jobExecutionTimeoutMinutes": 7201})
        await no("is MANAGED: unmanagedvCpus is for UNMANAGED ones", unmanagedvCpus=4)
        await no("computeResources is not applicable for UNMANAGED", "own", computeResources={"maxvCpus": 1})
        await no("ComputeEnvironment none not found", "none", state="DISABLED")
        found = await update(computeResources={"type": "SPOT"}, updatePolicy={"terminateJobsOnUpdate": True})
        assert (found["type"], found["minvCpus"]) == ("SPOT", 1)
        assert (await update(computeResources={"type": "EC2", "minvCpus": 0}))["minvCpus"] == 0
        assert (await update("own", unmanagedvCpus=12))["unmanagedvCpus"] == 12
        whole = await environment(rig, batch, "mine")
        assert (whole["status"], whole["updatePolicy"]["terminateJobsOnUpdate"]) == ("VALID", True)


async def test_what_is_refused_of_a_queue(tmp_path: Path) -> None:
    limit = {"reason": reason_code(JOB_REQUIREMENT), "state": "RUNNABLE", "maxTimeSeconds": 600, "action": "CANCEL"}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"computeEnvironmentOrder": []}, "1 to 3 are possible, not 0"),
        ({"computeEnvironmentOrder": in_order("default", "default")}, "can be given once"),
        ({"computeEnvironmentOrder": in_order(*"abcd")}, "1 to 3 are possible, not 4"),
        ({"computeEnvironmentOrder": in_order("nowhere")}, "ComputeEnvironment nowhere not found"),
        ({"schedulingPolicyArn": f"{ARN}:scheduling-policy/none"}, "scheduling policy none does not exist"),
        ({"schedulingPolicyArn": f"{ARN}:job-queue/none"}, "a scheduling-policy is needed"),
        ({"priority": -1}, "priority"),
        ({"jobQueueName": "default"}, "Object already exists"),
        ({"jobQueueName": "a/b"}, "jobQueueName: must be 1 to 128"),
        ({"jobQueueType": "EKS"}, "EKS does not go with environments of EC2"),
        ({"jobQueueType": "SAGEMAKER_TRAINING"}, "SageMaker"),
        ({"jobStateTimeLimitActions": [{**limit, "reason": "ACTION_REQUIRED"}]}, "jobStateTimeLimitActions[0].reason"),
        ({"jobStateTimeLimitActions": [{**limit, "maxTimeSeconds": 599}]}, "maxTimeSeconds"),
        ({"jobStateTimeLimitActions": [{**limit, "action": "TERMINATE"}]}, "TERMINATE is for queues of SageMaker"),
        ({"jobStateTimeLimitActions": [limit, limit]}, "has an action already"),
    ]
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        for given, said in cases:
            body = {"jobQueueName": "q", "priority": 1, "computeEnvironmentOrder": in_order("default"), **given}
            text = await refused(rig, batch.create_job_queue, **body)
            assert text.startswith("ClientException"), text
            assert said in text, (given, text)
        for at in range(49):
            await rig.call(
                batch.create_job_queue, jobQueueName=f"q{at}", priority=1, computeEnvironmentOrder=in_order("default")
            )
        text = await refused(
            rig, batch.create_job_queue, jobQueueName="q", priority=1, computeEnvironmentOrder=in_order("default")
        )
        assert "Limit exceeded: 50 job queues exist" in text
        assert "JobQueue none not found" in await refused(rig, batch.update_job_queue, jobQueue="none", priority=1)
        assert "JobQueue none not found" in await refused(rig, batch.delete_job_queue, jobQueue="none")
        actions = [{**limit, "maxTimeSeconds": 1200}]
        await rig.call(batch.update_job_queue, jobQueue="q0", jobStateTimeLimitActions=actions)
        assert (await queue(rig, batch, "q0"))["jobStateTimeLimitActions"] == actions
        await rig.call(batch.update_job_queue, jobQueue="q0", jobStateTimeLimitActions=[])
        assert (await queue(rig, batch, "q0"))["jobStateTimeLimitActions"] == []


async def test_scheduling_policies_are_shared_by_queues(tmp_path: Path) -> None:
    settings = replace(FAKE, queues=(Queue("default"), Queue("lab", policy=FairShare(reservation=10))))
    fair = {
        "shareDecaySeconds": 3600, "computeReservation": 5,
        "shareDistribution": [
            {"shareIdentifier": "ann", "weightFactor": 0.125}, {"shareIdentifier": "guest*", "weightFactor": 4.0},
        ],
    }  # fmt: skip
    for life in (1, 2):
        async with a_server(tmp_path, settings) as rig:
            batch = rig.client()
            if life == 1:
                made = await rig.call(
                    batch.create_scheduling_policy, name="even", fairsharePolicy=fair, tags={"team": "film"}
                )
                assert made["arn"] == f"{ARN}:scheduling-policy/even"
                await rig.call(batch.create_scheduling_policy, name="plain")
                for name in ("a", "b"):
                    await rig.call(
                        batch.create_job_queue, jobQueueName=name, priority=1, schedulingPolicyArn=made["arn"],
                        computeEnvironmentOrder=in_order("default"),
                    )  # fmt: skip
            asked = [f"{ARN}:scheduling-policy/{name}" for name in ("even", "plain", "none", "lab")]
            [even, plain, lab] = (await rig.call(batch.describe_scheduling_policies, arns=asked))["schedulingPolicies"]
            assert (even["fairsharePolicy"], even["tags"]) == (fair, {"team": "film"})
            assert plain["fairsharePolicy"] == {
                "shareDecaySeconds": 0,
                "computeReservation": 0,
                "shareDistribution": [],
            }
            assert (lab["name"], lab["fairsharePolicy"]["computeReservation"]) == ("lab", 10)
            assert (await queue(rig, batch, "a"))["schedulingPolicyArn"] == even["arn"]
            assert (await queue(rig, batch, "lab"))["schedulingPolicyArn"] == lab["arn"]
            first = await rig.call(batch.list_scheduling_policies, maxResults=2)
            rest = await rig.call(batch.list_scheduling_policies, maxResults=2, nextToken=first["nextToken"])
            listed = [
                each["arn"].partition("/")[2] for each in (*first["schedulingPolicies"], *rest["schedulingPolicies"])
            ]
            assert listed == ["even", "lab", "plain"]
    async with a_server(tmp_path, settings) as rig:
        batch = rig.client()
        even, plain, lab = (f"{ARN}:scheduling-policy/{name}" for name in ("even", "plain", "lab"))

        async def no(said: str, operation: Any, **given: Any) -> None:
            text = await refused(rig, operation, **given)
            assert text.startswith("ClientException"), text
            assert said in text, text

        await rig.define("long", {"duration": "1h"})
        job = {"jobName": "j", "jobQueue": "a", "jobDefinition": "long"}
        await no("hare", batch.submit_job, **job)
        await rig.call(batch.submit_job, **job, shareIdentifier="ann")
        await rig.call(
            batch.update_scheduling_policy,
            arn=even, fairsharePolicy={"shareDistribution": [{"shareIdentifier": "ann", "weightFactor": 2}]},
        )  # fmt: skip
        state = rig.running.service.state
        for name in ("a", "b"):
            assert state.queues[name].spec.policy == FairShare(weights=(("ann", 20_000),))
        fairness = state.queues["a"].fair
        assert fairness is not None
        assert (fairness.shares["ann"].jobs, fairness.shares["ann"].weight) == (1, 20_000)
        await rig.call(batch.update_job_queue, jobQueue="b", schedulingPolicyArn=plain)
        await rig.call(batch.update_job_queue, jobQueue="lab", schedulingPolicyArn=lab)  # as it is
        await no("is FIFO", batch.update_job_queue, jobQueue="default", schedulingPolicyArn=plain)
        await no("not removed", batch.update_job_queue, jobQueue="a", schedulingPolicyArn="")
        await no("does not exist", batch.update_job_queue, jobQueue="a", schedulingPolicyArn=f"{lab}x")
        await no("is its own", batch.update_job_queue, jobQueue="a", schedulingPolicyArn=lab)
        await no("is its own", batch.update_scheduling_policy, arn=lab, fairsharePolicy={})
        await no("is its own", batch.delete_scheduling_policy, arn=lab)
        await no("not found", batch.update_scheduling_policy, arn=f"{even}x")
        await no("found existing JobQueue relationship (a)", batch.delete_scheduling_policy, arn=even)
        for name in ("even", "lab"):
            await no("Object already exists", batch.create_scheduling_policy, name=name)
        make_one = batch.create_scheduling_policy
        await no("quotaSharePolicy is of SageMaker", make_one, name="x", quotaSharePolicy={"idleResourceAssignmentStrategy": "FIFO"})  # fmt: skip
        for given, said in (
            ({"shareDecaySeconds": 604_801}, "shareDecaySeconds"),
            ({"computeReservation": 100}, "computeReservation"),
            ({"shareDistribution": [{"shareIdentifier": "a-b"}]}, "letters and digits"),
            ({"shareDistribution": [{"shareIdentifier": "a", "weightFactor": 1000}]}, "weightFactor"),
            ({"shareDistribution": [{"shareIdentifier": "a*"}, {"shareIdentifier": "ab"}]}, "overlap"),
        ):
            await no(said, make_one, name="x", fairsharePolicy=given)
        await rig.call(batch.update_job_queue, jobQueue="a", schedulingPolicyArn=plain)
        await rig.call(batch.tag_resource, resourceArn=even, tags={"more": "1"})
        tags = (await rig.call(batch.list_tags_for_resource, resourceArn=even))["tags"]
        assert tags == {"team": "film", "more": "1"}
        await rig.call(batch.delete_scheduling_policy, arn=even)
        found = await rig.call(batch.describe_scheduling_policies, arns=[even])
        assert found["schedulingPolicies"] == []


async def test_who_may_make_a_queue_must_be_allowed_what_it_uses(tmp_path: Path) -> None:
    """aws-batch.md §13.2: the queue, its environments and its policy; tags of a new resource by batch:TagResource too."""
    async with a_server(tmp_path) as rig:
        admin = rig.client()
        await rig.call(admin.create_scheduling_policy, name="even")
        own = [f"{ARN}:job-queue/mine-*", f"{ARN}:compute-environment/default"]
        allow = {"Effect": "Allow", "Action": ["batch:CreateJobQueue", "batch:UpdateJobQueue"]}
        mine = rig.client("batch", *await rig.key("mine", {**allow, "Resource": own}))
        body = {"jobQueueName": "mine-1", "priority": 1, "computeEnvironmentOrder": in_order("default")}
        await rig.call(mine.create_job_queue, **body)
        policy = f"{ARN}:scheduling-policy/even"
        for more, resource in (
            ({"jobQueueName": "other"}, "job-queue/other"),
            ({"computeEnvironmentOrder": in_order("default", "secret")}, "compute-environment/secret"),
            ({"schedulingPolicyArn": policy}, "scheduling-policy/even"),
            ({"tags": {"a": "b"}}, "job-queue/mine-1"),
        ):
            text = await refused(rig, mine.create_job_queue, **{**body, **more})
            assert text.startswith("AccessDeniedException"), text
            assert resource in text
        text = await refused(rig, mine.update_job_queue, jobQueue="mine-1", schedulingPolicyArn=policy)
        assert "AccessDenied" in text
        await rig.call(mine.update_job_queue, jobQueue="mine-1", priority=2)
