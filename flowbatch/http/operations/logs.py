"""CloudWatch Logs, enough for clients that read the logs of jobs: the group /aws/batch/job, whose streams are attempts
(aws-batch.md §1.7, §14.8)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import anyio.to_thread
from pydantic import Field

from flowbatch import tasklogs
from flowbatch.http.calls import Answer, Call, Route
from flowbatch.http.failures import ClientFailure, Failure
from flowbatch.http.operations import shapes
from flowbatch.http.operations.job_details import stream_name
from flowbatch.http.operations.shapes import Shape, Token
from flowbatch.http.service import Service
from flowbatch.model.ids import AttemptKey, log_name
from flowbatch.model.jobspec import JobSpec
from flowbatch.store.addresses import UUID
from flowbatch.store.results import JobView

GROUP: Final = "/aws/batch/job"
EVENTS_MAX: Final = 10_000
STREAMS_MAX: Final = 50
LAST_LINES: Final = 100  # among which one has a time
HEAD: Final = re.compile(r"[0-9a-f-]{8,35}")  # of a job's id: what seldom begins another


class NotFound(Failure):
    status = 400
    code = "ResourceNotFoundException"


class InvalidParameter(Failure):
    status = 400
    code = "InvalidParameterException"


class GetInput(Shape):
    logGroupName: str | None = None
    logGroupIdentifier: str | None = None
    logStreamName: Annotated[str, Field(min_length=1, max_length=512)]
    startTime: int | None = None
    endTime: int | None = None
    nextToken: Token | None = None
    limit: Annotated[int, Field(ge=1, le=EVENTS_MAX)] | None = None
    startFromHead: bool | None = None
    unmask: bool | None = None


class FilterInput(Shape):
    logGroupName: str | None = None
    logGroupIdentifier: str | None = None
    logStreamNames: Annotated[list[str], Field(min_length=1, max_length=100)] | None = None
    logStreamNamePrefix: str | None = None
    startTime: int | None = None
    endTime: int | None = None
    filterPattern: str | None = None
    nextToken: Token | None = None
    limit: Annotated[int, Field(ge=1, le=EVENTS_MAX)] | None = None
    interleaved: bool | None = None
    unmask: bool | None = None


class StreamsInput(Shape):
    logGroupName: str | None = None
    logGroupIdentifier: str | None = None
    logStreamNamePrefix: str | None = None
    orderBy: str | None = None
    descending: bool | None = None
    nextToken: Token | None = None
    limit: Annotated[int, Field(ge=1, le=STREAMS_MAX)] | None = None


class GroupsInput(Shape):
    logGroupNamePrefix: str | None = None
    logGroupNamePattern: str | None = None
    nextToken: Token | None = None
    limit: Annotated[int, Field(ge=1, le=STREAMS_MAX)] | None = None
    accountIdentifiers: list[str] | None = None
    includeLinkedAccounts: bool | None = None
    logGroupClass: str | None = None
    logGroupIdentifiers: list[str] | None = None


S = TypeVar("S", bound=Shape)


def read(shape: type[S], given: Mapping[str, Any]) -> S:
    """Raises InvalidParameter, which is what CloudWatch Logs calls it."""
    try:
        return shapes.read(shape, given)
    except ClientFailure as error:
        raise InvalidParameter(str(error)) from None


def arn(service: Service, stream: str | None = None) -> str:
    account = service.account
    group = f"arn:{account.partition}:logs:{account.region}:{account.number}:log-group:{GROUP}"
    return group if stream is None else f"{group}:log-stream:{stream}"


def judge_group(call: Call, name: str | None, identifier: str | None) -> None:
    """Raises NotFound."""
    if name != GROUP and identifier not in (GROUP, arn(call.service), arn(call.service) + ":*"):
        raise NotFound(f"The specified log group does not exist: there is {GROUP} alone")


def attempt_of(service: Service, stream: str) -> AttemptKey:
    """Raises NotFound where no attempt has this stream."""
    try:
        key = AttemptKey.parse(stream.rpartition("/")[2])
    except ValueError:
        raise NotFound("The specified log stream does not exist.") from None
    job = service.reader.job(key.job)
    if job is None or not 0 <= key.idx < job.tasks or key.attempt < 1:
        raise NotFound("The specified log stream does not exist.")
    spec = service.spec(job)
    if key.attempt > service.reader.task(job, key.idx).attempts or stream != stream_name(
        spec.definition or spec.key, key
    ):
        raise NotFound("The specified log stream does not exist.")
    return key


async def get_log_events(call: Call) -> Answer:
    """Tokens count lines: `f/12` goes on behind the twelfth, `b/12` ends before the thirteenth. At the end the same one comes again."""
    given = read(GetInput, call.given)
    call.allow(call.target(arn(call.service, given.logStreamName)))
    judge_group(call, given.logGroupName, given.logGroupIdentifier)
    key = attempt_of(call.service, given.logStreamName)
    path = call.service.logs / log_name(key.id)
    limit = given.limit or EVENTS_MAX
    lines = await anyio.to_thread.run_sync(lambda: events_between(path, given.startTime, given.endTime))
    first, last = window(given, len(lines), limit)
    shown = lines[first:last]
    return {
        "events": [event(*each) for each in shown],
        "nextForwardToken": f"f/{last}",
        "nextBackwardToken": f"b/{first}",
    }


def window(given: GetInput, total: int, limit: int) -> tuple[int, int]:
    if given.nextToken is not None:
        kind, _, text = given.nextToken.partition("/")
        if kind not in ("f", "b") or not (text.isascii() and text.isdigit() and len(text) < 12):
            raise InvalidParameter("The specified nextToken is invalid.")
        at = min(int(text), total)
        return (at, min(at + limit, total)) if kind == "f" else (max(at - limit, 0), at)
    if given.startFromHead:
        return 0, min(limit, total)
    return max(total - limit, 0), total


def events_between(path: Path, start: int | None, end: int | None) -> list[tuple[int, str]]:
    """Times and texts; a line without a time has that of the line before."""
    found, at = [], 0
    for line in tasklogs.read(path):
        at = at if line.at is None else line.at
        if (start is None or at >= start) and (end is None or at < end):
            found.append((at, line.text.decode("utf-8", "replace")))
    return found


def event(at: int, message: str) -> dict[str, Any]:
    return {"timestamp": at, "message": message, "ingestionTime": at}


async def filter_log_events(call: Call) -> Answer:
    """Of the streams that are named; the pattern is a word, or several in quotes, that the message holds."""
    given = read(FilterInput, call.given)
    names = given.logStreamNames or []
    call.allow(*(call.target(arn(call.service, name)) for name in names or ["*"]))
    judge_group(call, given.logGroupName, given.logGroupIdentifier)
    if not names:
        raise InvalidParameter("logStreamNames is needed: DescribeJobs says each job's logStreamName")
    pattern = (given.filterPattern or "").strip().strip('"')
    skip = 0
    if given.nextToken is not None:
        skip = int(call.service.pages.cursor([names, pattern, given.startTime, given.endTime], given.nextToken)[0])
    paths = [(name, call.service.logs / log_name(attempt_of(call.service, name).id)) for name in names]
    limit = given.limit or EVENTS_MAX

    def look() -> list[dict[str, Any]]:
        matching = (
            {**event(at, text), "logStreamName": name, "eventId": f"{at}-{number}"}
            for name, path in paths
            for number, (at, text) in enumerate(events_between(path, given.startTime, given.endTime))
            if pattern in text
        )
        return list(islice(matching, skip, skip + limit + 1))

    found = await anyio.to_thread.run_sync(look)
    answer: dict[str, Any] = {"events": found[:limit], "searchedLogStreams": []}
    if len(found) > limit:
        question = [names, pattern, given.startTime, given.endTime]
        answer["nextToken"] = call.service.pages.token(question, [skip + limit])
    return answer


async def describe_log_streams(call: Call) -> Answer:
    """Of one job, child, attempt or node, by a prefix that reaches into its id: there are as many streams as attempts, and nobody reads
    them all.

    A job has at most STREAMS_MAX streams here, the first ones of its first children.
    """
    given = read(StreamsInput, call.given)
    call.allow(call.target(arn(call.service, "*")))
    judge_group(call, given.logGroupName, given.logGroupIdentifier)
    prefix = given.logStreamNamePrefix or ""
    job_id = job_begun(call.service, prefix.rpartition("/")[2].partition(".")[0])
    keys = [] if job_id is None else streams_of(call.service, job_id, prefix, given.limit or STREAMS_MAX)
    found = [await stream(call.service, name, key) for name, key in keys]
    return {"logStreams": found}


def job_begun(service: Service, head: str) -> str | None:
    """The one job whose id begins so, if any does. Raises InvalidParameter where several do, or might."""
    if UUID.fullmatch(head):
        return head
    if not HEAD.fullmatch(head):
        raise InvalidParameter(
            "logStreamNamePrefix is needed, up to the whole id of a job or 8 characters of it at least (NAME/default/JOB-ID): "
            "DescribeJobs says each job's logStreamName"
        )
    found = service.reader.job_ids(head)
    if len(found) > 1:
        raise InvalidParameter(
            f"logStreamNamePrefix: the ids of several jobs begin with {head}; give more of the one meant"
        )
    return found[0] if found else None


def streams_of(service: Service, job_id: str, prefix: str, most: int) -> list[tuple[str, AttemptKey]]:
    job = service.reader.job(job_id)
    if job is None:
        return []
    spec = service.spec(job)
    named = (
        (stream_name(spec.definition or spec.key, key), key)
        for task in service.reader.tasks(job, begun(prefix, job.tasks))
        for number in range(1, task.attempts + 1)
        for key in parts_of(service, job, spec, AttemptKey(job.id, task.index or 0, number))
    )
    return list(islice((each for each in named if each[0].startswith(prefix)), most))


def parts_of(service: Service, job: JobView, spec: JobSpec, key: AttemptKey) -> Iterator[AttemptKey]:
    """The attempt, and its nodes and containers that began: each has a stream of its own, which DescribeJobs says of a node."""
    yield key
    if spec.members is not None:
        members = service.reader.members(job, key.idx, key.attempt)
        yield from (each.key for each in members if each.started_at is not None)


def begun(prefix: str, tasks: int) -> tuple[tuple[int, int], ...] | None:
    """The closed range of children that a prefix with a whole index leaves; None: all of them."""
    index, dot, _ = prefix.rpartition("/")[2].partition(".")[2].partition(".")
    known = bool(dot) and index.isascii() and index.isdigit() and int(index[:9]) < tasks
    return ((int(index), int(index)),) if known else None


async def stream(service: Service, name: str, key: AttemptKey) -> dict[str, Any]:
    path = service.logs / log_name(key.id)
    times = await anyio.to_thread.run_sync(partial(times_of, path))
    found: dict[str, Any] = {"logStreamName": name, "arn": arn(service, name), "storedBytes": 0}
    if times is not None:
        found |= {"creationTime": times[0], "firstEventTimestamp": times[0], "lastEventTimestamp": times[1]}
    return found


def times_of(path: Path) -> tuple[int, int] | None:
    """Of the first and of the last line, whatever lies between them; None: there is none."""
    first = next((line.at for line in tasklogs.read(path) if line.at is not None), None)
    last = next((line.at for line in reversed(tasklogs.tail(path, LAST_LINES)) if line.at is not None), first)
    return None if first is None or last is None else (first, last)


async def describe_log_groups(call: Call) -> Answer:
    given = read(GroupsInput, call.given)
    call.allow(call.target(arn(call.service)))
    if not GROUP.startswith(given.logGroupNamePrefix or "") or (given.logGroupNamePattern or "") not in GROUP:
        return {"logGroups": []}
    group = {"logGroupName": GROUP, "arn": arn(call.service) + ":*", "logGroupArn": arn(call.service), "storedBytes": 0}
    return {"logGroups": [group]}


def targets() -> dict[str, Route]:
    """By X-Amz-Target."""
    found = {
        "GetLogEvents": get_log_events,
        "FilterLogEvents": filter_log_events,
        "DescribeLogStreams": describe_log_streams,
        "DescribeLogGroups": describe_log_groups,
    }
    return {f"Logs_20140328.{name}": Route(name, f"logs:{name}", act, reads=True) for name, act in found.items()}
