"""Everything that people ask of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace
from pydantic_core import from_json

from flowbatch.core.members import layout_of
from flowbatch.model.access import AuditRow, KeyRow, PolicyRow
from flowbatch.model.definition import DefinitionRow
from flowbatch.model.ids import ALONE, AttemptKey, Millis
from flowbatch.model.jobspec import JobPlan, RunPlan
from flowbatch.model.rows import EndedJob, EnvironmentRow, Loaded, QueueRow, ShelfRow, TaskRow
from flowbatch.model.status import RunStatus, Status
from flowbatch.model.tokens import TokenRow
from flowbatch.store import access, loading, lookup, plans, queries, server_queries, statements, views
from flowbatch.store.ended import ended_job
from flowbatch.store.results import (
    AttemptView,
    Described,
    Event,
    FailureGroup,
    Found,
    JobView,
    MemberView,
    RunView,
    TaskView,
)
from flowbatch.store.session import Session

if TYPE_CHECKING:
    from flowbatch.store.pages import Listed

WINDOW: Final = 1000  # children read at once
GROUPS_MAX: Final = 200
JOB_COLUMNS: Final = 18  # of JOB_BY_ID
FOR_EVER: Final = 2**62


class Reader(Session):
    """Runs, jobs, tasks, attempts and events. Use it in a `with`."""

    def open_work(self) -> Loaded:
        """As a life of the engine would find it now."""
        from flowbatch.store.lives import open_work

        with self.snapshot():
            return self.reading(lambda db: open_work(db, ""))

    # --- places

    def environments(self) -> tuple[EnvironmentRow, ...]:
        """The engine's own, deleted ones that the settings declare included."""
        return tuple(loading.environment_row(row) for row in self.rows(statements.ENVIRONMENTS))

    def queues(self) -> tuple[QueueRow, ...]:
        return tuple(loading.queue_row(row) for row in self.rows(statements.QUEUES))

    def shelves(self) -> tuple[ShelfRow, ...]:
        """The library, with the files that are gone."""
        return tuple(
            ShelfRow(name, digest, content, seen_at, bool(gone), run, tuple(from_json(queued)))
            for name, digest, content, seen_at, gone, run, queued in self.rows(statements.SHELVES)
        )

    # --- runs

    def runs(self, *, limit: int = 50, before: int | None = None) -> list[RunView]:
        """The newest first; `before` is the `no` of the last one of the page before."""
        return [views.run_view(row) for row in self.rows(queries.RUNS, FOR_EVER if before is None else before, limit)]

    def open_runs(self, *, limit: int = 1000) -> list[RunView]:
        """In order of submission."""
        return [views.run_view(row) for row in self.rows(queries.OPEN_RUNS, limit)]

    def has_run(self, run_id: str) -> bool:
        return bool(self.rows(queries.RUN_BY_ID, run_id))

    def run(self, name: str) -> RunView:
        """By id, unique prefix, workflow name (its newest) or `last`. Raises InputError."""
        with self.snapshot():
            return lookup.run(self, name)

    def resolve(self, address: str) -> Found:
        """Raises InputError that says which part of the address means nothing here."""
        with self.snapshot():
            return lookup.resolve(self, address)

    def ended_before(self, before: Millis) -> int:
        """How many runs `collect` would take."""
        return int(self.rows(queries.ENDED_BEFORE, before)[0][0])

    def plan(self, run: RunView) -> RunPlan:
        """The whole plan, jobs and source included, as it was submitted."""
        with self.snapshot():
            [(plan, source)] = self.rows(queries.PLAN_OF_RUN, run.no)
            jobs = tuple(loading.whole(plans.job_plan, text) for (text,) in self.rows(queries.PLANS_OF_JOBS, run.no))
        return replace(loading.whole(plans.run_plan, plan), jobs=jobs, source=source)

    def source(self, run: RunView) -> str:
        """The text of the workflow file that the run was started from."""
        [(_plan, source)] = self.rows(queries.PLAN_OF_RUN, run.no)
        return str(source)

    # --- jobs and tasks

    def jobs(self, run: RunView) -> list[JobView]:
        with self.snapshot():
            counts = self._counts(queries.COUNTS_OF_RUN, run.no)
            return [views.job_view(row, counts) for row in self.rows(queries.JOBS_OF_RUN, run.no)]

    def job(self, job_id: str) -> JobView | None:
        for row in self.rows(queries.JOB_BY_ID, job_id):
            if row[-1] is None:  # a single is its one task
                return views.job_view(row, {row[0]: {loading.STATUSES[row[4]]: 1}})
            return views.job_view(row, self._counts(queries.COUNTS_OF_JOB, row[0]))
        return None

    def job_plan(self, job: JobView | Listed) -> JobPlan:
        [(plan,)] = self.rows(queries.PLAN_OF_JOB, job.no)
        return loading.whole(plans.job_plan, plan)

    def tasks(
        self, job: JobView, indices: Iterable[tuple[int, int]] | None = None, *, status: Status | None = None
    ) -> Iterator[TaskView]:
        """Its children in order, those that rest included; of a single, itself. Read a window at a time."""
        if status is not None and not job.counts.get(status):
            return
        for first, last in ((0, job.tasks - 1),) if indices is None else indices:
            for low in range(first, min(last, job.tasks - 1) + 1, WINDOW):
                high = min(low + WINDOW - 1, last, job.tasks - 1)
                left = {row[1]: loading.task_row(row) for row in self.rows(queries.TASKS_BETWEEN, job.no, low, high)}
                for index in range(low, high + 1):
                    view = views.task_view(job, index, left.get(index))
                    if status is None or view.status is status:
                        yield view

    def task(self, job: JobView, index: int = 0) -> TaskView:
        rows = self.rows(queries.TASKS_BETWEEN, job.no, index, index)
        return views.task_view(job, index, loading.task_row(rows[0]) if rows else None)

    def attempts(self, job: JobView, index: int = 0) -> list[AttemptView]:
        """Oldest first; the last one may be under way."""
        with self.snapshot():
            found = [views.attempt_view(job.id, row) for row in self.rows(queries.ATTEMPTS_OF_TASK, job.no, index)]
            for row in self.rows(queries.TASKS_BETWEEN, job.no, index, index):
                task = loading.task_row(row)
                known = {each.key.attempt for each in found}
                if task.attempt and task.attempt not in known and not task.status.waiting:
                    found.append(views.last_attempt(job.id, task))
            images = self.images(job, index)
        return [replace(each, image=images.get((each.key.attempt, ALONE))) for each in found] if images else found

    def images(self, job: JobView, index: int = 0) -> dict[tuple[int, int], str]:
        """(attempt, member) → the very image that its container was made from."""
        rows = self.rows(queries.IMAGES_OF_TASK, job.no, index)
        return {(attempt, member): image for attempt, member, image in rows}

    def members(self, job: JobView, index: int = 0, attempt: int | None = None) -> list[MemberView]:
        """Nodes or containers of an attempt, of the last one unless one is named; none where the job has none."""
        plan = self.job_plan(job)
        layout = layout_of(plan.spec)
        if layout is None:
            return []
        task = self.task(job, index)
        number = task.attempts if attempt is None else attempt
        rows = [loading.member_row(row) for row in self.rows(queries.MEMBERS_OF_TASK, job.no, index)]
        found = {row.member: row for row in rows if row.attempt == number}
        resting = Status.RUNNABLE if task.status.live and number == task.attempts else task.status
        images = self.images(job, index)
        made = (
            views.member_view(AttemptKey(job.id, index, number, member), layout, found.get(member), resting)
            for member in range(len(layout.parts))
            if not layout.parts[member].holder
        )
        return [replace(each, image=images.get((number, each.key.member))) for each in made]

    def failures(self, run: RunView) -> list[FailureGroup]:
        """FAILED tasks in groups that failed alike, job by job, the largest first; tolerated ones are among them."""
        with self.snapshot():
            jobs = {job.no: job for job in self.jobs(run)}
            rows = self.rows(queries.FAILURES_OF_RUN, run.no, GROUPS_MAX)
        groups = []
        for no, job in jobs.items():
            alike = [views.failure_group(job, row) for row in rows if row[0] == no]
            resting = job.counts.get(Status.FAILED, 0) - sum(group.count for group in alike)
            if job.row.rest is Status.FAILED and resting > 0:
                reason = job.row.rest_reason
                alike.append(FailureGroup(job.id, job.name, job.size, None, None, reason, resting, None))
            groups += alike
        return groups

    # --- consumable resources

    def tokens(self) -> list[TokenRow]:
        """Everybody's, and those of open runs, by name."""
        return [loading.token_row(row) for row in self.rows(queries.TOKENS)]

    def tokens_in_use(self) -> dict[str, int]:
        """What the attempts that are STARTING or RUNNING hold."""
        found: dict[str, int] = {}
        for demand, count in self.rows(queries.LIVE_WITH_TOKENS):
            for name, quantity in from_json(demand):
                found[name] = found.get(name, 0) + quantity * count
        return found

    # --- job definitions

    def definitions(self, *, every: bool = False, after: tuple[str, int] = ("", 0)) -> Iterator[DefinitionRow]:
        """By name: the latest ACTIVE revision of each, or every revision there is, behind one of them. Read a window at a time."""
        last = after
        while True:
            if every:
                rows = self.rows(queries.ALL_REVISIONS, *last, WINDOW)
            else:
                rows = self.rows(queries.LATEST_DEFINITIONS, last[0], WINDOW)
            yield from map(loading.definition_row, rows)
            if len(rows) < WINDOW:
                return
            last = rows[-1][:2]

    def revisions_after(self, name: str | None, last: str, revision: int) -> Iterator[DefinitionRow]:
        """Every revision there is, or of that name, behind one of them, by name and number. Read a window at a time."""
        while True:
            if name is not None and last != name:
                last, revision = name, 0
            rows = self.rows(queries.ALL_REVISIONS, last, revision, WINDOW)
            for row in map(loading.definition_row, rows):
                if name is not None and row.name != name:
                    return
                yield row
            if len(rows) < WINDOW:
                return
            last, revision = rows[-1][:2]

    def revisions(self, name: str, *, limit: int = WINDOW) -> list[DefinitionRow]:
        """The newest first."""
        return [loading.definition_row(row) for row in self.rows(queries.REVISIONS, name, limit)]

    def latest_revision(self, name: str) -> DefinitionRow | None:
        """The latest ACTIVE one."""
        rows = self.rows(queries.LATEST_REVISION, name)
        return loading.definition_row(rows[0]) if rows else None

    def revision(self, name: str, revision: int) -> DefinitionRow | None:
        rows = self.rows(queries.REVISION, name, revision)
        return loading.definition_row(rows[0]) if rows else None

    def definition_names(self) -> list[str]:
        return [name for (name,) in self.rows(queries.DEFINITION_NAMES, WINDOW)]

    # --- jobs, as the server asks for them

    def described(self, job_id: str, index: int | None) -> Described | None:
        """`index`: of a child. One look for what was begun once at most."""
        at = index or 0
        for row in self.rows(server_queries.DESCRIBED, at, job_id):
            columns, tags, task_columns = row[:JOB_COLUMNS], row[JOB_COLUMNS], row[JOB_COLUMNS + 1 :]
            task = None if task_columns[0] is None else loading.task_row(task_columns)
            if columns[-1] is None:
                counts = {row[0]: {loading.STATUSES[row[4]]: 1}}
            else:
                counts = self._counts(queries.COUNTS_OF_JOB, row[0]) if index is None else {}
            job = views.job_view(columns, counts)
            return Described(
                job,
                None if tags is None else from_json(tags),
                views.task_view(job, at, task),
                self._begun(job, at, task),
            )
        return None

    def _begun(self, job: JobView, index: int, task: TaskRow | None) -> list[AttemptView]:
        if task is None or not task.attempt:
            return []
        if task.attempt == 1 and not task.status.waiting:
            return [views.last_attempt(job.id, task)]
        return self.attempts(job, index)

    def run_ids(self, head: str) -> list[str]:
        """Those that begin so."""
        return [run_id for (run_id,) in self.rows(server_queries.RUN_IDS, head, head + "\uffff", WINDOW)]

    def job_ids(self, head: str) -> list[str]:
        return [job_id for (job_id,) in self.rows(server_queries.JOB_IDS, head, head + "\uffff", WINDOW)]

    def has_job(self, job_id: str) -> bool:
        return bool(self.rows(server_queries.HAS_JOB, job_id))

    def job_by_no(self, no: int) -> JobView | None:
        for row in self.rows(server_queries.JOB_BY_NO, no):
            return views.job_view(row, self._counts(queries.COUNTS_OF_JOB, no) if row[-1] is not None else {})
        return None

    def ended_job(self, job_id: str) -> EndedJob | None:
        """For a submission that needs it; None where there is none, or it is open."""
        with self.snapshot():
            return ended_job(self.rows, job_id)

    def tags(self, kind: str, name: str) -> dict[str, str] | None:
        """None: never changed."""
        for (text,) in self.rows(server_queries.TAGS, kind, name):
            return {str(key): str(value) for key, value in from_json(text).items()}
        return None

    def audit(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, AuditRow, str]]:
        """Number, row and hash, in their order."""
        return [access.audit_row(row) for row in self.rows(server_queries.AUDITED, after, limit)]

    def audit_pruned(self) -> tuple[int, str]:
        """The last record of the audit log that was let go, and its hash; 0 where all are there."""
        rows = self.rows(server_queries.AUDIT_PRUNED)
        return (int(rows[0][0]), str(rows[0][1])) if rows else (0, access.BEFORE_FIRST)

    def audit_before(self, at: int, most: int) -> tuple[int, str] | None:
        """The last of the records older than `at` (epoch milliseconds), or of the first `most` of them, and its hash. None where
        there are none. The newest record of all stays whatever its age, for it holds the end of the chain."""
        first = self.audit_pruned()[0]
        kept = self.rows(server_queries.AUDIT_KEPT_FROM, at)
        last = (int(kept[0][0]) if kept else self.last_audit()) - 1
        found = self.rows(server_queries.AUDIT_AT, min(last, first + most))
        return (int(found[0][0]), str(found[0][1])) if found else None

    def last_audit(self) -> int:
        return int(self.rows(server_queries.LAST_AUDITED)[0][0])

    def access_keys(self) -> list[KeyRow]:
        return [access.key_row(row) for row in self.rows(statements.KEYS)]

    def policies(self) -> list[PolicyRow]:
        return [access.policy_row(row) for row in self.rows(statements.POLICIES)]

    # --- events

    def events(self, *, after: int = 0, run: RunView | None = None, limit: int = 1000) -> list[Event]:
        """In order of seq. Fewer than `limit` are all that there are."""
        if run is None:
            instance = self.instance()
            return [views.event(row, instance) for row in self.rows(queries.EVENTS, after, limit)]
        with self.snapshot():
            first, last = self.rows(queries.SPAN_OF_RUN, run.no)[0]
            if first is None:
                return []
            open_now = any(row[2] == RunStatus.RUNNING for row in self.rows(queries.RUN_BY_NO, run.no))
            until = FOR_EVER if open_now else last
            rows = self.rows(queries.EVENTS_OF_RUN, run.no, max(after, first - 1), until, limit)
        instance = self.instance()
        return [views.event(row, instance) for row in rows]

    def instance(self) -> str:
        """The state folder's own id, for as long as it lives."""
        return str(self.rows(queries.INSTANCE_ID)[0][0])

    def last_seq(self) -> int:
        return int(self.rows(queries.LAST_SEQ)[0][0])

    def _counts(self, sql: str, number: int) -> dict[int, dict[Status, int]]:
        counts: dict[int, dict[Status, int]] = {}
        for job, status, count in self.rows(sql, number):
            counts.setdefault(job, {})[loading.STATUSES[status]] = count
        return counts
