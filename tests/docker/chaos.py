"""The workflow that test_kill_engine.py kills engines under, in containers, and the laws that its records must obey.

As with processes (tests/app/chaos.py), each attempt appends what it does to a file of its own, on a folder of this machine that all
containers mount: whether something ran twice is known from the tasks alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowbatch.model.status import Status
from tests.app.chaos import LOST, Seen, Task, began, ended, interrupted, most_at_once
from tests.docker.engine import IMAGE

CAPACITY_MILLI: Final = 4000

TASK: Final = r"""
record=/records/$FLOWBATCH_ATTEMPT_ID
echo "start $EPOCHREALTIME 0" >> "$record"
index=${AWS_BATCH_JOB_ARRAY_INDEX:-0}
finish() { echo "end $EPOCHREALTIME $1" >> "$record"; exit "$1"; }
case $FLOWBATCH_JOB in
  flaky) [ "$AWS_BATCH_JOB_ATTEMPT" -ge $(( 1 + index % 3 )) ] || finish 3 ;;
  failing) finish $(( 1 + index * 7 )) ;;
  sleeping) sleep "0.$(( index % 3 ))" ;;
  killed) kill -9 $$ ;;
  hungry) exec tail /dev/zero ;;
  late) sleep 300 ;;
  victim) [ "$AWS_BATCH_JOB_ATTEMPT" -gt 1 ] || sleep 30 ;;
esac
finish 0
"""

WORKFLOW: Final = """
name: chaos
environments: {small: {backend: docker, vcpus: 4, memory: 4GiB}}
queues: {only: {environments: [small]}}
defaults:
  queue: only
  image: IMAGE
  network: none
  memory: 16MiB
  volumes: ['./records:/records', './task.sh:/task.sh:ro']
  command: [sh, /task.sh]
  attempts: 10
  lost_attempts: {free: 10}
  stop_grace: 1s
jobs:
  victim: {vcpus: 0.1, array: VICTIMS}
  quick: {vcpus: 0.5, array: 24}
  second: {vcpus: 0.5, needs: [{each: quick}]}
  flaky: {vcpus: 0.5, array: 15, retry: {attempts: 10, backoff: 10ms..40ms}}
  failing: {vcpus: 0.5, array: {size: 16, tolerate: 100%}, attempts: 1}
  sleeping: {array: 6}
  killed: {vcpus: 0.5, array: {size: 3, tolerate: 100%}, attempts: 2}
  hungry: {vcpus: 0.5, attempts: 1, array: {size: 2, tolerate: 100%}}
  absent: {vcpus: 0.5, attempts: 1, array: {size: 2, tolerate: 100%}, command: [/no/such/command]}
  late: {vcpus: 0.25, timeout: 1s, attempts: 1}
  gather: {needs: [second, flaky, failing, victim, {job: late, when: done}]}
finally:
  report: {vcpus: 0.25}
"""

SINGLE_TRY: Final = ("failing", "hungry", "absent", "late")
VCPUS: Final = {"victim": 100, "sleeping": 1000, "gather": 1000, "late": 250, "report": 250}


def write_workflow(folder: Path, victims: int) -> Path:
    (folder / "records").mkdir()
    (folder / "task.sh").write_text(TASK, encoding="utf-8")
    path = folder / "chaos-flow.yaml"
    path.write_text(WORKFLOW.replace("IMAGE", IMAGE).replace("VICTIMS", str(victims)), encoding="utf-8")
    return path


def expected_code(job: str, index: int, attempt: int) -> int:
    match job:
        case "flaky":
            return 0 if attempt >= 1 + index % 3 else 3
        case "failing":
            return 1 + index * 7
        case "killed" | "hungry":
            return 137
        case "absent":
            return 127
        case "late":
            return 143
        case _:
            return 0


def check(tasks: list[Task], removed: set[str]) -> int:
    """The laws of one run. `removed`: ids of attempts whose containers were taken away by hand. Returns how many attempts began."""
    for task in tasks:
        for seen in task.attempts:
            if interrupted(seen):
                assert seen.began is None, seen
                assert seen.stored_start is None, seen
            elif seen.code is None:
                assert seen.status_reason == LOST, seen
                assert seen.key.id in removed, f"lost without a cause: {seen}"
                assert seen.wrote in (None, 0), seen  # it may have come to its end right before it was taken away
            else:
                check_end(task, seen)
                assert seen.key.id not in removed, f"taken away, and yet it has a code: {seen}"
        check_tries(task)
    check_order(tasks)
    attempts = [seen for task in tasks for seen in task.attempts if seen.began is not None]
    assert most(attempts) <= CAPACITY_MILLI
    return len(attempts)


def check_end(task: Task, seen: Seen) -> None:
    assert seen.code == expected_code(task.job, task.index, seen.key.attempt), seen
    if task.job == "absent":
        assert seen.began is None, seen
    else:
        assert seen.began is not None, seen
        assert seen.wrote == (None if task.job in ("killed", "hungry", "late") else seen.code), seen


def check_tries(task: Task) -> None:
    """As many as the policy gives: a loss is free, every other end is charged."""
    assert all(seen.code != 0 for seen in task.attempts[:-1]), task
    good = task.attempts[-1].code == 0
    assert task.status is (Status.SUCCEEDED if good else Status.FAILED), task
    charged = sum(seen.code is not None for seen in task.attempts)
    if task.job in SINGLE_TRY:
        assert charged == 1, task
    elif task.job == "killed":
        assert charged == 2, task
    elif task.job == "flaky":
        assert charged == 1 + task.index % 3, task
    else:
        assert good, task
        assert charged == 1, task


def check_order(tasks: list[Task]) -> None:
    """Nothing began before what it needs had ended."""
    by_job: dict[str, list[Task]] = {}
    for task in tasks:
        by_job.setdefault(task.job, []).append(task)
    for first, second in zip(by_job["quick"], by_job["second"], strict=True):
        assert began(second) >= ended(first), (first, second)
    needed = [task for job in ("second", "flaky", "failing", "victim", "late") for task in by_job[job]]
    assert began(by_job["gather"][0]) >= max(ended(task) for task in needed)
    assert began(by_job["report"][0]) >= max(ended(task) for task in tasks if task.job not in ("report", "absent"))


def most(attempts: list[Seen]) -> int:
    return most_at_once(attempts, vcpus={job: VCPUS.get(job, 500) for job in {seen.job for seen in attempts}})
