"""Runs, jobs and events of the native API."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Final

import anyio
from msgspec.structs import replace
from pydantic import Field

from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.failures import ClientFailure
from flowbatch.http.native.routes import NotFound, Query, asked
from flowbatch.http.native.shapes import (
    AttemptSaid,
    AttemptsSaid,
    ChildrenSaid,
    EventSaid,
    EventsSaid,
    FoundSaid,
    JobSaid,
    JobsSaid,
    MemberSaid,
    MembersSaid,
    RunDetailsSaid,
    RunsSaid,
    StatusName,
    TaskSaid,
    WhySaid,
)
from flowbatch.http.native.streams import EVENTS, Message, Messages, Raw, Stream, as_events, closed
from flowbatch.http.native.subjects import job_of, job_said, job_target, known_run, run_of, run_said, run_target
from flowbatch.http.operations.shapes import Natural, Whole
from flowbatch.store import plans
from flowbatch.store.results import JobView, RunView

PAGE_MAX: Final = 1000
STILL_HERE_S: Final = 15.0
COALESCE_S: Final = 0.1  # between one message of a run and the next
LOOK_S: Final = 1.0  # at what everything waits for


class Page(Query):
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = 50
    before: Whole | None = Field(None, description="`next` of the page before.")


class Children(Query):
    first: Whole = 0
    last: Whole | None = None
    status: StatusName | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX


class OfTask(Query):
    index: Whole = 0
    attempt: Natural | None = Field(None, description="The last one unless it is given.")


class OfChild(Query):
    index: Whole | None = None


class Address(Query):
    address: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="RUN[/JOB[:INDICES][@NODE][#ATTEMPT]]"
    )


class Since(Query):
    since: Whole | None = Field(None, description="After this number; a stream begins now unless it is given.")
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX)] = PAGE_MAX
    run: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    follow: bool = Field(
        False, description="As server-sent events, and on as they come; so too with `Accept: text/event-stream`."
    )


async def list_runs(call: Call) -> RunsSaid:
    """List runs, the newest first."""
    call.allow()
    given = asked(call, Page)
    page = call.service.reader.runs(limit=given.limit + 1, before=given.before)
    shown = page[: given.limit]
    return RunsSaid(runs=[run_said(call, run) for run in shown], next=shown[-1].no if len(page) > given.limit else None)


async def get_run(call: Call) -> RunDetailsSaid:
    """A run by its id, the beginning of one, a workflow's name (its newest run) or `last`."""
    run, reader = run_of(call), call.service.reader
    said = run_said(call, run)
    params = dict(reader.plan(run).params)
    return RunDetailsSaid(**said.model_dump(), params=params, jobs=jobs_said(call, run))


async def list_jobs_of_run(call: Call) -> JobsSaid:
    """The jobs of a run, in the order of its file."""
    return JobsSaid(jobs=jobs_said(call, run_of(call)))


def jobs_said(call: Call, run: RunView) -> list[JobSaid]:
    return [job_said(call, job) for job in call.service.reader.jobs(run)]


async def get_run_plan(call: Call) -> Raw:
    """What the run was resolved to, without its jobs, its source and who is notified."""
    plan = call.service.reader.plan(run_of(call))
    return Raw(plans.run_json(replace(plan, notify=())).encode(), "application/json")


async def get_job(call: Call) -> JobSaid:
    """A job by its id."""
    return job_said(call, job_of(call))


async def get_job_plan(call: Call) -> Raw:
    """What a job was resolved to: its command, resources, needs, retries."""
    return Raw(plans.job_json(call.service.reader.job_plan(job_of(call))).encode(), "application/json")


async def list_children(call: Call) -> ChildrenSaid:
    """Children of an array in the order of their indices; of a single, itself."""
    job, given = job_of(call), asked(call, Children)
    last = job.tasks - 1 if given.last is None else min(given.last, job.tasks - 1)
    spans = [(given.first, last)] if given.first <= last else []
    found = list(islice(call.service.reader.tasks(job, spans, status=given.status), given.limit + 1))
    shown = found[: given.limit]
    beyond = found[given.limit].index if len(found) > given.limit else None
    return ChildrenSaid(children=[TaskSaid.of(task) for task in shown], next=beyond)


async def get_states(call: Call) -> Raw:
    """The statuses of all children, packed: a byte each, from 0, SUBMITTED, to 6, FAILED, by index."""
    job = job_of(call)
    live = call.service.state.jobs.get(job.id)
    if live is not None:
        return Raw(bytes(cell & 7 for cell in live.cells), "application/octet-stream")
    ended = call.service.reader.ended_job(job.id)
    if ended is None:
        raise NotFound(f"There is no job {job.id}")
    return Raw(bytes(ended.cells), "application/octet-stream")


