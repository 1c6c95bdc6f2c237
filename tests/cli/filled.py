"""A state folder with a history: the real machine decides what happens, the real store keeps it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import anyio
from msgspec.structs import replace

from flowbatch.folder import StateFolder
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, JobId, Millis, RunId, log_name
from flowbatch.model.jobspec import Environment, JobPlan, JobSpec, RunPlan
from flowbatch.model.outcome import Outcome
from flowbatch.model.rows import Writes
from flowbatch.model.stimuli import Stimulus, SubmitRun
from flowbatch.store.writer import SqliteStore
from tests.core.builders import World, parse, short


def id_of(name: str) -> str:
    """The UUID of a run or job with that name in tests."""
    return str(uuid5(NAMESPACE_OID, name))


class History(World):
    """A world whose turns are remembered, so that they can be committed to a store. Times are in milliseconds from 1,000."""

    def __init__(self, *environments: Environment, child_events: ChildEvents = ChildEvents.NONE) -> None:
        self.writes: list[Writes] = []
        super().__init__(*environments, child_events=child_events)

    def tell(self, *stimuli: Stimulus, at: int | None = None) -> Outcome:
        outcome = super().tell(*stimuli, at=at)
        self.writes.append(outcome.writes)
        return outcome

    def begin(self, run: str, *jobs: JobPlan, workflow: str = "flow", **changes: object) -> None:
        """Submits a run of jobs; both get UUIDs made of their names."""
        named = tuple(renamed(each, run) for each in jobs)
        plan = RunPlan(RunId(id_of(run)), workflow, named, file="/flows/flow.yaml", source="jobs: {}")
        self.tell(SubmitRun(1, replace(plan, **changes)))

    def key(self, text: str, run: str = "run") -> AttemptKey:
        """`a:3#2`, `a@1` as the machine knows it."""
        key = parse(text)
        return key._replace(job=JobId(id_of(f"{run}/{key.job}")))

    def name(self, text: str, run: str = "run") -> str:
        """For `start`, `end` and `refuse`."""
        return short(self.key(text, run))

    def done(self, *names: str, code: int = 0, run: str = "run", at: int | None = None) -> None:
        """Attempts start and end, a second later each."""
        for name in names:
            self.now = Millis(self.now + 1000 if at is None else at)
            self.start(self.name(name, run))
            self.now = Millis(self.now + 500)
            self.end(self.name(name, run), code=code)

    def store(self, path: Path) -> StateFolder:
        """Commits all of it below the path and returns the folder, held by nobody."""
        folder = StateFolder(path)
        folder.create()
        anyio.run(commit_all, folder, self.writes)
        self.writes = []
        return folder

    def log(self, folder: StateFolder, name: str, *lines: str | bytes, run: str = "run") -> Path:
        """The log of an attempt: `o text` and `e text`, one second apart from 1970-01-01 00:00:01 UTC on."""
        path = folder.logs / log_name(self.key(name, run).id)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = [line if isinstance(line, bytes) else line.encode() for line in lines]
        path.write_bytes(b"".join(b"%d %b\n" % (1000 * number, line) for number, line in enumerate(data, 1)))
        return path


def renamed(plan: JobPlan, run: str) -> JobPlan:
    needs = tuple(replace(need, job=JobId(id_of(f"{run}/{need.job}"))) for need in plan.spec.needs)
    spec: JobSpec = replace(plan.spec, needs=needs)
    return replace(plan, id=JobId(id_of(f"{run}/{plan.spec.key}")), spec=spec)


async def commit_all(folder: StateFolder, writes: list[Writes]) -> None:
    store = await SqliteStore.open(folder.database, boot_id="boot", pid=os.getpid(), now=Millis(1000))
    try:
        await store.load()
        for each in merged(writes):
            await store.commit(each)
    finally:
        await store.close()


def merged(writes: list[Writes]) -> list[Writes]:
    """The same in as few commits as may be: a turn that reopens tasks must find those before it stored."""
    found = [Writes()]
    for each in writes:
        if each.reopened:
            found.append(Writes())
        found[-1].absorb(each)
    return found
