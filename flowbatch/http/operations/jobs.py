"""DescribeJobs and ListJobs (aws-batch.md §14.3–14.5)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from flowbatch.http.calls import Answer, Call, context_of_tags
from flowbatch.http.failures import ClientFailure
from flowbatch.http.operations.identifiers import job_name
from flowbatch.http.operations.job_details import child_summary, detail, node, node_summaries, summaries
from flowbatch.http.operations.shapes import Shape, Token, read
from flowbatch.http.pages import page_size
from flowbatch.model.status import Status
from flowbatch.store import pages

IDS_MAX: Final = 100
PAGE_MAX: Final = 1000
FILTERED_MAX: Final = 100
StatusName = Literal["SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING", "SUCCEEDED", "FAILED"]


class DescribeJobsInput(Shape):
    jobs: list[str]


class Filter(Shape):
    name: str
    values: Annotated[list[str], Field(min_length=1)]


class ListJobsInput(Shape):
    jobQueue: str | None = None
    arrayJobId: str | None = None
    multiNodeJobId: str | None = None
    jobStatus: StatusName | None = None
    maxResults: int | None = None
    nextToken: Token | None = None
    filters: list[Filter] | None = None


async def describe_jobs(call: Call) -> Answer:
    """Unknown ones are silently missing, and so are those that the caller may not see."""
    given = read(DescribeJobsInput, call.given)
    if len(given.jobs) > IDS_MAX:
        raise ClientFailure(f"Maximum number of jobs supported is  {IDS_MAX} .")
    service, found = call.service, []
    call.tries()  # who may describe all jobs together: the record says so
    for text in dict.fromkeys(given.jobs):
        name = job_name(service.account, text)
        seen = service.reader.described(name.job, name.index)
        if seen is None or (name.index is not None and not 0 <= name.index < (seen.job.size or 0)):
            continue
        tags = dict(service.spec(seen.job).tags) if seen.tags is None else seen.tags
        target = call.target(service.account.arn("job", str(name)), context_of_tags(tags) if tags else None)
        if call.allows(target):
            if call.decision is None:
                call.allow(target)
            shown = detail(service, seen, name.index) if name.node is None else node(service, seen, name.node)
            found += [] if shown is None else [shown]
    if call.decision is None:
        call.allow()  # nothing of it may be seen, and who may see nothing at all is told so
    return {"jobs": found}


async def list_jobs(call: Call) -> Answer:
    given = read(ListJobsInput, call.given)
    call.allow()
    given_of = [key for key in ("jobQueue", "arrayJobId", "multiNodeJobId") if getattr(given, key)]
    if len(given_of) != 1:
        raise ClientFailure("Exactly one of jobQueue, arrayJobId and multiNodeJobId is needed")
    question = given.model_dump(exclude={"maxResults", "nextToken"})
    cursor = call.service.pages.cursor(question, given.nextToken) if given.nextToken is not None else None
    if given.jobQueue is None:
        return children(call, given, question, cursor)
    queue = call.service.account.name_of("job-queue", given.jobQueue)
    if queue not in call.service.state.queues:
        raise ClientFailure(f"JobQueue {queue} not found")
    numbers, last = numbers_of(call, given, queue, cursor)
    service = call.service
    answer: dict[str, Any] = {"jobSummaryList": summaries(service, *pages.listed(service.reader, numbers))}
    if last is not None:
        answer["nextToken"] = service.pages.token(question, last)
    return answer


Cursor = list[str | int]


def numbers_of(call: Call, given: ListJobsInput, queue: str, cursor: Cursor | None) -> tuple[list[int], Cursor | None]:
    """The page's jobs, and where it ended if there is more."""
    reader = call.service.reader
    if not given.filters:
        size = page_size(given.maxResults, PAGE_MAX)
        status = Status[given.jobStatus or "RUNNING"]
        before = None if cursor is None else number(cursor, 0)
        return cut(pages.by_status(reader, queue, status, before, size + 1), size)
    if len(given.filters) > 1:
        raise ClientFailure("Only one filter can be used")
    size = page_size(given.maxResults, FILTERED_MAX)
    name, [value, *more] = given.filters[0].name, given.filters[0].values
    if more:
        raise ClientFailure(f"The filter {name} takes one value")
    match name:
        case "JOB_NAME":
            return by_name(call, queue, value, cursor, size)
        case "JOB_DEFINITION":
            return by_definition(call, queue, value, cursor, size)
        case "BEFORE_CREATED_AT" | "AFTER_CREATED_AT":
            if not (value.isascii() and value.isdigit() and len(value) <= 15):
                raise ClientFailure(f"The filter {name} takes a time in milliseconds since the epoch")
            look = pages.created_before if name == "BEFORE_CREATED_AT" else pages.created_after
            last = None if cursor is None else (number(cursor, 0), number(cursor, 1))
            rows = look(reader, queue, int(value), last, size + 1)
            shown = rows[:size]
            beyond: Cursor | None = [shown[-1][1], shown[-1][0]] if len(rows) > size else None
            return [no for no, _ in shown], beyond
        case "SHARE_IDENTIFIER":
            return by_share(call, given, queue, value, cursor, size)
        case _:
            known = "JOB_NAME, JOB_DEFINITION, BEFORE_CREATED_AT, AFTER_CREATED_AT, SHARE_IDENTIFIER"
            raise ClientFailure(f"The filter {name[:64]!r} is not known; there are {known}")


