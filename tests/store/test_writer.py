"""What is committed is what is loaded."""

from __future__ import annotations

import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from flowbatch.errors import InternalError
from flowbatch.model.container import Container, Mount, Ulimit
from flowbatch.model.ending import Halt
from flowbatch.model.events import EventRow
from flowbatch.model.ids import Millis
from flowbatch.model.jobspec import (
    Action,
    Environment,
    FakeScript,
    JobPlan,
    Need,
    Queue,
    RetryPolicy,
    Rule,
    RunPlan,
    SecretSource,
    Stage,
    When,
)
from flowbatch.model.resources import Resources
from flowbatch.model.rows import AttemptRow, JobRow, RunRow, TaskRow, Writes
from flowbatch.model.status import RunStatus, Status
from flowbatch.store import bulk, loading
from tests.store import rows
from tests.store.opening import a_store, inside, plain_of, query, stored_tasks
from tests.store.rows import T0, attempt_row, job_row, run_id, run_row, spec, submission, task_row


async def test_an_empty_store_begins_its_first_life(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        loaded = await store.load()
    assert (loaded.life, loaded.same_boot_since, loaded.next_run, loaded.next_job) == (1, 1, 1, 1)
    assert (loaded.runs, loaded.jobs, loaded.tasks) == ([], [], [])
    assert query(tmp_path, "SELECT no, boot_id, pid, started_at FROM life") == [(1, "boot-a", 4711, T0)]


async def test_lives_are_numbered_and_know_their_boot(tmp_path: Path) -> None:
    seen = []
    for boot_id in ("a", "a", "b", "b", "a"):
        async with a_store(tmp_path, boot_id=boot_id) as store:
            loaded = await store.load()
            seen.append((loaded.life, loaded.same_boot_since))
    assert seen == [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5)]


async def test_the_instance_is_named_once_for_ever(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        first = store.instance
    async with a_store(tmp_path) as store:
        assert store.instance == first
    async with a_store(tmp_path / "other") as store:
        assert store.instance != first


async def test_only_the_owner_may_look(tmp_path: Path) -> None:
    async with a_store(tmp_path / "state") as store:
        await store.load()
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "state").iterdir()}
    assert modes == {"flowbatch.db": 0o600, "flowbatch.db-wal": 0o600, "flowbatch.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


FULL_SPEC = spec(
    "encode",
    3,
    needs=(Need(rows.job_id(100), When.DONE, each=True),),
    sequential=True,
    max_running=2,
    tolerate=1,
    priority=-3,
    env=(("A", "b\u2028ü"),),
    secrets=(("TOKEN", SecretSource(command=("pass", "x"))), ("K", SecretSource(env="K"))),
    parameters=(("shot", "sq010"),),
    items=("a", {"lr": "1", "seed": "2"}, ""),
    chunk=2,
    workdir="/w",
    timeout_ms=1,
    retry=RetryPolicy(3, 10, 20, (Rule(Action.RETRY, reason="OutOf*", memory_factor=2.0), Rule(Action.EXIT, "1")), 2),
    tags=(("k", "v"),),
    container=Container(
        "busybox", mounts=(Mount("/a", "/b"),), ulimits=(Ulimit("nofile", 1, 2),), labels=(("a", "b"),)
    ),
    user="nobody",
    fake=FakeScript(5, 1, by_index={2: FakeScript(lost=True)}, by_attempt={1: FakeScript(output="x\n")}),
)


async def test_plans_come_back_as_they_were(tmp_path: Path) -> None:
    jobs = (JobPlan(rows.job_id(100), spec(size=3)), JobPlan(rows.job_id(101), FULL_SPEC, Stage.FINALLY))
    plan = RunPlan(
        run_id(1), "film", jobs, "/w/film.yaml", "jobs: …", (("a", 1), ("b", 1.0), ("c", True), ("d", "1")), 5000,
        (Environment("farm", "docker", Resources(1500, 2, 1), enabled=False),), (Queue("bulk", 2, ("farm",), max_running=4),),
    )  # fmt: skip
    writes = submission(1, *(job.spec for job in jobs))
    writes.new_runs = [(1, plan)]
    writes.new_jobs = [(100, 1, jobs[0]), (101, 1, jobs[1])]
    async with a_store(tmp_path) as store:
        await store.commit(writes)
        loaded = await store.load()
    [(_, run_plan)] = loaded.runs
    assert run_plan == replace(plan, jobs=(), source="")
    assert [type(value) for _, value in run_plan.params] == [int, float, bool, str]
    assert tuple(job_plan for _, job_plan in loaded.jobs) == jobs
    assert query(tmp_path, "SELECT workflow, file, source FROM run_plan") == [("film", "/w/film.yaml", "jobs: …")]
    assert query(tmp_path, "SELECT job, name, size FROM job_plan") == [(100, "render", 3), (101, "encode", 3)]


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
async def test_any_rows_come_back_as_they_were(data: st.DataObject) -> None:
    job = 100
    run = data.draw(rows.any_run(1))
    job_ = data.draw(rows.any_job(job, 1))
    tasks = {(job, each.idx): each for each in data.draw(st.lists(rows.any_task(job), max_size=20))}
    attempts = {each[:3]: each for each in data.draw(st.lists(rows.any_attempt(job), max_size=10))}
    events = data.draw(st.lists(rows.any_event(), max_size=20))
    with TemporaryDirectory() as name:
        folder = Path(name)
        async with a_store(folder) as store:
            await store.commit(submission(1, spec(size=10_000)))
            await store.commit(Writes(
                runs={1: run}, jobs={job: job_._replace(stage=Stage.MAIN, created_at=T0)}, tasks=tasks,
                attempts=list(attempts.values()), events=events,
            ))  # fmt: skip
            loaded = await store.load()
        assert [row for row, _ in loaded.runs] == [run._replace(created_at=T0)]
        assert [row for row, _ in loaded.jobs] == [job_._replace(stage=Stage.MAIN, created_at=T0)]
        assert {(each.job, each.idx): each for each in loaded.tasks} == {
            key: row for key, row in tasks.items() if not row.plain
        }
        assert plain_of(loaded) == {key: (row.status, row.attempt) for key, row in tasks.items() if row.plain}
        assert stored_tasks(folder) == [tasks[key] for key in sorted(tasks)]
        found = [loading.attempt_row(row) for row in query(folder, "SELECT * FROM attempt ORDER BY job, idx, attempt")]
        assert found == [attempts[key] for key in sorted(attempts)]
        stored = [row[1:] for row in query(folder, "SELECT * FROM event WHERE seq > 2 ORDER BY seq")]
        assert [loading.event_row(row) for row in stored] == events


async def test_loaded_rows_have_the_types_that_they_promise(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=2)))
        await store.commit(Writes(tasks={(100, 1): task_row(100, 1)}))
        loaded = await store.load()
    [(run, _)], [(job, _)], [task] = loaded.runs, loaded.jobs, loaded.tasks
    assert isinstance(run, RunRow)
    assert isinstance(job, JobRow)
    assert isinstance(task, TaskRow)
    assert [type(each) for each in (run.status, run.stage, run.stop, run.cancelled)] == [RunStatus, Stage, Halt, bool]
    assert [type(each) for each in (job.stage, job.status, job.rest, job.skipped)] == [Stage, Status, Status, bool]
    assert [type(each) for each in (task.status, task.halt)] == [Status, Halt]


