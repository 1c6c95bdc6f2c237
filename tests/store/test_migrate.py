"""From nothing, an older store or a stranger's file: made, migrated, or refused with no byte changed (F45)."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from flowbatch.errors import InternalError, StoreDamaged, StoreError, StoreTooNew
from flowbatch.model.rows import PlainTasks
from flowbatch.model.status import Status
from flowbatch.store import migrate, pages, plans
from flowbatch.store.migrate import Migration, apply, migrations, opened, split, version_of
from flowbatch.store.reader import Reader
from flowbatch.store.writer import SqliteStore
from tests.store.opening import a_store, query, stored_tasks
from tests.store.rows import T0, attempt_row, job_row, run_row, spec, submission, task_row

LATEST = migrate.latest()
TO_NEXT = f"PRAGMA user_version = {LATEST + 1};\n"
NEXT = Migration(LATEST + 1, "shape", f"ALTER TABLE job_plan ADD COLUMN shape TEXT;\n{TO_NEXT}")


def schema(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def closing_later() -> Iterator[list[sqlite3.Connection]]:
    opened_: list[sqlite3.Connection] = []
    yield opened_
    for db in opened_:
        db.close()


def make(path: Path, steps: tuple[Migration, ...] | None = None) -> None:
    opened(path, steps).close()


def test_files_are_numbered_without_a_gap_and_say_their_version() -> None:
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))
    for step in migrations():
        assert f"PRAGMA user_version = {step.number};" in step.sql


def test_statements_are_split_at_the_ends_of_lines() -> None:
    assert split("-- a; comment\nCREATE TABLE a (b TEXT); -- more;\n\nSELECT\n ';';\n") == [
        "-- a; comment\nCREATE TABLE a (b TEXT); -- more;",
        "SELECT\n ';';",
    ]


def test_a_new_store_has_the_pragmas_of_the_specification(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "flowbatch.db")) as db:
        found = {
            name: db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint", "trusted_schema",
                "journal_size_limit", "mmap_size", "auto_vacuum", "application_id", "user_version",
            )
        }  # fmt: skip
        strict = db.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND NOT strict").fetchall()
    assert found == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000, "wal_autocheckpoint": 16000,
        "trusted_schema": 0, "journal_size_limit": 64 << 20, "mmap_size": 0, "auto_vacuum": 2,
        "application_id": migrate.APPLICATION_ID, "user_version": migrate.latest(),
    }  # fmt: skip
    assert {name for (name,) in strict} <= {"sqlite_schema", "sqlite_sequence"}


def test_a_migrated_schema_is_a_fresh_one(tmp_path: Path) -> None:
    """From every version that ever was, one step at a time."""
    steps = (*migrations(), NEXT)
    make(tmp_path / "fresh.db", steps)
    for count in range(1, len(steps)):
        path = tmp_path / f"from{count}.db"
        make(path, steps[:count])
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for step in steps[count:]:
                apply(db, [step])
        assert schema(path) == schema(tmp_path / "fresh.db")


async def test_an_older_store_is_backed_up_then_migrated(
    tmp_path: Path, closing_later: list[sqlite3.Connection]
) -> None:
    path = tmp_path / "flowbatch.db"
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec()))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        before = sorted(db.iterdump())  # a copy has its indices in another order
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db = migrate_further(path)
    closing_later.append(db)
    assert db.execute("PRAGMA user_version").fetchone() == (LATEST + 1,)
    assert db.execute("SELECT name, shape FROM job_plan").fetchall() == [("render", None)]
    backup = tmp_path / f"flowbatch.db.v{LATEST}.backup"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(sqlite3.connect(backup)) as old:
        assert sorted(old.iterdump()) == before
        assert old.execute("PRAGMA user_version").fetchone() == (LATEST,)
    assert not any(name.endswith(".part") for name in os.listdir(tmp_path))


def migrate_further(path: Path, step: Migration = NEXT) -> sqlite3.Connection:
    """With the known versions as they are, so that `version_of` accepts what it reads before."""
    return opened(path, (*migrations(), step))


async def test_what_the_first_version_stored_is_read(tmp_path: Path) -> None:
    path = tmp_path / "flowbatch.db"
    run, job = run_row(), job_row(100)
    make(path, migrations()[:1])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        plans_of = submission(1, replace(spec(), share="ann", tokens=(("1a2b3c4d/own", 1), ("licence", 2))))
        [(_, run_plan)], [(_, _, job_plan)] = plans_of.new_runs, plans_of.new_jobs
        db.execute(f"INSERT INTO run VALUES ({', '.join('?' * len(run))})", run)
        db.execute("INSERT INTO run_plan VALUES (1, 'film', '', ?, '')", (plans.run_json(run_plan),))
        db.execute(f"INSERT INTO job VALUES ({', '.join('?' * len(job))})", job)
        db.execute("INSERT INTO job_plan VALUES (100, 'render', NULL, ?)", (plans.job_json(job_plan),))
        task = task_row(100, 0, Status.FAILED, attempt=2)[:16]
        db.execute(f"INSERT INTO task VALUES ({', '.join('?' * len(task))})", task)
        past = attempt_row(100)[:-1]
        db.execute(f"INSERT INTO attempt VALUES ({', '.join('?' * len(past))})", past)
    async with a_store(tmp_path) as store:
        assert (await store.load()).plain == [PlainTasks(100, [0], [Status.FAILED], [2])]
    assert stored_tasks(tmp_path) == [task_row(100, 0, Status.FAILED, attempt=2)]
    with Reader(path) as reader:
        found = reader.job(job.id)
        assert found is not None
        assert [(each.key.attempt, each.truncated) for each in reader.attempts(found)] == [(1, False), (2, False)]
        queue = reader.job_plan(found).spec.queue
        assert pages.by_share(reader, queue, "ann", None, None, 10) == [100]
        assert pages.by_token(reader, "licence", None, 10) == [(100, job.status, "render")]
        assert pages.by_token(reader, "1a2b3c4d/own", None, 10) == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE job_plan ADD COLUMN shape TEXT;\nSELECT nonsense;\n" + TO_NEXT,
        "ALTER TABLE job_plan ADD COLUMN shape TEXT;\n",  # does not say its version
        "DELETE FROM job WHERE no = 100;\n" + TO_NEXT,  # leaves a plan without its job
    ],
)
async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "flowbatch.db"
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, spec()))
    before = schema(path)
    with pytest.raises(InternalError):
        migrate_further(path, Migration(LATEST + 1, "broken", sql))
    assert schema(path) == before
    assert version_of(path) == LATEST
    assert query(tmp_path, "SELECT count(*) FROM job") == [(1,)]
    with Reader(path) as reader:
        assert len(reader.runs()) == 1


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look at" * 50, b"\0" * 4096, b"SQLite format 3\0"]
)
async def test_what_is_no_database_is_refused_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flowbatch.db"
    path.write_bytes(content)
    with pytest.raises(StoreDamaged):
        await SqliteStore.open(path, boot_id="b", pid=1, now=T0)
    assert files(tmp_path) == {"flowbatch.db": content}
    with pytest.raises(StoreDamaged):
        Reader(path)
    assert path.read_bytes() == content


async def test_another_programs_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "flowbatch.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE run (id TEXT)")
    before = files(tmp_path)
    with pytest.raises(StoreDamaged, match="not a store of flowbatch"):
        await SqliteStore.open(path, boot_id="b", pid=1, now=T0)
    assert files(tmp_path) == before


@pytest.mark.parametrize("closed", [True, False])
async def test_a_newer_store_is_refused_untouched(tmp_path: Path, closed: bool) -> None:
    """Also where its engine was killed, with the version in the log alone."""
    home = tmp_path / "home"
    home.mkdir()
    path = home / "flowbatch.db"
    db = opened(path)
    db.execute("PRAGMA user_version = 99")
    if closed:
        db.close()
    left = tmp_path / "left"
    left.mkdir()
    for file in home.iterdir():
        if not file.name.endswith("-shm"):
            (left / file.name).write_bytes(file.read_bytes())
    db.close()
    before = files(left)
    assert len(before) == (1 if closed else 2)
    with pytest.raises(StoreTooNew, match="store version 99"):
        await SqliteStore.open(left / "flowbatch.db", boot_id="b", pid=1, now=T0)
    after = files(left)
    after.pop("flowbatch.db-shm", None)  # the log's index, derived and in nobody's way
    assert after == before
    with pytest.raises(StoreTooNew):
        Reader(left / "flowbatch.db")


@pytest.mark.parametrize("harm", ["cut", "flipped"])
async def test_a_damaged_store_is_refused_untouched(tmp_path: Path, harm: str) -> None:
    async with a_store(tmp_path) as store:
        await store.commit(submission(1, *(spec(f"job{i}") for i in range(200))))
    path = tmp_path / "flowbatch.db"
    whole = path.read_bytes()
    if harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        [(page,)] = query(tmp_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'job'")
        start = (page - 1) * 4096
        path.write_bytes(whole[:start] + b"\xff" * 64 + whole[start + 64 :])
    before = files(tmp_path)
    with pytest.raises(StoreDamaged):
        await SqliteStore.open(path, boot_id="b", pid=1, now=T0)
    assert files(tmp_path) == before


@pytest.mark.parametrize("broken", range(1, LATEST + 1))
def test_a_fresh_store_is_made_whole_or_not_at_all(tmp_path: Path, broken: int) -> None:
    """A reader beside the first start meets all migrations or none."""
    path = tmp_path / "flowbatch.db"
    steps = list(migrations())
    step = steps[broken - 1]
    steps[broken - 1] = Migration(step.number, step.name, step.sql + "SELECT nonsense;\n")
    with pytest.raises(InternalError):
        make(path, tuple(steps))
    assert version_of(path) is None
    assert schema(path) == []
    make(path)
    assert version_of(path) == LATEST


def test_an_empty_store_beside_the_logs_of_its_runs_is_damaged_and_not_new(tmp_path: Path) -> None:
    path = tmp_path / "flowbatch.db"
    path.touch()
    (tmp_path / "logs").mkdir()
    assert version_of(path) is None
    (tmp_path / "logs" / "3f").mkdir()
    with pytest.raises(StoreDamaged, match="the store is empty, and there are logs of its runs"):
        version_of(path)


async def test_a_start_that_was_killed_early_is_made_good(tmp_path: Path) -> None:
    (tmp_path / "flowbatch.db").touch(0o644)
    async with a_store(tmp_path) as store:
        assert (await store.load()).life == 1
    assert stat.S_IMODE((tmp_path / "flowbatch.db").stat().st_mode) == 0o600


async def test_a_killed_engine_leaves_a_log_that_is_read(tmp_path: Path) -> None:
    home, left = tmp_path / "home", tmp_path / "left"
    left.mkdir()
    async with a_store(home) as store:
        await store.commit(submission(1, spec()))
        for file in home.iterdir():
            (left / file.name).write_bytes(file.read_bytes())
    async with a_store(left) as store:
        assert len((await store.load()).jobs) == 1
    assert sorted(file.name for file in left.iterdir()) == ["flowbatch.db"]  # checkpointed at the close


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        await SqliteStore.open(tmp_path / "file" / "flowbatch.db", boot_id="b", pid=1, now=T0)


async def test_odd_names_of_folders_are_fine(tmp_path: Path) -> None:
    folder = tmp_path / "50% off? #1 ünï"
    async with a_store(folder) as store:
        await store.commit(submission(1, spec()))
    with Reader(folder / "flowbatch.db") as reader:
        assert len(reader.runs()) == 1
    assert os.listdir(tmp_path) == [folder.name]
