"""Fair-share queues and blocked jobs over the API, called by boto3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from flowbatch.model.jobspec import Queue
from flowbatch.model.queues import FairShare
from tests.http.rig import FAKE, a_server

pytestmark = pytest.mark.slow  # boto3's clients take their time to be made

SETTINGS = replace(FAKE, queues=(Queue("default"), Queue("lab", policy=FairShare(reservation=10))))


async def test_a_share_and_a_policy_need_each_other(tmp_path: Path) -> None:
    async with a_server(tmp_path, SETTINGS) as rig:
        batch = rig.client()
        await rig.define("hello")

        async def refused(queue: str, **more: Any) -> str:
            with pytest.raises(ClientError) as caught:
                await rig.call(batch.submit_job, jobName="j", jobQueue=queue, jobDefinition="hello", **more)
            return str(caught.value.response["Error"]["Message"])

        assert "queue default is FIFO" in await refused("default", shareIdentifier="ann")
        assert "queue lab has a fair-share policy, and its jobs need a shareIdentifier" in await refused("lab")
        assert "shareIdentifier" in await refused("lab", shareIdentifier="a-b")
        made = await rig.call(
            batch.submit_job,
            jobName="j", jobQueue="lab", jobDefinition="hello", shareIdentifier="ann", schedulingPriorityOverride=7,
        )  # fmt: skip
        [job] = await rig.until_ended(batch, made["jobId"])
        assert (job["status"], job["shareIdentifier"], job["schedulingPriority"]) == ("SUCCEEDED", "ann", 7)


async def test_a_job_that_can_never_start_is_taken_and_says_so(tmp_path: Path) -> None:
    """semantics.md 18: a file is refused, a job of the API waits and shows AWS's reason at once."""
    async with a_server(tmp_path, SETTINGS) as rig:
        batch = rig.client()
        await rig.define("hello")
        need = {"resourceRequirements": [{"type": "VCPU", "value": "64"}]}
        common = {"jobQueue": "default", "jobDefinition": "hello", "containerOverrides": need}
        single = await rig.call(batch.submit_job, jobName="one", **common)
        array = await rig.call(batch.submit_job, jobName="many", arrayProperties={"size": 2}, **common)
        child = f"{array['jobId']}:1"
        found = await rig.call(batch.describe_jobs, jobs=[single["jobId"], array["jobId"], child])
        reason = (
            "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE - CE(s) associated with the job queue cannot meet the CPU "
            "requirement of the job."
        )
        told = {job["jobId"]: (job["status"], job["statusReason"]) for job in found["jobs"]}
        assert told == {
            single["jobId"]: ("RUNNABLE", reason),
            array["jobId"]: ("PENDING", reason),
            child: ("RUNNABLE", reason),
        }
        await rig.call(batch.terminate_job, jobId=single["jobId"], reason="enough")
        await rig.call(batch.terminate_job, jobId=array["jobId"], reason="enough")
        await rig.until_ended(batch, single["jobId"], array["jobId"])
