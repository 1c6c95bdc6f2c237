"""Every hot query goes by an index with 50,000 rows there, and none scans `task`, `attempt` or `event`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from flowbatch.store import queries, server_queries, statements
from flowbatch.store.migrate import opened

pytestmark = pytest.mark.slow  # for its rows
ROWS = 50_000
FILL = f"""
INSERT INTO run (no, id, status, stage, stop, cancelled, generation, created_at, stopped_at)
  WITH n (i) AS (SELECT value FROM generate) SELECT i, 'run' || i, i % 2, 'main', 0, 0, 0, 0, iif(i % 2, i, NULL) FROM n
  WHERE i <= 50;
INSERT INTO run_plan SELECT no, 'flow' || (no % 5), '', '{{}}', '' FROM run;
INSERT INTO job (no, id, run, stage, status, rest, generation, cancelled, terminated, skipped, created_at, queue)
  SELECT value, 'job' || value, 1 + (value - 1) / 10, 'main', 1, 1, 0, 0, 0, 0, 0, 'q' FROM generate WHERE value <= 500;
INSERT INTO job_plan SELECT no, 'name' || no, 1000, '{{}}', 'q', 'd:1' FROM job;
INSERT INTO task (job, idx, status, attempt, base, lost, memory_mib, environment, life, halt, stopped_at)
  SELECT 1 + value / 100, value % 100, 5 + value % 2, 1, 0, 0, 0, 'e', 1, 0, 1 FROM generate WHERE value < {ROWS};
INSERT INTO attempt (job, idx, attempt, stopped_at) SELECT job, idx, 1, 1 FROM task;
INSERT INTO member (job, idx, attempt, member, status, life, asked, truncated) SELECT job, idx, 1, 0, 3, 1, 0, 0 FROM task;
INSERT INTO image (job, idx, attempt, member, image) SELECT job, idx, 1, -1, 'i' FROM task;
INSERT INTO event (at, kind, run, job, idx, status)
  SELECT 0, iif(value % 100, 3, 1 + value % 2), 1 + value % 50, 1 + value / 100, value % 100, 5 FROM generate
  WHERE value < {ROWS};
