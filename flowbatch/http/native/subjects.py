"""The run or the job that a call is about: looked up, and allowed before anything of it is said."""

from __future__ import annotations

from flowbatch.errors import InputError
from flowbatch.http.calls import Call
from flowbatch.http.native.routes import NotFound, variable
from flowbatch.http.native.shapes import JobSaid, RunSaid
from flowbatch.http.operations.submission import job_tags
from flowbatch.http.policies import Target
from flowbatch.model.ids import JobId
from flowbatch.store.results import JobView, RunView

ANY_RUN = "*"


def run_target(call: Call, name: str) -> Target:
    """A run's id, or whatever it was called by where there is none: who may not see a run learns nothing of it."""
    return call.target(call.service.account.arn("run", name))


def job_target(call: Call, job: str) -> Target:
    tags = call.tags_of("job", job, lambda: job_tags(call, JobId(job)))
    return call.target(call.service.account.arn("job", job), tags)


def run_of(call: Call) -> RunView:
    """By id, unique prefix, workflow name or `last`. Raises AccessDenied, NotFound."""
    return known_run(call, variable(call, "run"))


def known_run(call: Call, name: str) -> RunView:
    """Likewise."""
    try:
        found = call.service.reader.run(name)
    except InputError as error:
        call.allow(run_target(call, name))
        raise NotFound(str(error)) from None
    call.allow(run_target(call, found.id))
    return found


def job_of(call: Call) -> JobView:
    """By its id. Raises AccessDenied, NotFound."""
    name = variable(call, "job")
    call.allow(job_target(call, name))
    found = call.service.reader.job(name)
    if found is None:
        raise NotFound(f"There is no job {name[:64]}")
    return found


def run_said(call: Call, run: RunView) -> RunSaid:
    live = call.service.state.runs.get(run.id)
    return RunSaid.of(run, interrupted=live is not None and live.held)


def job_said(call: Call, job: JobView) -> JobSaid:
    return JobSaid.of(job, call.service.reader.task(job) if job.size is None else None)
