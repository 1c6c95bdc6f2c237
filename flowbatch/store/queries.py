"""The SQL of the readers, whole and readable. Nothing here may scan `task` or `event`: a test looks at each plan.

A run counts only with its plan: one without is being collected.
"""

from __future__ import annotations

from typing import Final

PRAGMAS: Final = """
PRAGMA query_only = ON;
PRAGMA busy_timeout = 5000;
PRAGMA mmap_size = 0;
PRAGMA trusted_schema = OFF;
"""

# --- runs

RUNS: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
  run.deadline_at, run.finally_at, run.stopped_at,
  run_plan.workflow, run_plan.file
FROM run
JOIN run_plan ON run_plan.run = run.no
WHERE run.no < ?
ORDER BY run.no DESC
LIMIT ?
"""

OPEN_RUNS: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
  run.deadline_at, run.finally_at, run.stopped_at,
  run_plan.workflow, run_plan.file
FROM run INDEXED BY run_open
JOIN run_plan ON run_plan.run = run.no
WHERE run.status = 0
ORDER BY run.no
LIMIT ?
"""

RUN_BY_NO: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
  run.deadline_at, run.finally_at, run.stopped_at,
  run_plan.workflow, run_plan.file
FROM run
JOIN run_plan ON run_plan.run = run.no
WHERE run.no = ?
"""

RUN_BY_ID: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
  run.deadline_at, run.finally_at, run.stopped_at,
  run_plan.workflow, run_plan.file
FROM run
JOIN run_plan ON run_plan.run = run.no
WHERE run.id = ?
"""

RUNS_BY_PREFIX: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason, run.created_at,
  run.deadline_at, run.finally_at, run.stopped_at,
  run_plan.workflow, run_plan.file
FROM run
JOIN run_plan ON run_plan.run = run.no
WHERE run.id >= ? AND run.id < ?
ORDER BY run.id
LIMIT ?
"""

NEWEST_RUN: Final = "SELECT max(run) FROM run_plan"
NEWEST_RUN_OF_WORKFLOW: Final = "SELECT max(run) FROM run_plan WHERE workflow = ?"
WORKFLOWS: Final = "SELECT DISTINCT workflow FROM run_plan ORDER BY workflow LIMIT ?"
PLAN_OF_RUN: Final = "SELECT plan, source FROM run_plan WHERE run = ?"
PLANS_OF_JOBS: Final = """
SELECT job_plan.plan
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.run = ?
ORDER BY job.no
"""
ENDED_BEFORE: Final = """
SELECT count(*)
FROM run INDEXED BY run_by_stop
JOIN run_plan ON run_plan.run = run.no
WHERE run.stopped_at < ? AND NOT EXISTS (SELECT 1 FROM sink WHERE sink.run = run.no AND sink.status = 0)
"""

# The newest event of the runs that `ENDED_BEFORE` counts.
NEWEST_ENDED: Final = """
SELECT coalesce(max((
  SELECT seq FROM event INDEXED BY event_by_run WHERE event.run = run.no AND kind <> 3 ORDER BY seq DESC LIMIT 1
)), 0)
FROM run INDEXED BY run_by_stop
WHERE run.stopped_at < ? AND NOT EXISTS (SELECT 1 FROM sink WHERE sink.run = run.no AND sink.status = 0)
"""

# --- jobs

JOBS_OF_RUN: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.name, job_plan.size
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.run = ?
ORDER BY job.no
"""

JOB_BY_ID: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.name, job_plan.size
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.id = ?
"""

PLAN_OF_JOB: Final = "SELECT plan FROM job_plan WHERE job = ?"

COUNTS_OF_RUN: Final = """
SELECT task.job, task.status, count(*)
FROM job
CROSS JOIN task
WHERE job.run = ? AND task.job = job.no
GROUP BY task.job, task.status
"""

COUNTS_OF_JOB: Final = """
SELECT task.job, task.status, count(*)
FROM task
WHERE task.job = ?
GROUP BY task.job, task.status
"""

# --- tasks and attempts

TASKS_BETWEEN: Final = """
SELECT job, idx, status, attempt, base, lost, memory_mib, environment, life, halt, not_before, started_at, stopped_at,
  exit_code, reason, status_reason, truncated, node, cancelled
FROM task
WHERE job = ? AND idx BETWEEN ? AND ?
ORDER BY idx
"""

ATTEMPTS_OF_TASK: Final = """
SELECT job, idx, attempt, environment, started_at, stopped_at, exit_code, reason, status_reason, truncated
FROM attempt
WHERE job = ? AND idx = ?
ORDER BY attempt
"""

IMAGES_OF_TASK: Final = """
SELECT attempt, member, image
FROM image
WHERE job = ? AND idx = ?
"""

MEMBERS_OF_TASK: Final = """
SELECT job, idx, attempt, member, status, life, asked, address, due_at, started_at, stopped_at, "end", exit_code, reason,
  status_reason, truncated
