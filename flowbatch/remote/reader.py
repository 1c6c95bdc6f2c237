"""Runs, jobs and events of a server, as a reader of a store gives them: verbs show both alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from msgspec.structs import replace

from flowbatch.http.native.definition_shapes import DefinitionsSaid
from flowbatch.http.native.shapes import (
    AttemptsSaid,
    ChildrenSaid,
    EventsSaid,
    FoundSaid,
    JobSaid,
    JobsSaid,
    MembersSaid,
    RunSaid,
    RunsSaid,
)
from flowbatch.model.definition import DefinitionRow, revision_id
from flowbatch.model.jobspec import JobPlan, RunPlan
from flowbatch.model.status import Status
from flowbatch.remote.channel import Channel, NotThere
from flowbatch.store import plans
from flowbatch.store.results import AttemptView, Event, Found, JobView, MemberView, RunView, TaskView

PAGE: Final = 1000


class RemoteReader:
    """Use it in a `with`. Each question is one to the server; what a run's jobs are, and their single tasks, are told at once."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._singles: dict[str, TaskView] = {}  # as they were told with their jobs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A server's answers are of one moment each, and no more."""
        yield

    def runs(self, *, limit: int = 50, before: int | None = None) -> list[RunView]:
        found: list[RunView] = []
        while len(found) < limit:
            page = RunsSaid.model_validate(
                self._channel.get("runs", limit=min(limit - len(found), PAGE), before=before)
            )
            found += [each.view() for each in page.runs]
            before = page.next
            if before is None:
                break
        return found

    def run(self, name: str) -> RunView:
        return RunSaid.model_validate(self._channel.get("runs", name)).view()

    def resolve(self, address: str) -> Found:
        said = FoundSaid.model_validate(self._channel.get("resolve", address=address))
        if said.job is not None:
            self._keep(said.job)
        return said.view()

    def plan(self, run: RunView) -> RunPlan:
        """With its jobs, without its source and who is notified."""
        data, _ = self._channel.raw("runs", run.id, "plan")
        whole = plans.run_plan(data.decode())
        return replace(whole, jobs=tuple(self.job_plan(job) for job in self.jobs(run)))

    def jobs(self, run: RunView) -> list[JobView]:
        said = JobsSaid.model_validate(self._channel.get("runs", run.id, "jobs"))
        return [self._keep(each) for each in said.jobs]

    def job(self, job_id: str) -> JobView | None:
        try:
            return self._keep(JobSaid.model_validate(self._channel.get("jobs", job_id)))
        except NotThere:
            return None

    def _keep(self, said: JobSaid) -> JobView:
        if said.task is not None:
            self._singles[said.id] = said.task.view()
        return said.view()

    def job_plan(self, job: JobView) -> JobPlan:
        data, _ = self._channel.raw("jobs", job.id, "plan")
        return plans.job_plan(data.decode())

    def tasks(
        self, job: JobView, indices: Iterable[tuple[int, int]] | None = None, *, status: Status | None = None
    ) -> Iterator[TaskView]:
        """Read a page at a time."""
        name = None if status is None else status.name
        for low, last in ((0, job.tasks - 1),) if indices is None else indices:
            first: int | None = low
            while first is not None:
                asked = self._channel.get("jobs", job.id, "children", first=first, last=last, status=name, limit=PAGE)
                page = ChildrenSaid.model_validate(asked)
                yield from (each.view() for each in page.children)
                first = page.next

    def task(self, job: JobView, index: int = 0) -> TaskView:
        told = self._singles.pop(job.id, None)  # once: asked again, it may have changed
        return told if told is not None else next(self.tasks(job, [(index, index)]))

    def attempts(self, job: JobView, index: int = 0) -> list[AttemptView]:
        said = AttemptsSaid.model_validate(self._channel.get("jobs", job.id, "attempts", index=index))
        return [each.view() for each in said.attempts]

    def members(self, job: JobView, index: int = 0, attempt: int | None = None) -> list[MemberView]:
        if attempt == 0:
            attempt = None
        asked = self._channel.get("jobs", job.id, "members", index=index, attempt=attempt)
        return [each.view() for each in MembersSaid.model_validate(asked).members]

    def events(self, *, after: int = 0, run: RunView | None = None, limit: int = 1000) -> list[Event]:
        name = None if run is None else run.id
        said = self._channel.get("events", since=after, limit=min(limit, PAGE), run=name)
        return [each.view() for each in EventsSaid.model_validate(said).events]

    # --- job definitions

    def definitions(self, *, every: bool = False) -> Iterator[DefinitionRow]:
        """Read a page at a time."""
        after: str | None = None
        while True:
            asked = self._channel.get("definitions", every=every, after=after, limit=PAGE)
            page = DefinitionsSaid.model_validate(asked)
            yield from (each.view() for each in page.definitions)
            after = page.next
            if after is None:
                return

    def revisions(self, name: str, *, limit: int = PAGE) -> list[DefinitionRow]:
        said = DefinitionsSaid.model_validate(self._channel.get("definitions", name, limit=limit))
        return [each.view() for each in said.definitions]

    def revision(self, name: str, revision: int) -> DefinitionRow | None:
        return next(iter(self.revisions(revision_id(name, revision), limit=1)), None)

    def definition_names(self) -> list[str]:
        return list(dict.fromkeys(row.name for row in self.definitions(every=True)))

    def last_seq(self) -> int:
        return EventsSaid.model_validate(self._channel.get("events", since=0, limit=1)).last
