"""The semantics a second time, as a naive recursion over a plan: which task must end how, after how many attempts.

It knows nothing of time, so it is silent (`Ambiguous`) where two causes of an end race each other.
"""

from __future__ import annotations

from msgspec import Struct, field

from flowbatch.core.commands import FINALLY_TOO_LONG
from flowbatch.core.members import layout_of
from flowbatch.model.ids import JobId, RunId
from flowbatch.model.jobspec import Action, After, Condition, JobPlan, JobSpec, Part, RetryPolicy, RunPlan, Stage, When
from flowbatch.model.status import RunStatus, Status
from tests.sim.plans import Script, Scripts
from tests.sim.store import DictStore

OK, BAD = Status.SUCCEEDED, Status.FAILED
MISSED = -1  # a `when` that will never fire: skipped
FINALLY_MS = 30 * 60_000


class Ambiguous(Exception):
    """Which of two causes comes first decides, and nothing here knows."""


class Reference(Struct):
    plan: RunPlan
    scripts: Scripts
    jobs: dict[JobId, JobPlan] = field(default_factory=dict)
    known: dict[JobId, tuple[Status, list[tuple[Status, int]]]] = field(default_factory=dict)

    def outcome(self, job: JobId) -> tuple[Status, list[tuple[Status, int]]]:
        """Of the job, and of each task with its attempts."""
        if job not in self.known:
            self.known[job] = self.evaluate(self.jobs[job].spec, job)
        return self.known[job]

    def evaluate(self, spec: JobSpec, job: JobId) -> tuple[Status, list[tuple[Status, int]]]:
        whole = {answer(need.when, self.outcome(need.job)[0]) for need in spec.needs if not need.each}
        if spec.size == 0:
            verdict = decide(whole)
            return (BAD if verdict == BAD else OK), []
        tasks: list[tuple[Status, int]] = []
        for idx in range(spec.tasks):
            causes = set(whole)
            causes |= {answer(n.when, self.outcome(n.job)[1][idx][0]) for n in spec.needs if n.each}
            if spec.sequential and idx:
                causes.add(tasks[idx - 1][0])
            verdict = decide(causes)
            if verdict == MISSED:
                tasks.append((OK, 0))
            elif verdict == BAD:
                tasks.append((BAD, 0))
            else:
                tasks.append(self.attempts(spec, job, idx))
        failed = sum(status is BAD for status, _ in tasks)
        status = tasks[0][0] if spec.size is None else BAD if failed > spec.tolerate else OK
        return status, tasks

    def attempts(self, spec: JobSpec, job: JobId, idx: int) -> tuple[Status, int]:
        attempt = 0
        if spec.members is not None:
            return self.crew_attempts(spec, job, idx)
        while True:
            attempt += 1
            script = self.scripts.of(job, idx, attempt)
            if script.duration_ms is None:
                assert spec.timeout_ms is not None
                return BAD, attempt  # timed out, and never retried
            if script.code == 0 and not script.refused:
                return OK, attempt
            if attempt >= spec.retry.attempts or not retried(spec.retry, *shown(script)):
                return BAD, attempt

    def crew_attempts(self, spec: JobSpec, job: JobId, idx: int) -> tuple[Status, int]:
        """By the main node alone, which has one essential container in worlds that are looked at here."""
        layout = layout_of(spec)
        assert layout is not None
        span = layout.spans[layout.main]
        needful = [member for member in span if layout.parts[member].essential]
        if len(needful) > 1:
            raise Ambiguous
        attempt = 0
        while True:
            attempt += 1
            scripts = [self.scripts.of(job, idx, attempt, member) for member in span]
            node = [layout.parts[member] for member in span]
            script = scripts[needful[0] - span[0]]
            if not begins(node, scripts, needful[0] - span[0]):
                end: tuple[str | None, str | None, str] = shown(script) if script.refused else HOPELESS
                if not all(holds(node, scripts, each) for each in node[needful[0] - span[0]].after):
                    end = HOPELESS
            elif script.duration_ms is None:
                assert spec.timeout_ms is not None
                return BAD, attempt
            elif script.code == 0:
                return OK, attempt
            else:
                end = shown(script)
            if attempt >= spec.retry.attempts or not retried(spec.retry, *end):
                return BAD, attempt