def test_column_orders_are_those_of_the_rows(tmp_path: Path) -> None:
    """`SELECT *` of a migrated store may differ; the writer's and loader's lists may not."""
    from flowbatch.store import statements

    for statement, row in (
        (statements.PUT_RUNS, RunRow),
        (statements.PUT_JOBS, JobRow),
        (statements.PUT_TASKS, TaskRow),
        (statements.PUT_ATTEMPTS, AttemptRow),
        (statements.PUT_EVENTS, EventRow),
    ):
        columns = statement[statement.index("(") + 1 : statement.index(")")]
        beside = ("queue", "share") if row is JobRow else ()  # of its plan, for an index
        assert tuple(column.strip() for column in columns.split(",")) == row._fields + beside


@pytest.mark.parametrize("count", [1, 2, 8, 9, 64, 65, 511, 512, 513, 600])
async def test_any_number_of_rows_is_written_once_each(tmp_path: Path, count: int) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=1000)))
        await store.commit(Writes(
            tasks={(100, i): task_row(100, i) for i in range(count)},
            events=[rows.child_event(1, 100, i) for i in range(count)],
        ))  # fmt: skip
        loaded = await store.load()
    assert loaded.tasks == stored_tasks(tmp_path) == [task_row(100, i) for i in range(count)]
    assert query(tmp_path, "SELECT idx FROM event WHERE kind = 3 ORDER BY seq") == [(i,) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5, 13, 33, 64, 100, 129, 300, 1300])
async def test_a_statement_binds_little_for_nothing(tmp_path: Path, count: int) -> None:
    """What is bound beyond the rows costs as much as they do."""
    statements: list[str] = []
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=2000)))
        await inside(store, lambda db: db.set_trace_callback(statements.append))
        await store.commit(Writes(tasks={(100, i): task_row(100, i) for i in range(count)}))
    bound = [each.count("(100,") + each.count("(0,") for each in statements if "INTO task" in each]
    assert count <= sum(bound) <= 2 * count
    assert len(bound) <= 4 + count // 64


def test_a_wide_statement_stays_below_the_parameters_of_any_sqlite() -> None:
    assert bulk.SIZES[-1] * 16 + 1 <= 32_766


async def test_a_turn_replaces_rows_and_keeps_what_never_changes(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(), spec("b", 5)))
        later = job_row(101, status_reason="x", rest=Status.RUNNABLE, generation=2)
        await store.commit(Writes(jobs={101: later}, tasks={(101, 3): task_row(101, 3)}))
        done = task_row(101, 3, Status.FAILED)
        await store.commit(Writes(runs={1: run_row(cancelled=True)}, tasks={(101, 3): done}))
        loaded = await store.load()
    assert [row for row, _ in loaded.runs] == [run_row(cancelled=True)]
    assert [row for row, _ in loaded.jobs] == [job_row(100), later]
    assert stored_tasks(tmp_path) == [done]
    assert plain_of(loaded) == {(101, 3): (Status.FAILED, 1)}


