"""A store of dicts that takes Writes as the SQL store does, and gives Loaded back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from msgspec.structs import replace

from flowbatch.core.members import Layout, layout_of
from flowbatch.model.definition import DefinitionRow, KnownRevision
from flowbatch.model.events import EventRow
from flowbatch.model.ids import ALONE, JobId, Millis, RunId
from flowbatch.model.jobspec import JobPlan, RunPlan, Stage
from flowbatch.model.rows import (
    AttemptRow,
    EndedJob,
    EnvironmentRow,
    HeadRow,
    JobRow,
    Loaded,
    MemberRow,
    PlainTasks,
    QueueRow,
    RunRow,
    SchedulingPolicyRow,
    TaskRow,
    UsageKey,
    UsageRow,
    Writes,
)
from flowbatch.model.status import RunStatus
from flowbatch.model.tokens import TokenRow, TokenUpdateRow


class DictStore:
    def __init__(self) -> None:
        self.life = 0
        self.boot = 1  # the first life since the machine booted
        self.run_plans: dict[int, RunPlan] = {}
        self.job_plans: dict[int, JobPlan] = {}
        self.jobs_of: dict[int | None, list[int]] = defaultdict(list)  # None: without a run
        self.job_no: dict[JobId, int] = {}
        self.run_no: dict[RunId, int] = {}
        self.runs: dict[int, RunRow] = {}
        self.jobs: dict[int, JobRow] = {}
        self.tasks: dict[int, dict[int, TaskRow]] = defaultdict(dict)
        self.live: dict[tuple[int, int], TaskRow] = {}  # of those, what is STARTING or RUNNING
        self.layouts: dict[int, Layout | None] = {}  # of jobs
        self.attempts: dict[tuple[int, int, int], AttemptRow] = {}
        self.members: dict[tuple[int, int, int, int], MemberRow] = {}
        self.crews: dict[tuple[int, int, int], dict[int, MemberRow]] = defaultdict(dict)  # the same by attempt
        self.images: dict[tuple[int, ...], str] = {}
        self.events: list[EventRow] = []
        self.tokens: dict[str, TokenRow] = {}
        self.token_updates: dict[tuple[str, str], Millis] = {}
        self.definitions: dict[tuple[str, int], DefinitionRow] = {}
        self.environments: dict[str, EnvironmentRow] = {}
        self.queues: dict[str, QueueRow] = {}
        self.scheduling: dict[str, SchedulingPolicyRow] = {}
        self.usage: dict[UsageKey, UsageRow] = {}
        self.heads: dict[str, HeadRow] = {}

    def commit(self, writes: Writes) -> None:
        """All of it or nothing; what SQLite would refuse is refused here."""
        for job, first, last in writes.reopened:
            for idx in range(first, last + 1):
                self.keep_attempt(self.tasks[job][idx])
        for no, plan in writes.new_runs:
            assert no not in self.run_plans, f"run {no} is stored twice"
            assert plan.id not in self.run_no, f"run {plan.id} is stored twice"
            self.run_plans[no] = plan
            self.run_no[plan.id] = no
        for no, run, job_plan in writes.new_jobs:
            assert no not in self.job_plans, f"job {no} is stored twice"
            assert job_plan.id not in self.job_no, f"job {job_plan.id} is stored twice"
            self.job_plans[no] = job_plan
            self.layouts[no] = layout_of(job_plan.spec)
            self.job_no[job_plan.id] = no
            self.jobs_of[run].append(no)
        self.runs.update(writes.runs)
        self.jobs.update(writes.jobs)
        for (no, idx), row in writes.tasks.items():
            self.tasks[no][idx] = row
            if row.status.live:
                self.live[no, idx] = row
            else:
                self.live.pop((no, idx), None)
        for attempt in writes.attempts:
            key = (attempt.job, attempt.idx, attempt.attempt)
            assert key not in self.attempts, f"attempt {key} ends twice"
            assert attempt.stopped_at is not None, f"attempt {key} has no end"
            self.attempts[key] = attempt
        self.members.update(writes.members)
        for (no, idx, number, member), seat in writes.members.items():
            self.crews[no, idx, number][member] = seat
        for told in writes.images:
            assert told[:4] not in self.images, f"the image of {told} is told twice"
            suffix = "" if told.member == ALONE else f".{told.member}"
            assert told.image == f"{self.jobs[told.job].id}.{told.idx}.{told.attempt}{suffix}", (
                f"{told} is another's image"
            )
            self.images[told[:4]] = told.image
        self.events += writes.events
        for name, token in writes.tokens.items():
            self.tokens.pop(name, None)
            if token is not None:
                assert token.run is None or token.run in self.runs, f"{name} is of no run"
                self.tokens[name] = token
        for new in writes.definitions:
            assert (new.name, new.revision) not in self.definitions, f"{new.id} is stored twice"
            self.definitions[new.name, new.revision] = new
        for name, revision, at in writes.deregistered:
            held = self.definitions[name, revision]
            assert held.active, f"{held.id} is deregistered twice"
            self.definitions[name, revision] = held._replace(active=False, deregistered_at=at)
        for name, environment in writes.environments.items():
            self.environments.pop(name, None)
            if environment is not None:
                self.environments[name] = environment
        for name, queue in writes.queues.items():
            self.queues.pop(name, None)
            if queue is not None:
                self.queues[name] = queue
        for once, made_at in writes.token_updates.items():
            self.token_updates.pop(once, None)
            if made_at is not None:
                self.token_updates[once] = made_at
        for name, policy in writes.scheduling.items():
            self.scheduling.pop(name, None)
            if policy is not None:
                self.scheduling[name] = policy
        for share, usage in writes.usage.items():
            if usage is None:
                self.usage.pop(share, None)
            else:
                self.usage[share] = usage
        for name, head in writes.heads.items():
            if head is None:
                self.heads.pop(name, None)
            else:
                self.heads[name] = head

    def keep_attempt(self, row: TaskRow) -> None:
        if row.status.terminal and row.attempt and row.stopped_at is not None:
            self.attempts.setdefault(
                (row.job, row.idx, row.attempt),
                AttemptRow(
                    row.job, row.idx, row.attempt, row.environment, row.started_at, row.stopped_at, row.exit_code,
                    row.reason, row.status_reason, row.truncated,
                ),
            )  # fmt: skip

    def begin_life(self, *, rebooted: bool) -> Loaded:
        self.life += 1
        if rebooted:
            self.boot = self.life
        return self.load()

    def load(self) -> Loaded:
        """What is open, as a life would find it now."""
        alone = [no for no in self.jobs_of[None] if not self.jobs[no].status.terminal]
        loaded = self.loaded([no for no, row in self.runs.items() if row.status is RunStatus.RUNNING], alone)
        known = [
            KnownRevision(each.name, each.revision, each.active, each.digest) for each in self.definitions.values()
        ]
        shared = [row for row in self.tokens.values() if row.run is None]
        return replace(
            loaded,
            definitions=sorted(known),
            environments=[self.environments[name] for name in sorted(self.environments)],
            queues=[self.queues[name] for name in sorted(self.queues)],
            token_updates=[TokenUpdateRow(*once, made_at) for once, made_at in self.token_updates.items()],
            scheduling=list(self.scheduling.values()),
            usage=list(self.usage.values()),
            heads=list(self.heads.values()),
            tokens=shared + loaded.tokens,
        )

    def has_ended(self, run: RunId) -> bool:
        no = self.run_no.get(run)
        return no is not None and self.runs[no].status is not RunStatus.RUNNING

    def load_run(self, run: RunId) -> Loaded | None:
        if not self.has_ended(run):
            return None
        found = self.loaded([self.run_no[run]])
        own = {plan.id for _row, plan in found.jobs}
        needed = dict.fromkeys(need.job for _row, plan in found.jobs for need in plan.spec.needs if need.job not in own)
        return replace(found, ended=[ended for each in needed if (ended := self.ended_job(each)) is not None])

    def ended_job(self, job: JobId) -> EndedJob | None:
        """As whoever takes a submission finds it."""
        no = self.job_no.get(job)
        if no is None or not self.jobs[no].status.terminal:
            return None
        spec = self.job_plans[no].spec
        cells = bytes(self.status_of(no, idx) for idx in range(spec.tasks))
        return EndedJob(
            job, spec.key, self.jobs[no].status, spec.size, cells, self.job_plans[no].stage is Stage.FINALLY
        )

    def loaded(self, runs: list[int], alone: Iterable[int] = ()) -> Loaded:
        jobs = [*(no for run in runs for no in self.jobs_of[run]), *alone]
        tasks = [row for no in jobs for row in self.tasks[no].values() if not row.plain]
        plain = [plain_tasks(no, [row for row in self.tasks[no].values() if row.plain]) for no in jobs]
        return Loaded(
            self.life,
            self.boot,
            len(self.run_plans) + 1,
            len(self.job_plans) + 1,
            [(self.runs[no], self.run_plans[no]) for no in runs],
            [(self.jobs[no], self.job_plans[no]) for no in jobs],
            tasks,
            members=self.live_members(set(jobs)),
            tokens=[row for row in self.tokens.values() if row.run in runs],
            plain=plain,
        )

    def live_members(self, jobs: set[int]) -> list[MemberRow]:
        """Of the attempts that are STARTING or RUNNING."""
        attempts = [(no, idx, row.attempt) for (no, idx), row in self.live.items() if no in jobs]
        return [row for each in attempts if each in self.crews for row in self.crews[each].values()]

    def status_of(self, job: int, idx: int) -> int:
        """Of a task, as the rows say it."""
        row = self.tasks[job].get(idx)
        return self.jobs[job].rest if row is None else row.status


def plain_tasks(job: int, rows: list[TaskRow]) -> PlainTasks:
    return PlainTasks(job, [row.idx for row in rows], [row.status for row in rows], [row.attempt for row in rows])