FROM member
WHERE job = ? AND idx = ?
ORDER BY attempt, member
"""

# `min` makes the other bare columns those of its row.
FAILURES_OF_RUN: Final = """
SELECT task.job, task.exit_code, task.reason, task.status_reason, count(*), min(task.idx), task.attempt
FROM job
CROSS JOIN task
WHERE job.run = ? AND task.job = job.no AND task.status = 6
GROUP BY task.job, task.exit_code, task.reason, task.status_reason
ORDER BY task.job, count(*) DESC, min(task.idx)
LIMIT ?
"""

# --- consumable resources

TOKENS: Final = """
SELECT name, kind, total, declared, run, tags, created_at
FROM token
WHERE run IS NULL OR run IN (SELECT no FROM run INDEXED BY run_open WHERE status = 0)
ORDER BY name
"""

# What the live tasks of open runs hold. A job of a run that has ended has none.
LIVE_WITH_TOKENS: Final = """
SELECT job_plan.plan -> '$.spec.tokens', count(*)
FROM run INDEXED BY run_open
CROSS JOIN job
JOIN job_plan ON job_plan.job = job.no
CROSS JOIN task
WHERE run.status = 0 AND job.run = run.no AND job.status < 5
  AND json_array_length(job_plan.plan, '$.spec.tokens') > 0
  AND task.job = job.no AND task.status IN (3, 4)
GROUP BY job.no
"""

# --- job definitions

# `max` makes the other bare columns those of its row.
LATEST_DEFINITIONS: Final = """
SELECT name, max(revision), active, body, digest, tags, registered_at, deregistered_at
FROM definition
WHERE active = 1 AND name > ?
GROUP BY name
ORDER BY name
LIMIT ?
"""

REVISIONS: Final = """
SELECT name, revision, active, body, digest, tags, registered_at, deregistered_at
FROM definition
WHERE name = ?
ORDER BY revision DESC
LIMIT ?
"""

LATEST_REVISION: Final = """
SELECT name, revision, active, body, digest, tags, registered_at, deregistered_at
FROM definition
WHERE name = ? AND active = 1
ORDER BY revision DESC
LIMIT 1
"""

REVISION: Final = """
SELECT name, revision, active, body, digest, tags, registered_at, deregistered_at
FROM definition
WHERE name = ? AND revision = ?
"""

ALL_REVISIONS: Final = """
SELECT name, revision, active, body, digest, tags, registered_at, deregistered_at
FROM definition
WHERE (name, revision) > (?, ?)
ORDER BY name, revision
LIMIT ?
"""

DEFINITION_NAMES: Final = "SELECT DISTINCT name FROM definition ORDER BY name LIMIT ?"

# --- events

EVENTS: Final = """
SELECT event.seq, event.at, event.kind, event.run, event.job, event.idx, event.attempt, event.status, event.exit_code,
  event.reason, event.status_reason, event.detail,
  run.id, job.id, job_plan.name
FROM event
LEFT JOIN run ON run.no = event.run
LEFT JOIN job ON job.no = event.job
LEFT JOIN job_plan ON job_plan.job = event.job
WHERE event.seq > ?
ORDER BY event.seq
LIMIT ?
"""

EVENTS_OF_RUN: Final = """
SELECT event.seq, event.at, event.kind, event.run, event.job, event.idx, event.attempt, event.status, event.exit_code,
  event.reason, event.status_reason, event.detail,
  run.id, job.id, job_plan.name
FROM event NOT INDEXED
LEFT JOIN run ON run.no = event.run
LEFT JOIN job ON job.no = event.job
LEFT JOIN job_plan ON job_plan.job = event.job
WHERE event.run = ? AND event.seq > ? AND event.seq <= ?
ORDER BY event.seq
LIMIT ?
"""

# The first of a run's events is its own. After the last one of an ended run there is nothing of it.
SPAN_OF_RUN: Final = """
SELECT
  (SELECT seq FROM event INDEXED BY event_by_run WHERE run = ?1 AND kind <> 3 ORDER BY seq LIMIT 1),
  (SELECT seq FROM event INDEXED BY event_by_run WHERE run = ?1 AND kind <> 3 ORDER BY seq DESC LIMIT 1)
"""

# The event that ended the run. What comes after it, of deliveries, is not for its own sinks to wait for.
LAST_OF_RUN: Final = """
SELECT max(seq) FROM event INDEXED BY event_by_run WHERE run = ? AND kind <> 3 AND kind = 1
"""

# Also of what was collected since: who was owed that is to learn of it.
# What is there of a range of numbers: the rest was collected with its runs.
KEPT_EVENTS: Final = """
SELECT (SELECT min(seq) FROM event WHERE seq BETWEEN ?1 AND ?2),
  (SELECT max(seq) FROM event WHERE seq BETWEEN ?1 AND ?2)
