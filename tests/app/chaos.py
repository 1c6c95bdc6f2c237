"""The workflow that test_kill_engine.py kills engines under, and the laws that its records must obey.

Each attempt appends `start <seconds> <pid>` and `end <seconds> <code>` to a file of its own, so that what the tasks did is known
from them alone, and can be held against what the store says.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowbatch.model.ids import AttemptKey
from flowbatch.model.status import RunStatus, Status
from flowbatch.store.reader import Reader

CAPACITY_MILLI: Final = 4000
LIMITED: Final = 2
LOST: Final = "Host EC2 (flowbatch) terminated."
INTERRUPTED: Final = "Interrupted; does not count as an attempt"

TASK: Final = r"""
set -u
record=$RECORDS/$FLOWBATCH_ATTEMPT_ID
echo "start $EPOCHREALTIME $$" >> "$record"
index=${AWS_BATCH_JOB_ARRAY_INDEX:-0}
finish() { echo "end $EPOCHREALTIME $1" >> "$record"; exit "$1"; }
case $FLOWBATCH_JOB in
  flaky) [ "$AWS_BATCH_JOB_ATTEMPT" -ge $(( 1 + index % 3 )) ] || finish 3 ;;
  failing) finish $(( 1 + index % 120 )) ;;
  sleeping) sleep "0.$(( index % 3 ))" ;;
  limited) sleep 0.02 ;;
  killed) kill -9 $$ ;;
  leaver) setsid sleep 300 > /dev/null 2>&1 & ;;
  late) setsid sleep 300 > /dev/null 2>&1 & sleep 300 ;;
esac
finish 0
"""

WORKFLOW: Final = """
name: chaos
environments: {small: {backend: process, vcpus: 4, memory: 4GiB}}
queues: {only: {environments: [small]}}
defaults:
  queue: only
  command: [bash, task.sh]
  env: {RECORDS: 'RECORDS_FOLDER'}
  attempts: 10
  lost_attempts: {free: 10}
  stop_grace: 1s
jobs:
  quick: {vcpus: 0.5, array: QUICK}
  second: {vcpus: 0.5, needs: [{each: quick}]}
  flaky: {array: FLAKY, retry: {attempts: 10, backoff: 10ms..40ms}}
  failing: {array: {size: 60, tolerate: 100%}, attempts: 1}
  sleeping: {vcpus: 2, array: 30}
  chain: {vcpus: 0.25, array: {size: 12, sequential: true}}
  limited: {vcpus: 0.25, array: {size: 40, max_running: 2}}
  killed: {array: {size: 8, tolerate: 100%}, attempts: 2}
  leaver: {array: 8}
  late: {vcpus: 0.25, timeout: 1s}
  gather: {needs: [second, flaky, failing, {job: late, when: done}]}
finally:
  report: {vcpus: 0.25}
