"""Who may do what: every route needs its action, keys that are none are refused, and every call is on record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from flowbatch.http.calls import Call, Principal, Request
from flowbatch.http.failures import AccessDenied
from flowbatch.http.operations import logs, table
from flowbatch.http.policies import looks_at_tags, parse_policy
from flowbatch.store.access import BEFORE_FIRST, link
from flowbatch.store.reader import Reader
from tests.http.rig import a_server
from tests.http.test_jobs_api import refused

pytestmark = pytest.mark.slow
ARN = "arn:aws:batch:us-east-1:000000000000"
JOB = "01234567-89ab-4cde-8f01-23456789abcd"
BODIES: dict[str, dict[str, Any]] = {
    "CancelJob": {"jobId": JOB, "reason": "r"},
    "TerminateJob": {"jobId": JOB, "reason": "r"},
    "SubmitJob": {"jobName": "j", "jobQueue": "default", "jobDefinition": "hello"},
    "DescribeJobs": {"jobs": [JOB]},
    "ListJobs": {"jobQueue": "default"},
    "RegisterJobDefinition": {"jobDefinitionName": "d", "type": "container"},
    "DeregisterJobDefinition": {"jobDefinition": "hello:1"},
    "ListTagsForResource": {"resourceArn": f"{ARN}:job-queue/default"},
    "TagResource": {"resourceArn": f"{ARN}:job-queue/default", "tags": {"a": "b"}},
    "UntagResource": {"resourceArn": f"{ARN}:job-queue/default", "tagKeys": ["a"]},
    "CreateConsumableResource": {"consumableResourceName": "c"},
    "DescribeConsumableResource": {"consumableResource": "c"},
    "UpdateConsumableResource": {"consumableResource": "c", "operation": "ADD", "quantity": 1},
    "DeleteConsumableResource": {"consumableResource": "c"},
    "ListJobsByConsumableResource": {"consumableResource": "c"},
    "CreateComputeEnvironment": {"computeEnvironmentName": "e", "type": "MANAGED"},
    "UpdateComputeEnvironment": {"computeEnvironment": "default", "state": "DISABLED"},
    "DeleteComputeEnvironment": {"computeEnvironment": "default"},
    "CreateJobQueue": {"jobQueueName": "q", "priority": 1},
    "UpdateJobQueue": {"jobQueue": "default", "state": "DISABLED"},
    "DeleteJobQueue": {"jobQueue": "default"},
    "CreateSchedulingPolicy": {"name": "p"},
    "UpdateSchedulingPolicy": {"arn": f"{ARN}:scheduling-policy/p"},
    "DeleteSchedulingPolicy": {"arn": f"{ARN}:scheduling-policy/p"},
    "DescribeSchedulingPolicies": {"arns": []},
    "GetJobQueueSnapshot": {"jobQueue": "default"},
    "GetLogEvents": {"logGroupName": logs.GROUP, "logStreamName": "x"},
    "FilterLogEvents": {"logGroupName": logs.GROUP, "logStreamNames": ["x"]},
}
BULK = {"CancelJobs", "TerminateJobs"}  # which tell of each job beside it


def every_route() -> Iterator[Any]:
    yield from table.routes().values()
    yield from table.prefixed().values()
    yield from logs.targets().values()


def test_every_operation_of_the_service_is_there() -> None:
    import boto3

    known = {route.name for route in every_route()}
    model = boto3.client("batch", region_name="us-east-1").meta.service_model
    assert set(model.operation_names) <= known


async def test_nobody_who_may_nothing_gets_past_any_route(tmp_path: Path) -> None:
    """Also where something else of the request is wrong: who may not, learns nothing."""
    all_of_it = {"Action": "*", "Resource": "*"}
    tagged = {"StringEquals": {"aws:ResourceTag/team": "x"}}
    named = "arn:aws:batch:us-east-1:000000000000:*/somebody-elses"
    deny, wrong_tag, others = (
        (parse_policy("p", json.dumps({"Statement": statements})),)
        for statements in (
            [{"Effect": "Allow", **all_of_it}, {"Effect": "Deny", **all_of_it}],
            [{"Effect": "Allow", **all_of_it, "Condition": tagged}],
            [{"Effect": "Allow", "Action": "*", "Resource": named}],
        )
    )
    async with a_server(tmp_path) as rig:
        await rig.define("hello")
        state, before = rig.running.service.state, dict(rig.running.service.state.definitions)
        for policies in ((), deny, wrong_tag, others):
            for route in every_route():
                given = BODIES.get(route.name, {})
                if route.name in BULK:
                    given = {"jobs": [JOB], "reason": "r"}
                request = Request("POST", "/", "", {}, b"{}", "127.0.0.1")
                principal = Principal("arn:aws:iam::000000000000:user/x", "x", "x", policies, looks_at_tags(policies))
                call = Call(rig.running.service, request, "id", principal, route.action, given)
                if route.name in BULK:
                    answer = await route.act(call)
                    assert [each["code"] for each in answer["errors"]] == ["AccessDenied"], route.name
                    continue
                with pytest.raises(AccessDenied, match="is not authorized to perform: " + route.action):
                    await route.act(call)
        assert (state.jobs, state.definitions) == ({}, before)
        assert (set(state.queues), set(state.environments), state.scheduling) == ({"default"}, {"default"}, {})
        assert rig.running.service.reader.tags("job-queue", "default") is None


async def test_the_matrix_of_keys(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        await rig.define("hello")
        admin = rig.client()
        allow = {"Effect": "Allow", "Action": "batch:*", "Resource": "*"}
        submit = {"jobName": "j", "jobQueue": "default", "jobDefinition": "hello"}
        good = await rig.key("good", allow)
        await rig.call(rig.client("batch", *good).submit_job, **submit)
        denying = await rig.key(
            "denying",
            allow,
            {"Sid": "never", "Effect": "Deny", "Action": "batch:SubmitJob", "Resource": f"{ARN}:job-queue/*"},
        )
        text = await refused(rig, rig.client("batch", *denying).submit_job, **submit)
        assert text.startswith("AccessDeniedException: User: arn:aws:iam::000000000000:user/denying is not authorized")
        assert "with an explicit deny" in text
        condition = {"StringEquals": {"aws:ResourceTag/team": "x"}}
        tagged = rig.client("batch", *await rig.key("tagged", {**allow, "Condition": condition}))
        assert "AccessDenied" in await refused(rig, tagged.submit_job, **submit)
        for arn in (f"{ARN}:job-queue/default", f"{ARN}:job-definition/hello:1"):
            await rig.call(admin.tag_resource, resourceArn=arn, tags={"team": "x"})
        made = await rig.call(tagged.submit_job, **submit)
        other = await rig.call(admin.submit_job, **submit)
        await rig.call(admin.tag_resource, resourceArn=made["jobArn"], tags={"team": "x"})
        seen = (await rig.call(tagged.describe_jobs, jobs=[made["jobId"], other["jobId"]]))["jobs"]
        assert [job["jobId"] for job in seen] == [made["jobId"]]
        text = await refused(rig, tagged.submit_job, **submit, dependsOn=[{"jobId": other["jobId"]}])
        assert f"Job {other['jobId']} not found" in text
        assert "AccessDenied" in await refused(
            rig, tagged.tag_resource, resourceArn=other["jobArn"], tags={"team": "x"}
        )
        expired = await rig.key("expired", allow, expires_at=1)
        unknown = ("fbk_aaaaaaaaaaaa", "secret")
        for key, secret in (expired, unknown):
            text = await refused(rig, rig.client("batch", key, secret).list_jobs, jobQueue="default")
            assert text == "UnrecognizedClientException: The security token included in the request is invalid."
        text = await refused(rig, rig.client("batch", good[0], "wrong").list_jobs, jobQueue="default")
        assert text.startswith("InvalidSignatureException")
        verbs = rig.running.app.verbs
        await verbs.call("put_key", {"id": good[0].removeprefix("fbk_"), "revoke": True})
        text = await refused(rig, rig.client("batch", *good).list_jobs, jobQueue="default")
        assert text.startswith("UnrecognizedClientException")


async def test_failed_attempts_are_bounded(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        stranger = rig.client("batch", "fbk_aaaaaaaaaaaa", "secret")
        for _ in range(10):
            assert "UnrecognizedClient" in await refused(rig, stranger.list_jobs, jobQueue="default")
        assert "TooManyRequestsException" in await refused(rig, stranger.list_jobs, jobQueue="default")
        assert "TooManyRequestsException" in await refused(rig, rig.client().list_jobs, jobQueue="default")


async def test_conditions_look_at_what_would_run(tmp_path: Path) -> None:
    """An image is judged where a job is submitted, too: of the revision that the name means then."""
    async with a_server(tmp_path) as rig:
        admin = rig.client()
        box = {
            "image": "evil:1",
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "64"}],
        }
        await rig.call(admin.register_job_definition, jobDefinitionName="d", type="container", containerProperties=box)
        condition = {"StringLike": {"batch:Image": "good:*"}}
        mine = rig.client(
            "batch",
            *await rig.key("mine", {"Effect": "Allow", "Action": "batch:*", "Resource": "*", "Condition": condition}),
        )
        assert "AccessDenied" in await refused(rig, mine.submit_job, jobName="j", jobQueue="default", jobDefinition="d")
        register = {"jobDefinitionName": "d", "type": "container"}
        assert "AccessDenied" in await refused(rig, mine.register_job_definition, containerProperties=box, **register)
        await rig.call(mine.register_job_definition, containerProperties={**box, "image": "good:1"}, **register)
        await rig.call(mine.submit_job, jobName="j", jobQueue="default", jobDefinition="d")


async def test_every_call_is_on_record_and_the_records_hold_together(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        admin = rig.client()
        await rig.define("hello")
        secret = [{"name": "PASSWORD", "value": "hush"}]
        made = await rig.call(
            admin.submit_job,
            jobName="j",
            jobQueue="default",
            jobDefinition="hello",
            containerOverrides={"environment": secret},
        )
        await rig.until_ended(admin, made["jobId"])
        with pytest.raises(ClientError):
            await rig.call(admin.submit_job, jobName="j", jobQueue="nowhere", jobDefinition="hello")
        nobody = rig.client("batch", *await rig.key("nobody", {"Effect": "Deny", "Action": "*", "Resource": "*"}))
        with pytest.raises(ClientError):
            await rig.call(nobody.terminate_job, jobId=made["jobId"], reason="r")
        database = rig.running.app.folder.database
    with Reader(database) as reader:
        rows = reader.audit()
    before = BEFORE_FIRST
    for at, (seq, row, digest) in enumerate(rows, 1):
        assert seq == at
        assert link(before, seq, row) == digest
        before = digest
    told = {(row.action, row.allowed, row.error is None) for _, row, _ in rows}
    assert {
        ("batch:SubmitJob", True, True),
        ("batch:DescribeJobs", True, True),
        ("batch:TerminateJob", False, False),
    } <= told
    assert any(row.action == "batch:SubmitJob" and "nowhere" in (row.error or "") for _, row, _ in rows)
    assert "hush" not in repr(rows)
    seq, row, digest = rows[1]
    assert link(rows[0][2], seq, replace_row(row)) != digest


def replace_row(row: Any) -> Any:
    return row._replace(allowed=not row.allowed)


async def test_the_same_invocation_again_is_one_job(tmp_path: Path) -> None:
    """What the SDK sends again after a lost answer; also to the next life of the server."""
    body = json.dumps({"jobName": "j", "jobQueue": "default", "jobDefinition": "hello"}).encode()
    ids = []
    for life in (1, 2):
        async with a_server(tmp_path) as rig:
            if life == 1:
                await rig.define("hello")
            batch = rig.client()
            for _ in range(2):
                answer = await rig.post(
                    "/v1/submitjob", body, {"amz-sdk-invocation-id": "11111111-2222-4333-8444-555555555555"}
                )
                ids.append(answer["jobId"])
            await rig.until_ended(batch, ids[0])
            listed = await rig.call(batch.list_jobs, jobQueue="default", jobStatus="SUCCEEDED")
            assert [job["jobId"] for job in listed["jobSummaryList"]] == ids[:1]
    assert len(ids) == 4
    assert len(set(ids)) == 1
