"""Ids of jobs as callers write them: `UUID`, `UUID:child`, `UUID#node`, or the ARN of one (aws-batch.md §14.6)."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from flowbatch.http.arns import Account
from flowbatch.http.failures import ClientFailure
from flowbatch.model.ids import JobId

_ID: Final = re.compile(
    r"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(?:([:#])([0-9]{1,5}))?", re.ASCII
)


class JobName(Struct, frozen=True):
    """`index`: a child's; `node`: a node's."""

    job: JobId
    index: int | None = None
    node: int | None = None

    def __str__(self) -> str:
        if self.index is not None:
            return f"{self.job}:{self.index}"
        return self.job if self.node is None else f"{self.job}#{self.node}"


def job_name(account: Account, text: str) -> JobName:
    """Raises ClientFailure where it is no id at all."""
    found = _ID.fullmatch(account.name_of("job", text))
    if found is None:
        raise ClientFailure(
            f"{text[:200]!r} is no job id; one reads 01234567-89ab-4cde-8f01-23456789abcd, a child's ID:3"
        )
    job, kind, number = found.groups()
    if kind is None:
        return JobName(JobId(job))
    return JobName(JobId(job), int(number)) if kind == ":" else JobName(JobId(job), node=int(number))
