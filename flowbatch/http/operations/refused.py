"""SageMaker's part of AWS Batch (aws-batch.md §9.8): it runs on that service, and is refused in so many words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from flowbatch.http.calls import Answer, Call
from flowbatch.http.failures import ClientFailure

SAGEMAKER: Final = (
    "CreateQuotaShare", "CreateServiceEnvironment", "DeleteQuotaShare", "DeleteServiceEnvironment", "DescribeQuotaShare",
    "DescribeServiceEnvironments", "DescribeServiceJob", "ListQuotaShares", "ListServiceJobs", "SubmitServiceJob",
    "TerminateServiceJob", "TerminateServiceJobs", "UpdateQuotaShare", "UpdateServiceEnvironment", "UpdateServiceJob",
)  # fmt: skip


def sagemaker(name: str) -> Callable[[Call], Awaitable[Answer]]:
    """The operation of that name."""

    async def refuse(call: Call) -> Answer:
        call.allow()
        raise ClientFailure(
            f"{name} is of SageMaker: service jobs, service environments and quota shares do not exist here"
        )

    return refuse
