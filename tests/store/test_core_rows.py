"""What the core writes keeps the schema's law, and comes back as it was written."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from flowbatch.core.machine import Machine
from flowbatch.core.recovery import rebuild
from flowbatch.model.effects import Launch
from flowbatch.model.ending import Evidence
from flowbatch.model.events import ChildEvents
from flowbatch.model.ids import AttemptKey, JobId, Millis
from flowbatch.model.jobspec import (
    After,
    Environment,
    JobPlan,
    JobSpec,
    Members,
    Need,
    NodeGroup,
    Part,
    Queue,
    RetryPolicy,
    RunPlan,
    Stage,
    When,
)
from flowbatch.model.resources import Resources
from flowbatch.model.rows import JobRow, MemberRow, RunRow, TaskRow
from flowbatch.model.stimuli import (
    Cancel,
    Configure,
    Exited,
    LaunchFailed,
    Reload,
    Retry,
    Started,
    Stimulus,
    SubmitRun,
    Target,
    Terminate,
)
from flowbatch.store.health import Health
from tests.store.opening import a_store, plain_of, stored_tasks
from tests.store.rows import T0, job_id, run_id, spec


def gang(key: str, **changes: Any) -> JobSpec:
    """Three nodes, of which the second is the main one, with a container that helps it."""
    one = spec(key)
    pair = (Part("helper", one, False), Part("app", one, True, (After(0),), 100))
    groups = (NodeGroup(0, 0, (Part("", one),)), NodeGroup(1, 1, pair), NodeGroup(2, 2, (Part("", one),)))
    return replace(spec(key, **changes), members=Members(groups, 3, 1), resources=one.resources.times(4))


def a_plan(no: int) -> RunPlan:
    ids = [job_id(no * 10 + i) for i in range(7)]
    again = RetryPolicy(attempts=2, backoff_first_ms=50, backoff_last_ms=50)
    specs = (
        spec("fetch", retry=again),
        spec("render", 12, needs=(Need(ids[0]),), retry=again, max_running=5),
        spec("denoise", 12, needs=(Need(ids[1], each=True),), tolerate=4),
        spec("chain", 5, sequential=True, retry=again),
        spec("mourn", needs=(Need(ids[2], When.FAILURE),)),
        gang("gang", retry=again, timeout_ms=500),
        spec("report", retry=again),
    )
    jobs = tuple(
        JobPlan(JobId(job), each, Stage.FINALLY if each.key == "report" else Stage.MAIN)
        for job, each in zip(ids, specs, strict=True)
    )
    return RunPlan(run_id(no), "film", jobs)


def members_open(
    members: dict[tuple[int, int, int, int], MemberRow], tasks: dict[tuple[int, int], TaskRow]
) -> list[MemberRow]:
    """What a life must find of them: those of live attempts."""
    return sorted(
        row
        for (job, idx, attempt, _), row in members.items()
        if (task := tasks[job, idx]).status.live and task.attempt == attempt
    )


def answer(key: AttemptKey, rng: random.Random, at: Millis) -> list[Stimulus]:
    luck = rng.random()
    if luck < 0.1:
        return [LaunchFailed(key, at, Evidence(start_error="CannotStartContainerError: no"))]
    evidence = Evidence(lost=True) if luck < 0.15 else Evidence(exit_code=1 if luck < 0.4 else 0)
    return [Started(key, at), Exited(key, at, evidence, at)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_a_life_of_the_core(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    environments = (Environment("default", "fake", Resources(4000)),)
    async with a_store(tmp_path) as store:
        machine = Machine(rebuild(await store.load(), child_events=ChildEvents.ALL))
        inbox: deque[Stimulus] = deque([Configure(environments, (Queue("default"),))])
        inbox += [SubmitRun(no, a_plan(no)) for no in (1, 2)]
        runs: dict[int, RunRow] = {}
        jobs: dict[int, JobRow] = {}
        tasks: dict[tuple[int, int], TaskRow] = {}
        members: dict[tuple[int, int, int, int], MemberRow] = {}
        now = T0
        for turn in range(400):
            now = Millis(now + 10)
            whom = run_id(rng.choice((1, 2)))
            if turn in (150, 300):
                for no in (1, 2):
                    ended = await store.load_run(run_id(no))
                    inbox += [] if ended is None else [Reload(ended)]
                    inbox.append(Retry(99, Target(run_id(no))))
            if turn in (30, 180):
                inbox.append(rng.choice((Cancel, Terminate))(98, Target(whom), "enough"))
            batch = [inbox.popleft() for _ in range(min(len(inbox), rng.randint(0, 6)))]
            outcome = machine.handle(batch, now)
            await store.commit(outcome.writes)
            runs |= outcome.writes.runs
            jobs |= outcome.writes.jobs
            tasks |= outcome.writes.tasks
            members |= outcome.writes.members
            assert seed or members_open(members, tasks) == sorted((await store.load()).members)
            for effect in outcome.effects:
                if isinstance(effect, Launch):
                    inbox += answer(effect.key, rng, now)
        loaded = await store.load()
        ended_runs = [await store.load_run(run_id(no)) for no in (1, 2)]
        everything = [loaded, *(each for each in ended_runs if each is not None)]
        assert {row.no: row for each in everything for row, _ in each.runs} == runs
        assert {row.no: row for each in everything for row, _ in each.jobs} == jobs
        told = {key: row for key, row in tasks.items() if not row.plain}
        assert {(row.job, row.idx): row for each in everything for row in each.tasks} == told
        short = {key: (row.status, row.attempt) for key, row in tasks.items() if row.plain}
        assert {key: row for each in everything for key, row in plain_of(each).items()} == short
        assert {(row.job, row.idx): row for row in stored_tasks(tmp_path)} == tasks
    with Health(tmp_path / "flowbatch.db") as health:
        assert (health.damage(), health.violations()) == ([], [])
