"""SubmitJob, DescribeJobs, ListJobs, CancelJob and TerminateJob, called by boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.http.rig import a_server

pytestmark = pytest.mark.slow  # boto3's clients take their time to be made


async def refused(rig: Any, operation: Any, /, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        await rig.call(operation, **arguments)
    error = caught.value.response["Error"]
    return f"{error['Code']}: {error['Message']}"


async def test_a_job_from_submission_to_its_end(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("hello", {"output": "hi\n"})
        made = await rig.call(
            batch.submit_job, jobName="first", jobQueue="default", jobDefinition="hello", tags={}, parameters={"x": "1"}
        )
        assert made["jobArn"] == f"arn:aws:batch:us-east-1:000000000000:job/{made['jobId']}"
        [job] = await rig.until_ended(batch, made["jobId"])
        assert (job["status"], job["jobName"], job["parameters"]) == ("SUCCEEDED", "first", {"x": "1"})
        assert job["jobDefinition"].endswith(":job-definition/hello:1")
        assert job["container"]["exitCode"] == 0
        assert job["statusReason"] == "Essential container in task exited"
        assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]
        [attempt] = job["attempts"]
        assert attempt["container"]["logStreamName"] == job["container"]["logStreamName"]


async def test_overrides_are_merged_as_aws_does(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        box = {
            "command": ["echo", "Ref::word"],
            "environment": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "resourceRequirements": [{"type": "VCPU", "value": "1"}, {"type": "MEMORY", "value": "128"}],
        }
        await rig.call(
            batch.register_job_definition,
            jobDefinitionName="base",
            type="container",
            containerProperties=box,
            parameters={"word": "a", "kept": "k"},
            retryStrategy={"attempts": 3, "evaluateOnExit": [{"onExitCode": "1", "action": "exit"}]},
            timeout={"attemptDurationSeconds": 100},
            tags={"of": "definition"},
        )
        made = await rig.call(
            batch.submit_job,
            jobName="over",
            jobQueue="default",
            jobDefinition="base",
            parameters={"word": "b"},
            containerOverrides={
                "command": [],
                "environment": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}],
                "resourceRequirements": [{"type": "MEMORY", "value": "256"}],
            },
            retryStrategy={"attempts": 1},
            tags={"of": "job"},
        )
        [job] = await rig.until_ended(batch, made["jobId"])
        assert job["parameters"] == {"word": "b", "kept": "k"}
        assert job["container"]["command"] == ["echo", "Ref::word"]
        assert {pair["name"]: pair["value"] for pair in job["container"]["environment"]} == {
            "A": "1",
            "B": "3",
            "C": "4",
        }
        assert job["container"]["resourceRequirements"] == [
            {"type": "VCPU", "value": "1"},
            {"type": "MEMORY", "value": "256"},
        ]
        assert job["retryStrategy"] == {"attempts": 1, "evaluateOnExit": []}
        assert job["timeout"] == {"attemptDurationSeconds": 100}
        assert job["tags"] == {"of": "job"}


async def test_arrays_children_and_dependencies(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("quick")
        await rig.define("odd", {"by_index": {"1": {"exit": 7}}})
        common = {"jobQueue": "default", "jobDefinition": "quick"}
        array = await rig.call(
            batch.submit_job, jobName="array", jobQueue="default", jobDefinition="odd", arrayProperties={"size": 3}
        )
        each = await rig.call(
            batch.submit_job,
            jobName="each",
            arrayProperties={"size": 3},
            dependsOn=[{"jobId": array["jobId"], "type": "N_TO_N"}],
            **common,
        )
        child = await rig.call(
            batch.submit_job, jobName="child", dependsOn=[{"jobId": f"{array['jobId']}:2"}], **common
        )
        whole = await rig.call(batch.submit_job, jobName="whole", dependsOn=[{"jobId": array["jobId"]}], **common)
        ids = [each_["jobId"] for each_ in (array, each, child, whole)]
        await rig.until_ended(batch, *ids)
        later = await rig.call(
            batch.submit_job, jobName="later", dependsOn=[{"jobId": ids[0]}, {"jobId": ids[2]}], **common
        )
        names = [*ids, f"{ids[0]}:1", f"{ids[1]}:1", f"{ids[1]}:2", f"{ids[0]}:3", later["jobId"]]
        jobs = {job["jobId"]: job for job in await rig.until_ended(batch, *names)}
        assert jobs[ids[0]]["statusReason"] == "Array Child Job failed"
        assert jobs[ids[0]]["arrayProperties"]["statusSummary"]["SUCCEEDED"] == 2
        assert jobs[f"{ids[0]}:1"]["container"]["exitCode"] == 7
        assert jobs[f"{ids[1]}:1"]["statusReason"] == "Dependent Job failed"
        assert jobs[f"{ids[1]}:2"]["status"] == jobs[ids[2]]["status"] == "SUCCEEDED"
        assert jobs[ids[3]]["statusReason"] == jobs[later["jobId"]]["statusReason"] == "Dependent Job failed"
        assert jobs[ids[3]]["stoppedAt"]
        assert "startedAt" not in jobs[ids[3]]
        assert f"{ids[0]}:3" not in jobs
        listed = await rig.call(batch.list_jobs, arrayJobId=ids[0], jobStatus="FAILED")
        assert [one["arrayProperties"] for one in listed["jobSummaryList"]] == [{"index": 1}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"jobName": "-x"}, "jobName: must begin with"),
        ({"jobQueue": "nowhere"}, "JobQueue nowhere not found"),
        ({"jobDefinition": "nothing"}, "Job definition nothing does not exist"),
        ({"arrayProperties": {"size": 1}}, "Array size must be between 2 and 10000"),
        ({"dependsOn": [{"jobId": "x"}]}, "is no job id"),
        ({"dependsOn": [{"jobId": "01234567-89ab-4cde-8f01-23456789abcd"}]}, "not found"),
        (
            {"dependsOn": [{"jobId": "01234567-89ab-4cde-8f01-23456789abcd"}] * 21},
            "Job cannot have more than 20 dependencies",
        ),
        ({"dependsOn": [{"type": "SEQUENTIAL"}]}, "SEQUENTIAL needs an array job"),
        ({"timeout": {"attemptDurationSeconds": 59}}, "must be at least 60"),
        ({"retryStrategy": {"attempts": 11}}, "attempts"),
        ({"containerOverrides": {"environment": [{"name": "AWS_BATCH_X", "value": "1"}]}}, "AWS_BATCH"),
        ({"parameters": {"x": "y" * 31000}}, "Job size must be less than 30 KiB, got 31 KiB"),
        ({"tags": {"aws:x": "y"}}, "reserved"),
    ],
)
async def test_what_submit_job_refuses(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("hello")
        common = {"jobName": "j", "jobQueue": "default", "jobDefinition": "hello"}
        text = await refused(rig, batch.submit_job, **{**common, **changed})
        assert text.startswith("ClientException: Error executing request, Exception : ")
        assert said in text
        assert not rig.running.service.state.jobs


async def test_cancel_terminate_and_their_bulk(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("long", {"duration": "1h"})
        ids = []
        for number in range(7):
            made = await rig.call(batch.submit_job, jobName=f"j{number}", jobQueue="default", jobDefinition="long")
            ids.append(made["jobId"])
        await rig.call(batch.cancel_job, jobId=ids[5], reason="not needed")
        done = await rig.call(batch.cancel_jobs, jobs=[ids[4], "nonsense"], reason="many")
        assert done["successful"] == [ids[4]]
        assert [(each["job"], each["code"]) for each in done["errors"]] == [("nonsense", "ClientException")]
        await rig.call(batch.terminate_job, jobId=ids[0], reason="enough")
        unknown = "01234567-89ab-4cde-8f01-23456789abcd"
        await rig.call(batch.terminate_job, jobId=unknown, reason="never here")
        rest = await rig.call(batch.terminate_jobs, jobs=[*ids[1:4], ids[6], unknown], reason="all")
        assert rest["errors"] == []
        jobs = await rig.until_ended(batch, *ids)
        assert {job["status"] for job in jobs} == {"FAILED"}
        assert [job["statusReason"] for job in jobs] == ["enough", "all", "all", "all", "many", "not needed", "all"]
        assert jobs[5]["isCancelled"]
        assert jobs[0]["isTerminated"]
        await rig.call(batch.cancel_job, jobId=ids[0], reason="again")
        assert "is no job id" in await refused(rig, batch.terminate_job, jobId="x", reason="y")


async def test_list_jobs_pages_and_filters(tmp_path: Path) -> None:
    async with a_server(tmp_path) as rig:
        batch = rig.client()
        await rig.define("hello")
        await rig.define("hello")
        ids = []
        for number in range(7):
            name, definition = ("Alpha", "beta")[number % 2], ("hello:1", "hello")[number % 2]
            made = await rig.call(batch.submit_job, jobName=name, jobQueue="default", jobDefinition=definition)
            ids.append(made["jobId"])
        described = await rig.until_ended(batch, *ids)
        assert (await rig.call(batch.list_jobs, jobQueue="default"))["jobSummaryList"] == []
        arn = "arn:aws:batch:us-east-1:000000000000:job-queue/default"

        async def all_of(**arguments: Any) -> list[str]:
            found: list[str] = []
            token: dict[str, str] = {}
            while True:
                page = await rig.call(batch.list_jobs, jobQueue=arn, maxResults=2, **arguments, **token)
                assert len(page["jobSummaryList"]) <= 2
                found += [each["jobId"] for each in page["jobSummaryList"]]
                if "nextToken" not in page:
                    return found
                token = {"nextToken": page["nextToken"]}

        newest_first = ids[::-1]
        assert await all_of(jobStatus="SUCCEEDED") == newest_first
        assert await all_of(filters=[{"name": "JOB_NAME", "values": ["alpha"]}]) == newest_first[::2]
        assert sorted(await all_of(filters=[{"name": "JOB_NAME", "values": ["b*"]}])) == sorted(ids[1::2])
        assert sorted(await all_of(filters=[{"name": "JOB_NAME", "values": ["*"]}])) == sorted(ids)
        assert sorted(await all_of(filters=[{"name": "JOB_DEFINITION", "values": ["hello"]}])) == sorted(ids)
        revision = "arn:aws:batch:us-east-1:000000000000:job-definition/hello:2"
        assert await all_of(filters=[{"name": "JOB_DEFINITION", "values": [revision]}]) == ids[5::-2]
        times = {job["jobId"]: job["createdAt"] for job in described}
        middle = times[ids[3]]
        before = await all_of(filters=[{"name": "BEFORE_CREATED_AT", "values": [str(middle)]}])
        assert set(before) == {job for job, at in times.items() if at < middle}
        after = await all_of(filters=[{"name": "AFTER_CREATED_AT", "values": [str(middle)]}])
        assert set(after) == {job for job, at in times.items() if at > middle}
        assert "nextToken is not of this list" in await refused(
            rig, batch.list_jobs, jobQueue="default", nextToken="abc"
        )
        assert "Exactly one of" in await refused(rig, batch.list_jobs)
        assert "not known" in await refused(
            rig, batch.list_jobs, jobQueue="default", filters=[{"name": "X", "values": ["y"]}]
        )
        text = await refused(rig, batch.describe_jobs, jobs=[f"{ids[0]}:{number}" for number in range(101)])
        assert "Maximum number of jobs supported is  100 ." in text