"""

VCPUS: Final = {"quick": 500, "second": 500, "sleeping": 2000, "chain": 250, "limited": 250, "late": 250, "report": 250}


def write_workflow(folder: Path, *, quick: int, flaky: int) -> Path:
    records = folder / "records"
    records.mkdir()
    (folder / "task.sh").write_text(TASK, encoding="utf-8")
    text = WORKFLOW.replace("RECORDS_FOLDER", str(records)).replace("QUICK", str(quick)).replace("FLAKY", str(flaky))
    path = folder / "chaos-flow.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def expected_code(job: str, index: int, attempt: int) -> int:
    """What the task above exits with."""
    match job:
        case "flaky":
            return 0 if attempt >= 1 + index % 3 else 3
        case "failing":
            return 1 + index % 120
        case "killed":
            return 137
        case "late":
            return 143
        case _:
            return 0


@dataclass(frozen=True)
class Seen:
    """One attempt: what the store says, and what the task wrote itself (times in milliseconds)."""

    job: str
    key: AttemptKey
    code: int | None
    status_reason: str | None
    stored_start: int | None
    stored_end: int
    began: float | None
    ended: float | None
    wrote: int | None


@dataclass(frozen=True)
class Task:
    job: str
    index: int
    status: Status
    attempts: tuple[Seen, ...]


def collected(reader: Reader, records: Path) -> list[list[Task]]:
    """Every task of every run. Each file of an attempt belongs to an attempt of the store, and nothing was started twice."""
    lines = {path.name: path.read_text(encoding="utf-8").splitlines() for path in records.iterdir()}
    runs = []
    for run in reader.runs():
        assert run.status is not RunStatus.RUNNING
        tasks = []
        for job in reader.jobs(run):
            for task in reader.tasks(job):
                index = task.index or 0
                seen = []
                for attempt in reader.attempts(job, index):
                    assert attempt.stopped_at is not None
                    began, ended, wrote = parsed(attempt.key.id, lines.pop(attempt.key.id, []))
                    seen.append(
                        Seen(
                            job.name, attempt.key, attempt.exit_code, attempt.status_reason, attempt.started_at,
                            attempt.stopped_at, began, ended, wrote,
                        )
                    )  # fmt: skip
                assert [each.key.attempt for each in seen] == list(range(1, len(seen) + 1)), seen
                tasks.append(Task(job.name, index, task.status, tuple(seen)))
        runs.append(tasks)
    assert not lines, f"these ran, and the store does not know them: {sorted(lines)}"
    return runs


def parsed(attempt: str, lines: list[str]) -> tuple[float | None, float | None, int | None]:
    if not lines:
        return None, None, None
    words = [line.split() for line in lines]
    assert [word[0] for word in words] in (["start"], ["start", "end"]), f"{attempt}: {lines}"
    began = float(words[0][1]) * 1000
    return (began, None, None) if len(words) == 1 else (began, float(words[1][1]) * 1000, int(words[1][2]))


def check(tasks: list[Task], supervisor_deaths: list[float]) -> int:
    """The laws of one run. Returns how many attempts were lost."""
    lost = 0
    for task in tasks:
        for seen in task.attempts:
            if interrupted(seen):
                assert seen.began is None, seen  # decided by an engine that died before it could say so to anybody
                assert seen.stored_start is None, seen
            elif seen.code is None:
                lost += 1
                assert seen.status_reason == LOST, seen
                since = seen.stored_start if seen.stored_start is not None else 0
                assert any(since <= at <= seen.stored_end + 1 for at in supervisor_deaths), (
                    f"lost without a cause: {seen}"
                )
            else:
                assert seen.code == expected_code(task.job, task.index, seen.key.attempt), seen
                assert seen.began is not None, seen
                assert seen.wrote == (None if task.job in ("killed", "late") else seen.code), seen
        check_attempts(task)
    check_order(tasks)
    attempts = [seen for task in tasks for seen in task.attempts if seen.began is not None]
    assert most_at_once(attempts) <= CAPACITY_MILLI
    assert most_at_once([seen for seen in attempts if seen.job == "limited"], weigh=False) <= LIMITED
    assert most_at_once([seen for seen in attempts if seen.job == "chain"], weigh=False) == 1
    return lost


def interrupted(seen: Seen) -> bool:
    return seen.status_reason == INTERRUPTED


def check_attempts(task: Task) -> None:
    """As many as the policy gives: free losses and charged tries."""
    uncharged = sum(interrupted(seen) for seen in task.attempts)
    losses = sum(seen.code is None for seen in task.attempts) - uncharged
    tries = len(task.attempts) - uncharged - min(losses, 10)
    good = task.attempts[-1].code == 0
    assert task.status is (Status.SUCCEEDED if good else Status.FAILED), task
    assert all(seen.code != 0 for seen in task.attempts[:-1]), task
    match task.job:
        case "failing" | "late":
            assert tries == 1, task
        case "killed":
            assert tries == 2, task
        case "flaky":
            assert good
            assert len(task.attempts) >= 1 + task.index % 3, task
        case _:
            assert good, task
            assert tries == 1, task


def check_order(tasks: list[Task]) -> None:
    """Nothing began before what it needs had ended."""
    by_job: dict[str, list[Task]] = {}
    for task in tasks:
        by_job.setdefault(task.job, []).append(task)
    for first, second in zip(by_job["quick"], by_job["second"], strict=True):
        assert began(second) >= ended(first), (first, second)
    for before, after in zip(by_job["chain"], by_job["chain"][1:], strict=False):
        assert began(after) >= ended(before), (before, after)
    needed = [task for job in ("second", "flaky", "failing", "late") for task in by_job[job]]
    assert began(by_job["gather"][0]) >= max(ended(task) for task in needed)
    assert began(by_job["report"][0]) >= max(ended(task) for task in tasks if task.job != "report")


def began(task: Task) -> float:
    return min((seen.began for seen in task.attempts if seen.began is not None), default=float("inf"))


def ended(task: Task) -> float:
    return max(end_of(seen) for seen in task.attempts)


def end_of(seen: Seen) -> float:
    """Its own word, or where it was killed, the store's."""
    return seen.ended if seen.ended is not None else float(seen.stored_end)


def most_at_once(attempts: list[Seen], *, weigh: bool = True, vcpus: Mapping[str, int] = VCPUS) -> int:
    """The largest sum of vCPUs (or number) that ever ran at one instant, from the tasks' own records."""
    running: list[tuple[float, int]] = []
    now = most = 0
    for seen in sorted(attempts, key=lambda seen: seen.began or 0.0):
        while running and running[0][0] <= (seen.began or 0.0):
            now -= heapq.heappop(running)[1]
        amount = vcpus.get(seen.job, 1000) if weigh else 1
        heapq.heappush(running, (end_of(seen), amount))
        now += amount
        most = max(most, now)
    return most