async def test_an_empty_turn_is_no_transaction(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        before = (tmp_path / "flowbatch.db-wal").read_bytes()
        await store.commit(Writes())
        assert (tmp_path / "flowbatch.db-wal").read_bytes() == before


async def test_the_log_is_written_from_its_start_again_after_a_checkpoint(tmp_path: Path) -> None:
    log, sizes = tmp_path / "flowbatch.db-wal", []
    async with a_store(tmp_path) as store:
        store.checkpoint_commits = 20
        await store.commit(submission(1, spec()))
        for count in range(60):
            if count % 20 == 0:
                sizes.append(log.stat().st_size)
            await store.commit(Writes(jobs={100: job_row(100, status_reason=str(count))}))
        sizes.append(log.stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2] == sizes[3]


async def test_ended_runs_are_loaded_by_name_alone(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec()))
        await store.commit(submission(2, spec(size=2)))
        await store.commit(Writes(
            runs={2: run_row(2, RunStatus.FAILED)}, jobs={200: job_row(200, 2, Status.FAILED)},
            tasks={(200, 1): task_row(200, 1, Status.FAILED)},
        ))  # fmt: skip
        loaded = await store.load()
        assert [row.no for row, _ in loaded.runs] == [1]
        assert [row.no for row, _ in loaded.jobs] == [100]
        assert (loaded.tasks, plain_of(loaded)) == ([], {})
        again = await store.load_run(run_id(2))
        assert again is not None
        assert (again.life, again.next_run, again.next_job) == (1, 3, 201)
        assert [row for row, _ in again.runs] == [run_row(2, RunStatus.FAILED)]
        assert [row.no for row, _ in again.jobs] == [200]
        assert (again.tasks, plain_of(again)) == ([], {(200, 1): (Status.FAILED, 1)})
        assert await store.load_run(run_id(1)) is None  # open: the engine has it
        assert await store.load_run(run_id(9)) is None


async def test_reopened_tasks_leave_their_last_attempt_behind(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=10)))
        failed = {(100, i): task_row(100, i, Status.FAILED, attempt=2) for i in range(4)}
        failed[100, 0] = failed[100, 0]._replace(truncated=True)
        failed[100, 3] = task_row(100, 3, Status.FAILED, attempt=0, environment=None, started_at=None)
        known = attempt_row(100, 2, 2, exit_code=9)
        await store.commit(Writes(tasks=failed, attempts=[known]))
        waiting = {
            (100, i): task_row(100, i, Status.PENDING, attempt=2, base=2, environment=None, started_at=None)
            for i in range(4)
        }
        await store.commit(Writes(tasks=waiting, reopened=[(100, 0, 0), (100, 2, 3)]))
        assert (await store.load()).tasks == list(waiting.values())
    kept = [loading.attempt_row(row) for row in query(tmp_path, "SELECT * FROM attempt ORDER BY idx")]
    old = failed[100, 0]
    assert kept == [
        AttemptRow(100, 0, 2, "default", old.started_at, old.stopped_at or T0, 3, None, old.status_reason, True),
        known,
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        Writes(tasks={(100, 0): task_row(100, 0, Status.SUCCEEDED, stopped_at=None)}),
        Writes(tasks={(100, 0): task_row(100, 0, Status.RUNNING, stopped_at=T0)}),
        Writes(tasks={(100, 0): task_row(100, 0, Status.RUNNING, environment=None)}),
        Writes(tasks={(999, 0): task_row(999, 0)}),
        Writes(runs={1: run_row(1, RunStatus.FAILED, stopped_at=None)}),
        Writes(jobs={100: job_row(100, 1, Status.FAILED, stopped_at=None)}),
        Writes(jobs={100: job_row(100, 1, rest=Status.RUNNING)}),
        Writes(jobs={7: job_row(7, 99)}),
    ],
)
async def test_the_schema_refuses_what_breaks_the_law_and_keeps_nothing_of_it(tmp_path: Path, wrong: Writes) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(size=2)))
        wrong.events.append(rows.run_event(1))
        with pytest.raises(InternalError, match=r"CHECK|FOREIGN KEY"):
            await store.commit(wrong)
        await store.commit(Writes(tasks={(100, 1): task_row(100, 1)}))
        assert [row.idx for row in (await store.load()).tasks] == [1]
    assert query(tmp_path, "SELECT count(*) FROM event") == [(2,)]


async def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec(), first_job=1))
        await store.commit(submission(2, spec(), first_job=2))
        await store.commit(Writes(runs={2: run_row(2, RunStatus.SUCCEEDED)}, jobs={2: job_row(2, 2, Status.SUCCEEDED)}))
        assert await store.collect(Millis(T0 + 5000)) == 1
        loaded = await store.load()
    assert (loaded.next_run, loaded.next_job) == (3, 3)