"""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "flowbatch.db"
    with closing(opened(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("CREATE TEMP TABLE generate (value INTEGER PRIMARY KEY)")
        db.execute(f"WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT {ROWS}) "
                   "INSERT INTO generate SELECT i FROM n")  # fmt: skip
        db.executescript(f"BEGIN;{FILL}COMMIT;")
        yield db


def plan(db: sqlite3.Connection, sql: str) -> list[str]:
    numbered = set(re.findall(r"\?\d", sql))
    return [
        row[3].removesuffix(" LEFT-JOIN")  # not every SQLite says so
        for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", [1] * (len(numbered) or sql.count("?"))).fetchall()
    ]


@pytest.mark.parametrize(
    ("sql", "steps"),
    [
        (
            "RUNS",
            ["SEARCH run USING INTEGER PRIMARY KEY (rowid<?)", "SEARCH run_plan USING INTEGER PRIMARY KEY (rowid=?)"],
        ),
        ("OPEN_RUNS", ["SCAN run USING INDEX run_open", "SEARCH run_plan USING INTEGER PRIMARY KEY (rowid=?)"]),
        (
            "RUN_BY_ID",
            ["SEARCH run USING INDEX run_by_id (id=?)", "SEARCH run_plan USING INTEGER PRIMARY KEY (rowid=?)"],
        ),
        ("RUNS_BY_PREFIX", ["SEARCH run USING INDEX run_by_id (id>? AND id<?)"]),
        ("NEWEST_RUN", ["SEARCH run_plan"]),
        ("NEWEST_RUN_OF_WORKFLOW", ["SEARCH run_plan USING COVERING INDEX run_plan_by_workflow (workflow=?)"]),
        ("WORKFLOWS", ["SCAN run_plan USING COVERING INDEX run_plan_by_workflow"]),
        ("ENDED_BEFORE", ["SEARCH run USING COVERING INDEX run_by_stop (stopped_at<?)"]),
        (
            "NEWEST_ENDED",
            [
                "SEARCH run USING COVERING INDEX run_by_stop (stopped_at<?)",
                "SEARCH sink USING INDEX sink_by_run (run=?)",
                "SEARCH event USING INDEX event_by_run (run=?)",
            ],
        ),
        ("KEPT_EVENTS", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("PLANS_OF_JOBS", ["SEARCH job USING COVERING INDEX job_by_run (run=?)"]),
        ("JOBS_OF_RUN", ["SEARCH job USING INDEX job_by_run (run=?)"]),
        ("JOB_BY_ID", ["SEARCH job USING INDEX job_by_id (id=?)"]),
        (
            "COUNTS_OF_RUN",
            ["SEARCH job USING COVERING INDEX job_by_run (run=?)", "SEARCH task USING PRIMARY KEY (job=?)"],
        ),
        ("COUNTS_OF_JOB", ["SEARCH task USING PRIMARY KEY (job=?)"]),
        ("TASKS_BETWEEN", ["SEARCH task USING PRIMARY KEY (job=? AND idx>? AND idx<?)"]),
        ("ATTEMPTS_OF_TASK", ["SEARCH attempt USING PRIMARY KEY (job=? AND idx=?)"]),
        ("IMAGES_OF_TASK", ["SEARCH image USING PRIMARY KEY (job=? AND idx=?)"]),
        ("MEMBERS_OF_TASK", ["SEARCH member USING PRIMARY KEY (job=? AND idx=?)"]),
        (
            "FAILURES_OF_RUN",
            ["SEARCH job USING COVERING INDEX job_by_run (run=?)", "SEARCH task USING PRIMARY KEY (job=?)"],
        ),
        ("EVENTS", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"]),
        ("EVENTS_OF_RUN", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("SPAN_OF_RUN", ["SEARCH event USING INDEX event_by_run (run=?)"]),
        ("ANY_SINK", ["SCAN sink"]),  # as far as the first
        ("LAST_SEQ", ["SCAN sqlite_sequence"]),  # a row a table that counts
        ("TOKENS", ["MULTI-INDEX OR", "SEARCH token USING INDEX token_by_run (run=?)"]),
        (
            "LIVE_WITH_TOKENS",
            [
                "SCAN run USING INDEX run_open",
                "SEARCH job USING INDEX job_by_run (run=?)",
                "SEARCH task USING PRIMARY KEY (job=?)",
            ],
        ),
        ("LAST_OF_RUN", ["SEARCH event USING INDEX event_by_run (run=?)"]),
        ("LATEST_DEFINITIONS", ["SEARCH definition USING PRIMARY KEY (name>?)"]),
        ("REVISIONS", ["SEARCH definition USING PRIMARY KEY (name=?)"]),
        ("LATEST_REVISION", ["SEARCH definition USING PRIMARY KEY (name=?)"]),
        ("REVISION", ["SEARCH definition USING PRIMARY KEY (name=? AND revision=?)"]),
        ("ALL_REVISIONS", ["SEARCH definition USING PRIMARY KEY ((name,revision)>(?,?))"]),
        ("DEFINITION_NAMES", ["SCAN definition"]),
        ("LISTED", ["SEARCH job USING COVERING INDEX job_by_queue_status (queue=? AND status=? AND no<?)"]),
        ("LISTED_BY_SHARE", ["SEARCH job USING COVERING INDEX job_by_share (queue=? AND share=? AND no<?)"]),
        (
            "LISTED_BY_SHARE_STATUS",
            ["SEARCH job USING COVERING INDEX job_by_share_status (queue=? AND share=? AND status=? AND no<?)"],
        ),
        (
            "LISTED_BY_TOKEN",
            [
                "SEARCH job_token USING PRIMARY KEY (token=? AND job<?)",
                "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH job_plan USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        ("LISTED_BEFORE", ["SEARCH job USING COVERING INDEX job_by_queue_time (queue=? AND created_at<?)"]),
        (
            "LISTED_AFTER",
            ["SEARCH job USING COVERING INDEX job_by_queue_time (queue=? AND created_at>? AND created_at<?)"],
        ),
        ("LISTED_BY_NAME", ["SEARCH job_plan USING COVERING INDEX job_plan_by_name (queue=? AND name=? AND job<?)"]),
        (
            "LISTED_BY_NAME_PREFIX",
            ["SEARCH job_plan USING COVERING INDEX job_plan_by_name (queue=? AND name>? AND name<?)"],
        ),
        (
            "LISTED_BY_DEFINITION",
            ["SEARCH job_plan USING COVERING INDEX job_plan_by_definition (queue=? AND definition=? AND job<?)"],
        ),
        (
            "LISTED_BY_DEFINITIONS",
            ["SEARCH job_plan USING COVERING INDEX job_plan_by_definition (queue=? AND definition>? AND definition<?)"],
        ),
        (
            "JOBS_OF_PAGE",
            [
                "SCAN page VIRTUAL TABLE INDEX 1:",
                "SEARCH job USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH job_plan USING INTEGER PRIMARY KEY (rowid=?)",
            ],
        ),
        ("COUNTS_OF_PAGE", ["SCAN page VIRTUAL TABLE INDEX 1:", "SEARCH task USING PRIMARY KEY (job=?)"]),
        (
            "DESCRIBED",
            [
                "SEARCH job USING INDEX job_by_id (id=?)",
                "SEARCH job_plan USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH tag USING PRIMARY KEY (kind=? AND name=?)",
                "SEARCH task USING PRIMARY KEY (job=? AND idx=?)",
            ],
        ),
        ("RUN_IDS", ["SEARCH run USING COVERING INDEX run_by_id (id>? AND id<?)"]),
        ("JOB_IDS", ["SEARCH job USING COVERING INDEX job_by_id (id>? AND id<?)"]),
        ("HAS_JOB", ["SEARCH job USING COVERING INDEX job_by_id (id=?)"]),
        ("STATUSES_OF_JOB", ["SEARCH task USING PRIMARY KEY (job=?)"]),
        ("TAGS", ["SEARCH tag USING PRIMARY KEY (kind=? AND name=?)"]),
        ("AUDIT_PRUNED", ["SCAN audit_pruned"]),
        ("AUDIT_KEPT_FROM", ["SCAN audit"]),
        ("AUDIT_AT", ["SEARCH audit USING INTEGER PRIMARY KEY (rowid<?)"]),
        ("AUDITED", ["SEARCH audit USING INTEGER PRIMARY KEY (rowid>?)"]),
        ("LOGGED", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("LOGGED_OF_RUN", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
        ("JOB_FACTS", ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("RUN_FACTS", ["SEARCH run USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("SINKS", ["SEARCH sink USING PRIMARY KEY (key>?)"]),
        ("SINK", ["SEARCH sink USING PRIMARY KEY (key=?)"]),
        ("SINKS_OF_RUN", ["SEARCH sink USING INDEX sink_by_run (run=?)"]),
        ("OPEN_SINKS", ["SCAN sink"]),
        ("PARKED", ["SEARCH parked USING PRIMARY KEY (sink=?)"]),
        ("DEAD", ["SEARCH dead USING PRIMARY KEY (sink=?)"]),
        ("GAPS", ["SEARCH gap USING PRIMARY KEY (sink=?)"]),
        ("DELIVERIES", ["SEARCH delivery USING INDEX delivery_by_sink (sink=? AND no<?)"]),
    ],
)
def test_readers(db: sqlite3.Connection, sql: str, steps: list[str]) -> None:
    module = queries if hasattr(queries, sql) else server_queries
    check(plan(db, getattr(module, sql)), steps)


@pytest.mark.parametrize(
    ("sql", "steps"),
    [
        ("OPEN_RUNS", ["SCAN run USING INDEX run_open"]),
        ("ENDED_RUN", ["SEARCH run USING INDEX run_by_id (id=?)"]),
        ("RUN", ["SEARCH run USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("JOBS_OF_RUN", ["SEARCH job USING INDEX job_by_run (run=?)"]),
        ("TASKS_OF_JOB", ["SEARCH task USING PRIMARY KEY (job=?)"]),
        ("PLAIN_TASKS", ["SEARCH task USING PRIMARY KEY (job=?)"]),
        (
            "KEEP_REOPENED",
            ["SCAN span VIRTUAL TABLE INDEX 1:", "SEARCH task USING PRIMARY KEY (job=? AND idx>? AND idx<?)"],
        ),
        ("COLLECTABLE", ["SEARCH run USING COVERING INDEX run_by_stop (stopped_at<?)"]),
        ("JOBS_TO_DROP", ["SEARCH job USING COVERING INDEX job_by_run (run=?)"]),
        ("DROP_ATTEMPTS", ["SEARCH attempt USING PRIMARY KEY (job=?)"]),
        (
            "MEMBERS_OF_LIVE_TASKS",
            [
                "SEARCH task USING PRIMARY KEY (job=?)",
                "SEARCH member USING PRIMARY KEY (job=? AND idx=? AND attempt=?)",
            ],
        ),
        ("DROP_IMAGES", ["SEARCH image USING PRIMARY KEY (job=?)"]),
        ("DROP_MEMBERS", ["SEARCH member USING PRIMARY KEY (job=?)"]),
        ("DROP_TASKS", ["SEARCH task USING PRIMARY KEY (job=?)"]),
        ("DROP_JOB", ["SEARCH job USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("DROP_RUN", ["SEARCH run USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("EVENTS_TO_DROP", ["SEARCH event USING INDEX event_by_run (run=?)"]),
        ("DEFINITIONS", ["SCAN definition"]),
        ("ENVIRONMENTS", ["SCAN environment"]),
        ("QUEUES", ["SCAN queue"]),
        ("SCHEDULING_POLICIES", ["SCAN scheduling_policy"]),
        ("SHELVES", ["SCAN shelf"]),
        ("DELETE_ENVIRONMENT", ["SEARCH environment USING PRIMARY KEY (name=?)"]),
        ("DELETE_QUEUE", ["SEARCH queue USING PRIMARY KEY (name=?)"]),
        ("DELETE_SCHEDULING_POLICY", ["SEARCH scheduling_policy USING PRIMARY KEY (name=?)"]),
        ("JOBS_ALONE", ["SCAN job USING INDEX job_alone_open", "SEARCH job_plan USING INTEGER PRIMARY KEY (rowid=?)"]),
        ("TASKS_ALONE", ["SCAN job USING INDEX job_alone_open", "SEARCH task USING PRIMARY KEY (job=?)"]),
        ("COLLECTABLE_JOBS", ["SEARCH job USING INDEX job_alone_by_stop (stopped_at<?)"]),
        ("DROP_EVENTS_ALONE", ["SEARCH event USING INDEX event_of_job_alone (job=?)"]),
        ("DELETE_TAGS", ["SEARCH tag USING PRIMARY KEY (kind=? AND name=?)"]),
        ("LAST_AUDIT", ["SCAN audit"]),
        (
            "DROP_AUDIT",
            ["SEARCH audit USING INTEGER PRIMARY KEY (rowid<?)", "SCALAR SUBQUERY 1", "SEARCH audit_pruned"],
        ),
        ("SHARED_TOKENS", ["SEARCH token USING INDEX token_by_run (run=?)"]),
        ("TOKENS_OF_RUN", ["SEARCH token USING INDEX token_by_run (run=?)"]),
        ("DROP_TOKENS", ["SEARCH token USING COVERING INDEX token_by_run (run=?)"]),
        ("DROP_JOB_TOKENS", ["SEARCH job_token USING COVERING INDEX job_token_by_job (job=?)"]),
        ("TOKEN_UPDATES", ["SCAN token_update"]),
        ("DROP_TOKEN_UPDATE", ["SEARCH token_update USING PRIMARY KEY (name=? AND once=?)"]),
        ("DROP_TOKEN", ["SEARCH token USING PRIMARY KEY (name=?)"]),
        ("DEREGISTER", ["SEARCH definition USING PRIMARY KEY (name=? AND revision=?)"]),
        ("USAGE", ["SCAN share_usage"]),  # once a life
        ("HEADS", ["SCAN queue_head"]),
        ("DROP_OLD_USAGE", ["SCAN share_usage"]),  # likewise
        ("DROP_USAGE", ["SEARCH share_usage USING PRIMARY KEY (queue=? AND share=?)"]),
        ("DROP_HEADS", ["SEARCH queue_head USING PRIMARY KEY (queue=?)"]),
        ("COPY_SINK", ["SEARCH sink USING PRIMARY KEY (key=?)"]),
        ("PROGRESS_SINK", ["SEARCH sink USING PRIMARY KEY (key=?)"]),
        ("SET_SINK", ["SEARCH sink USING PRIMARY KEY (key=?)"]),
        ("ENABLE_SINK", ["SEARCH sink USING PRIMARY KEY (key=?)"]),
        ("TRY_PARKED", ["SEARCH parked USING PRIMARY KEY (sink=?)"]),
        ("REOPEN_SINKS", ["SEARCH sink USING INDEX sink_by_run (run=?)"]),
        ("DROP_PARKED", ["SEARCH parked USING PRIMARY KEY (sink=? AND seq=?)"]),
        ("PRUNE_DELIVERIES", ["SEARCH delivery USING COVERING INDEX delivery_by_sink (sink=? AND no<?)"]),
        ("REVIVE_DEAD", ["SEARCH dead USING PRIMARY KEY (sink=?)"]),
        ("DROP_DEAD", ["SEARCH dead USING PRIMARY KEY (sink=?)"]),
        ("DROP_DELIVERIES_OF_RUN", ["SEARCH delivery USING COVERING INDEX delivery_by_sink (sink=?)"]),
        ("DROP_GAPS_OF_RUN", ["SEARCH gap USING PRIMARY KEY (sink=?)"]),
        ("DROP_DEAD_OF_RUN", ["SEARCH dead USING PRIMARY KEY (sink=?)"]),
        ("DROP_PARKED_OF_RUN", ["SEARCH parked USING PRIMARY KEY (sink=?)"]),
        ("DROP_SINKS_OF_RUN", ["SEARCH sink USING COVERING INDEX sink_by_run (run=?)"]),
        ("DROP_EVENTS", ["SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"]),
    ],
)
def test_the_writer(db: sqlite3.Connection, sql: str, steps: list[str]) -> None:
    check(plan(db, getattr(statements, sql)), steps)


def check(found: list[str], steps: list[str]) -> None:
    assert not [step for step in found if step.startswith(("SCAN task", "SCAN attempt", "SCAN member", "SCAN event"))]
    assert not [step for step in found if "AUTOMATIC" in step]
    at = 0
    for step in steps:
        assert step in found[at:], found
        at = found.index(step, at) + 1


def test_every_query_is_looked_at() -> None:
    """One that is added must say here how it goes, or why it may go as it likes."""
    looked_at = {mark.args[1][i][0] for test in (test_readers, test_the_writer) for mark in test.pytestmark  # type: ignore[attr-defined]
                 for i in range(len(mark.args[1]))}  # fmt: skip
    free = {"PRAGMAS", "FILE", "QUICK_CHECK", "LIVES", "INSTANCE", "INSTANCE_ID", "BEFORE_FIRST_TABLE", "WAL", "BEGIN", "COMMIT", "ROLLBACK", "CHECKPOINT",
            "INCREMENTAL_VACUUM", "BEGIN_LIFE", "KEYS", "POLICIES", "SINK_METERS", "DELETE_POLICY"}  # fmt: skip
    by_key = {"JOB_BY_NO", "LAST_AUDITED", "RUN_BY_NO", "PLAN_OF_RUN", "PLAN_OF_JOB", "DROP_RUN_PLAN", "DROP_JOB_PLAN"}
    names = {name for module in (queries, server_queries, statements) for name in vars(module) if name.isupper()}
    assert {name for name in names if not name.startswith("PUT_")} == looked_at | free | by_key