HOPELESS = (None, "it depends on", "Task failed to start")


def begins(node: list[Part], scripts: list[Script], place: int) -> bool:
    return not scripts[place].refused and all(holds(node, scripts, each) for each in node[place].after)


def holds(node: list[Part], scripts: list[Script], after: After) -> bool:
    if not begins(node, scripts, after.part):
        return False
    return after.condition is not Condition.SUCCESS or scripts[after.part].code == 0


def shown(script: Script) -> tuple[str | None, str | None, str]:
    """Exit code, container.reason and statusReason of an attempt that does this."""
    if script.refused:
        return None, "CannotStartContainerError: no such file", "Task failed to start"
    reason = "OutOfMemoryError: Container killed due to memory usage" if script.oom else None
    return str(script.code), reason, "Essential container in task exited"


def retried(policy: RetryPolicy, code: str | None, reason: str | None, status_reason: str) -> bool:
    """The rules of aws-batch.md §4 alone."""
    for rule in policy.rules:
        pairs = ((rule.exit_code, code), (rule.reason, reason), (rule.status_reason, status_reason))
        if all(pattern is None or like(pattern, value) for pattern, value in pairs):
            return rule.action is Action.RETRY
    return True


def like(pattern: str, value: str | None) -> bool:
    if pattern == "*":
        return True
    if value is None:
        return False
    return value.startswith(pattern[:-1]) if pattern[-1] == "*" else value == pattern


def answer(when: When, status: Status) -> int:
    if when is When.DONE or (status is OK) == (when is When.SUCCESS):
        return OK
    return MISSED if when is When.FAILURE else BAD


def decide(causes: set[int]) -> int:
    if MISSED in causes and BAD in causes:
        raise Ambiguous
    return BAD if BAD in causes else MISSED if MISSED in causes else OK


def compare(store: DictStore, plans: dict[RunId, RunPlan], scripts: Scripts) -> None:
    for plan in plans.values():
        reference = Reference(plan, scripts, {job.id: job for job in plan.jobs})
        try:
            expected = {job.id: reference.outcome(job.id) for job in plan.jobs}
        except Ambiguous:
            continue
        no = store.run_no[plan.id]
        if overlong(store, no):
            continue
        for number in store.jobs_of[no]:
            job = store.job_plans[number]
            status, tasks = expected[job.id]
            assert store.jobs[number].status is status, f"{job.id}: {store.jobs[number].status.name}, not {status.name}"
            for idx, (want, attempts) in enumerate(tasks):
                found = Status(store.status_of(number, idx))
                assert found is want, f"{job.id}:{idx}: {found.name}, not {want.name}"
                row = store.tasks[number].get(idx)
                tried = 0 if row is None else row.attempt
                assert tried == attempts, f"{job.id}:{idx}: {tried} attempts, not {attempts}"
        failed = any(status is BAD for status, _ in expected.values())
        want_run = RunStatus.FAILED if failed else RunStatus.SUCCEEDED
        assert store.runs[no].status is want_run, f"{plan.id}: {store.runs[no].status.name}"


def overlong(store: DictStore, run: int) -> bool:
    """Whether what `finally` did was cut short: nothing here knows of time, but that it may take so long is known."""
    jobs = [store.jobs[number] for number in store.jobs_of[run]]
    cut = [job.rest_at or 0 for job in jobs if job.rest_reason == FINALLY_TOO_LONG]
    for number in store.jobs_of[run]:
        cut += [row.stopped_at or 0 for row in store.tasks[number].values() if row.status_reason == FINALLY_TOO_LONG]
    if not cut:
        return False
    began = max((job.stopped_at or 0 for job in jobs if job.stage is Stage.MAIN), default=0)
    assert min(cut) - began >= FINALLY_MS, f"run {run}: `finally` was cut short after {min(cut) - began} ms"
    return True