def by_share(
    call: Call, given: ListJobsInput, queue: str, share: str, cursor: Cursor | None, size: int
) -> tuple[list[int], Cursor | None]:
    """Of any status, or of the one that is given."""
    status = None if given.jobStatus is None else Status[given.jobStatus]
    before = None if cursor is None else number(cursor, 0)
    return cut(pages.by_share(call.service.reader, queue, share, status, before, size + 1), size)


def by_name(call: Call, queue: str, value: str, cursor: Cursor | None, size: int) -> tuple[list[int], Cursor | None]:
    reader = call.service.reader
    if not value.endswith("*"):
        before = None if cursor is None else number(cursor, 0)
        return cut(pages.by_name(reader, queue, value, before, size + 1), size)
    after = None if cursor is None else (str(cursor[0]), number(cursor, 1))
    return cut_named(pages.by_name_prefix(reader, queue, value[:-1], after, size + 1), size)


def by_definition(
    call: Call, queue: str, value: str, cursor: Cursor | None, size: int
) -> tuple[list[int], Cursor | None]:
    """A name (any revision of it, or of all that begin so) or a revision's ARN."""
    reader, account = call.service.reader, call.service.account
    if value.startswith("arn:"):
        before = None if cursor is None else number(cursor, 0)
        return cut(pages.by_definition(reader, queue, account.name_of("job-definition", value), before, size + 1), size)
    first = value[:-1] if value.endswith("*") else f"{value}:"
    beyond = first + pages.HIGHEST if value.endswith("*") else f"{value};"  # `;` comes after `:`
    after = None if cursor is None else (str(cursor[0]), number(cursor, 1))
    return cut_named(pages.by_definitions(reader, queue, first, beyond, after, size + 1), size)


def number(cursor: Cursor, at: int) -> int:
    return int(cursor[at])


def cut(numbers: list[int], size: int) -> tuple[list[int], Cursor | None]:
    shown = numbers[:size]
    return shown, [shown[-1]] if len(numbers) > size else None


def cut_named(rows: list[tuple[int, str]], size: int) -> tuple[list[int], Cursor | None]:
    shown = rows[:size]
    return [no for no, _ in shown], [shown[-1][1], shown[-1][0]] if len(rows) > size else None


def children(call: Call, given: ListJobsInput, question: object, cursor: Cursor | None) -> Answer:
    """Of an array, in the order of their indices."""
    service = call.service
    name = job_name(service.account, given.arrayJobId or given.multiNodeJobId or "")
    job = service.reader.job(name.job)
    if job is None:
        raise ClientFailure(f"Job {name} not found")
    if given.multiNodeJobId is not None:
        wanted = given.jobStatus or "RUNNING"
        return {"jobSummaryList": [each for each in node_summaries(service, job) if each["status"] == wanted]}
    if job.size is None:
        raise ClientFailure(f"Job {name} is no array job")
    size = page_size(given.maxResults, PAGE_MAX)
    first = 0 if cursor is None else number(cursor, 0)
    definition = service.spec(job).definition
    found: list[dict[str, Any]] = []
    answer: dict[str, Any] = {"jobSummaryList": found}
    for task in service.reader.tasks(job, [(first, job.tasks - 1)], status=Status[given.jobStatus or "RUNNING"]):
        if len(found) == size:
            answer["nextToken"] = service.pages.token(question, [task.index or 0])
            break
        found.append(child_summary(service, job, definition, task))
    return answer