"""

LAST_SEQ: Final = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)"

# --- sinks

# What an event tells of is pinned: the run's name and birth, the job's. Its plan is read apart, once a job.
LOGGED: Final = """
SELECT event.seq, event.at, event.kind, event.run, event.job, event.idx, event.attempt, event.status, event.exit_code,
  event.reason, event.status_reason, event.detail
FROM event
WHERE event.seq > ? AND event.seq <= ?
ORDER BY event.seq
LIMIT ?
"""

LOGGED_OF_RUN: Final = """
SELECT event.seq, event.at, event.kind, event.run, event.job, event.idx, event.attempt, event.status, event.exit_code,
  event.reason, event.status_reason, event.detail
FROM event NOT INDEXED
WHERE event.seq > ? AND event.seq <= ? AND event.run = ?
ORDER BY event.seq
LIMIT ?
"""

JOB_FACTS: Final = """
SELECT job.id, job_plan.plan, job.created_at, job.run FROM job JOIN job_plan ON job_plan.job = job.no WHERE job.no = ?
"""

RUN_FACTS: Final = """
SELECT run.id, run_plan.workflow, run.created_at FROM run JOIN run_plan ON run_plan.run = run.no WHERE run.no = ?
"""

SINK_METERS: Final = """
SELECT CASE WHEN run IS NULL THEN substr(key, 1, instr(key || '~', '~') - 1)
    ELSE 'run/' || substr(key, instr(key, '/') + 1, instr(substr(key, instr(key, '/') + 1) || '~', '~') - 1) END AS name,
  sum(delivered), sum(failed), sum(dead), sum(status = 0 AND failing_since IS NOT NULL), sum(status = 2),
  max(CASE status WHEN 1 THEN 0 ELSE max(min(coalesce(until, ?1), ?1) - cursor, 0) END),
  sum((SELECT count(*) FROM parked WHERE parked.sink = sink.key))
FROM sink
GROUP BY name
ORDER BY name
"""

SINKS: Final = """
SELECT sink.key, sink.run, sink.notify, sink.status, sink.status_reason, sink.cursor, sink.until, sink.created_at,
  sink.failing_since, sink.tries, sink.error, sink.digest_first, sink.digest_last, sink.delivered, sink.failed,
  sink.dead, sink.delivered_at
FROM sink
WHERE sink.key > ?
ORDER BY sink.key
LIMIT ?
"""

SINK: Final = """
SELECT sink.key, sink.run, sink.notify, sink.status, sink.status_reason, sink.cursor, sink.until, sink.created_at,
  sink.failing_since, sink.tries, sink.error, sink.digest_first, sink.digest_last, sink.delivered, sink.failed,
  sink.dead, sink.delivered_at
FROM sink
WHERE sink.key = ?
"""

SINKS_OF_RUN: Final = "SELECT key FROM sink INDEXED BY sink_by_run WHERE run = ? AND status = 0 ORDER BY key"
ANY_SINK: Final = "SELECT EXISTS (SELECT 1 FROM sink)"
OPEN_SINKS: Final = "SELECT key FROM sink WHERE status = 0 ORDER BY key"
PARKED: Final = "SELECT seq, tries, next_at, error, first FROM parked WHERE sink = ? ORDER BY seq"
DEAD: Final = "SELECT seq, tries, at, error, first FROM dead WHERE sink = ? ORDER BY seq LIMIT ?"
GAPS: Final = "SELECT first, last, at FROM gap WHERE sink = ? ORDER BY first LIMIT ?"
DELIVERIES: Final = "SELECT no, at, acks FROM delivery WHERE sink = ? AND no < ? ORDER BY no DESC LIMIT ?"

INSTANCE_ID: Final = "SELECT id FROM instance"

# --- the file

FILE: Final = """
SELECT
  (SELECT page_count FROM pragma_page_count),
  (SELECT page_size FROM pragma_page_size),
  (SELECT freelist_count FROM pragma_freelist_count),
  (SELECT user_version FROM pragma_user_version),
  (SELECT id FROM instance),
  (SELECT coalesce(max(no), 0) FROM life),
  (SELECT count(*) FROM run),
  (SELECT count(*) FROM run INDEXED BY run_open WHERE status = 0),
  (SELECT count(*) FROM job),
  (SELECT coalesce(max(seq), 0) - coalesce(min(seq), 1) + 1 FROM event)
"""
QUICK_CHECK: Final = "PRAGMA quick_check(20)"