async def list_attempts(call: Call) -> AttemptsSaid:
    """Attempts of a single, or of the child of that index."""
    job, given = job_of(call), asked(call, OfTask)
    found = call.service.reader.attempts(job, within(job, given.index))
    chosen = [each for each in found if given.attempt in (None, each.key.attempt)]
    return AttemptsSaid(attempts=[AttemptSaid.of(each) for each in chosen])


async def list_members(call: Call) -> MembersSaid:
    """Nodes or containers of an attempt."""
    job, given = job_of(call), asked(call, OfTask)
    found = call.service.reader.members(job, within(job, given.index), given.attempt)
    return MembersSaid(members=[MemberSaid.of(each) for each in found])


def within(job: JobView, index: int) -> int:
    if index >= job.tasks:
        raise ClientFailure(f"{job.name} has no child {index}; it has {job.tasks}")
    return index


async def explain(call: Call) -> WhySaid:
    """One sentence: what an open job, or a child of it, waits for."""
    job, given = job_of(call), asked(call, OfChild)
    told = await call.service.verbs.call("why", {"job": job.id, "index": given.index})
    return WhySaid(why=None if told is None else str(told))


async def resolve(call: Call) -> FoundSaid:
    """What an address of the command line means."""
    given = asked(call, Address)
    try:
        found = call.service.reader.resolve(given.address)
    except InputError as error:
        call.allow(run_target(call, given.address.partition("/")[0]))
        raise NotFound(str(error)) from None
    if found.run is not None:
        call.allow(run_target(call, found.run.id))
    elif found.job is not None:
        call.allow(job_target(call, found.job.id))
    return FoundSaid(
        run=None if found.run is None else run_said(call, found.run),
        job=None if found.job is None else job_said(call, found.job),
        indices=None if found.indices is None else list(found.indices),
        failed=found.failed,
        attempt=found.attempt,
        member=found.member,
    )


# --- events


async def list_events(call: Call) -> EventsSaid | Stream:
    """The event log behind a number: a page of it, or a stream that goes on as events come."""
    given = asked(call, Since)
    run = of_events(call, given.run)
    reader = call.service.reader
    last = reader.last_seq()
    if given.follow or EVENTS in call.request.headers.get("accept", ""):
        said = call.request.headers.get("last-event-id", "")
        since = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else given.since
        after = last if since is None else since
        return Stream(EVENTS, lambda: as_events(event_messages(call, after, run)), call.service.live.slow_s)
    found = reader.events(after=given.since or 0, run=run, limit=given.limit)
    return EventsSaid(events=[EventSaid.of(each) for each in found], last=last)


def of_events(call: Call, name: str | None) -> RunView | None:
    """The run whose events are asked for, or all. Raises AccessDenied, NotFound."""
    if name is not None:
        return known_run(call, name)
    call.allow()
    return None


async def event_messages(call: Call, after: int, run: RunView | None) -> Messages:
    """Read behind a cursor as the client takes them: nothing waits here for a slow one."""
    live, reader, looked = call.service.live, call.service.reader, -COALESCE_S
    while not live.closing:
        await anyio.sleep(
            max(looked + COALESCE_S - anyio.current_time(), 0)
        )  # of many turns together, however many listen
        looked = anyio.current_time()
        news, last = live.news, reader.last_seq()
        page = reader.events(after=after, run=run, limit=PAGE_MAX)
        for event in page:
            yield Message(EventSaid.of(event), number=event.seq)
        after = page[-1].seq if len(page) == PAGE_MAX else max([after, last, *(event.seq for event in page[-1:])])
        if len(page) == PAGE_MAX:
            looked = -COALESCE_S
            continue
        if not call.still_valid():
            yield closed("the key is no longer valid")
            return
        with anyio.move_on_after(STILL_HERE_S) as waited:
            await news.wait()
        if waited.cancelled_caught:
            yield None
    yield closed("the server ends")


# --- one run, as it goes


async def follow_run(call: Call) -> Stream:
    """A run as server-sent events: all there is of it, then what changes, until it has ended (`over`)."""
    run = run_of(call)
    return Stream(EVENTS, lambda: as_events(progress_messages(call, run)), call.service.live.slow_s)


async def progress_messages(call: Call, run: RunView) -> Messages:
    live = call.service.live
    feed = await live.open_feed(run)
    quiet = 0.0
    try:
        said = await feed.first()
        yield Message(said)
        while not said.over:
            with anyio.move_on_after(LOOK_S) as waited:
                await feed.wake.wait()
            if live.closing:
                yield closed("the server ends; the run goes on with its next start")
                return
            if not call.still_valid():
                yield closed("the key is no longer valid")
                return
            if waited.cancelled_caught and live.hold_ups() == feed.waits:
                quiet += LOOK_S
                if quiet >= STILL_HERE_S:
                    quiet = 0.0
                    yield None
                continue
            await anyio.sleep(COALESCE_S)
            said = await feed.next()
            yield Message(said)
    finally:
        feed.close()
