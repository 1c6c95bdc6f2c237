"""Names of things: UUIDs at the edges, one key per attempt inside."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple, NewType

Ticket = int  # of a command, given by its caller; the Answer carries it back
Millis = NewType("Millis", int)  # since the epoch, as AWS Batch has it
RunId = NewType("RunId", str)  # a UUID
JobId = NewType("JobId", str)  # a UUID; an array child is shown as `UUID:index`
AttemptId = NewType("AttemptId", str)  # `UUID.index.attempt[.member]`: safe in file names, labels and environments


def uuid_text(chance: bytes) -> str:
    """A random UUID of 16 bytes, as `uuid.UUID(bytes=…, version=4)` writes it, at a third of the price: each request has one."""
    text = chance.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[chance[8] >> 4 & 3]}{text[17:20]}-{text[20:]}"


class TaskKey(NamedTuple):
    """One execution slot of a job: the single itself (index 0) or one child of an array."""

    job: JobId
    idx: int


ALONE: Final = -1  # the member of an attempt that is one process or container


class AttemptKey(NamedTuple):
    """One attempt of one task. The number goes on over retries and generations, from 1.

    An attempt of several nodes or containers has members, from 0: to a backend each of them is an attempt.
    """

    job: JobId
    idx: int
    attempt: int
    member: int = ALONE

    @property
    def task(self) -> TaskKey:
        return TaskKey(self.job, self.idx)

    @property
    def id(self) -> AttemptId:
        if self.member < 0:
            return AttemptId(f"{self.job}.{self.idx}.{self.attempt}")
        return AttemptId(f"{self.job}.{self.idx}.{self.attempt}.{self.member}")

    @classmethod
    def parse(cls, text: str) -> AttemptKey:
        """Raises ValueError when the text is no attempt id."""
        job, index, attempt, *member = text.split(".")
        if len(member) > 1:
            raise ValueError(f"{text!r} is no attempt id")
        return cls(JobId(job), int(index), int(attempt), int(member[0]) if member else ALONE)

    def of_member(self, member: int) -> AttemptKey:
        return AttemptKey(self.job, self.idx, self.attempt, member)


LOG_CUT: Final = ".cut"  # after a log's name: a file that says that its beginning is gone, where the store may not know


def log_name(attempt: AttemptId) -> str:
    """Where an attempt's log lies below the folder of logs: spread over 256 folders."""
    return f"{zlib.crc32(attempt.encode()) & 0xFF:02x}/{attempt}.log"


def node_id(job: JobId, node: int) -> str:
    """AWS's id of a node of a multi-node parallel job."""
    return f"{job}#{node}"


def node_name(job: JobId, node: int) -> str:
    """What other nodes of the job can resolve, where a backend has names: no other job has the same."""
    return f"node-{node}.{job}"


def child_id(job: JobId, size: int | None, index: int) -> str:
    """AWS's id of a task: the job's own for a single, `UUID:index` for a child."""
    return job if size is None else f"{job}:{index}"
