"""The SQL of the writer, whole and readable; that of the readers is in `queries`.

A statement that names `(?, …)` in a VALUES list takes one row here; `bulk` repeats that list, so that one step writes many.
"""

from __future__ import annotations

from typing import Final

# --- a connection

PRAGMAS: Final = """
PRAGMA synchronous = FULL;
PRAGMA foreign_keys = ON;
PRAGMA busy_timeout = 5000;
PRAGMA wal_autocheckpoint = 16000;
PRAGMA journal_size_limit = 67108864;
PRAGMA mmap_size = 0;
PRAGMA trusted_schema = OFF;
"""
BEFORE_FIRST_TABLE: Final = "PRAGMA auto_vacuum = INCREMENTAL"
WAL: Final = "PRAGMA journal_mode = WAL"
BEGIN: Final = "BEGIN IMMEDIATE"
COMMIT: Final = "COMMIT"
ROLLBACK: Final = "ROLLBACK"
CHECKPOINT: Final = "PRAGMA wal_checkpoint(PASSIVE)"
INCREMENTAL_VACUUM: Final = "PRAGMA incremental_vacuum(4096)"

# --- a turn

# What a reopened task did last becomes history before its row says PENDING; an attempt that is history already stays.
KEEP_REOPENED: Final = """
INSERT OR IGNORE INTO attempt
  (job, idx, attempt, environment, started_at, stopped_at, exit_code, reason, status_reason, truncated)
SELECT task.job, task.idx, task.attempt, task.environment, task.started_at, task.stopped_at, task.exit_code, task.reason,
  task.status_reason, task.truncated
FROM json_each(?) AS span
CROSS JOIN task
WHERE task.job = span.value ->> 0
  AND task.idx BETWEEN span.value ->> 1 AND span.value ->> 2
  AND task.status >= 5
  AND task.attempt > 0
"""

# An upsert: a replaced row would have the foreign keys of all its tasks looked at.
PUT_RUNS: Final = """
INSERT INTO run
  (no, id, status, stage, stop, cancelled, generation, status_reason, created_at, deadline_at, finally_at, stopped_at)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE true LIMIT ?
ON CONFLICT (no) DO UPDATE SET
  status = excluded.status,
  stage = excluded.stage,
  stop = excluded.stop,
  cancelled = excluded.cancelled,
  generation = excluded.generation,
  status_reason = excluded.status_reason,
  deadline_at = excluded.deadline_at,
  finally_at = excluded.finally_at,
  stopped_at = excluded.stopped_at
"""

PUT_RUN_PLANS: Final = """
INSERT INTO run_plan (run, workflow, file, plan, source)
SELECT * FROM (VALUES (?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_JOBS: Final = """
INSERT INTO job
  (no, id, run, stage, status, rest, rest_reason, rest_at, generation, cancelled, terminated, skipped, status_reason,
   created_at, started_at, stopped_at, queue, share)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) WHERE true LIMIT ?
ON CONFLICT (no) DO UPDATE SET
  status = excluded.status,
  rest = excluded.rest,
  rest_reason = excluded.rest_reason,
  rest_at = excluded.rest_at,
  generation = excluded.generation,
  cancelled = excluded.cancelled,
  terminated = excluded.terminated,
  skipped = excluded.skipped,
  status_reason = excluded.status_reason,
  started_at = excluded.started_at,
  stopped_at = excluded.stopped_at
"""

PUT_JOB_PLANS: Final = """
INSERT INTO job_plan (job, name, size, plan, queue, definition)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_JOB_TOKENS: Final = """
INSERT INTO job_token (token, job)
SELECT * FROM (VALUES (?, ?)) LIMIT ?
"""

PUT_TASKS: Final = """
INSERT OR REPLACE INTO task
  (job, idx, status, attempt, base, lost, memory_mib, environment, life, halt, not_before, started_at, stopped_at,
   exit_code, reason, status_reason, truncated, node, cancelled)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_ATTEMPTS: Final = """
INSERT OR REPLACE INTO attempt
  (job, idx, attempt, environment, started_at, stopped_at, exit_code, reason, status_reason, truncated)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_MEMBERS: Final = """
INSERT OR REPLACE INTO member
  (job, idx, attempt, member, status, life, asked, address, due_at, started_at, stopped_at, "end", exit_code, reason,
   status_reason, truncated)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_IMAGES: Final = """
INSERT OR REPLACE INTO image (job, idx, attempt, member, image)
SELECT * FROM (VALUES (?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_EVENTS: Final = """
INSERT INTO event (at, kind, run, job, idx, attempt, status, exit_code, reason, status_reason, detail)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

PUT_DEFINITIONS: Final = """
INSERT INTO definition (name, revision, active, body, digest, tags, registered_at, deregistered_at)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

DEREGISTER: Final = """
UPDATE definition SET active = 0, deregistered_at = ? WHERE name = ? AND revision = ? AND active = 1
"""
# A few rows in a life: no need to write many in one step.
PUT_ENVIRONMENT: Final = """
INSERT OR REPLACE INTO environment (name, spec, declared, status, updated_at, replace_at) VALUES (?, ?, ?, ?, ?, ?)
"""
DELETE_ENVIRONMENT: Final = "DELETE FROM environment WHERE name = ?"
PUT_QUEUE: Final = "INSERT OR REPLACE INTO queue (name, spec, declared, status) VALUES (?, ?, ?, ?)"
PUT_SCHEDULING_POLICY: Final = "INSERT OR REPLACE INTO scheduling_policy (name, policy) VALUES (?, ?)"
DELETE_SCHEDULING_POLICY: Final = "DELETE FROM scheduling_policy WHERE name = ?"
DELETE_QUEUE: Final = "DELETE FROM queue WHERE name = ?"
PUT_SHELF: Final = (
    "INSERT OR REPLACE INTO shelf (name, digest, content, seen_at, gone, run, queued) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
SHELVES: Final = "SELECT name, digest, content, seen_at, gone, run, queued FROM shelf ORDER BY name"
PUT_USAGE: Final = """
INSERT OR REPLACE INTO share_usage (queue, share, at, used, until)
SELECT * FROM (VALUES (?, ?, ?, ?, ?)) LIMIT ?
"""

DROP_USAGE: Final = """
DELETE FROM share_usage
WHERE (queue, share, at) IN (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?))
"""

PUT_HEADS: Final = """
INSERT OR REPLACE INTO queue_head (queue, job, reason, since)
SELECT * FROM (VALUES (?, ?, ?, ?)) LIMIT ?
"""

DROP_HEADS: Final = "DELETE FROM queue_head WHERE queue IN (SELECT value FROM json_each(?))"

PUT_KEY: Final = """
INSERT OR REPLACE INTO access_key (id, name, generation, policies, created_at, expires_at, revoked_at)
VALUES (?, ?, ?, ?, ?, ?, ?)
"""
PUT_POLICY: Final = "INSERT OR REPLACE INTO policy (name, document, updated_at) VALUES (?, ?, ?)"
DELETE_POLICY: Final = "DELETE FROM policy WHERE name = ?"
PUT_TAGS: Final = "INSERT OR REPLACE INTO tag (kind, name, tags) VALUES (?, ?, ?)"
DELETE_TAGS: Final = "DELETE FROM tag WHERE kind = ? AND name = ?"
PUT_AUDIT_PRUNED: Final = """
INSERT OR IGNORE INTO audit_pruned (seq, hash, at)
SELECT seq, hash, ? FROM audit WHERE seq = ? AND seq < (SELECT max(seq) FROM audit)
"""
DROP_AUDIT: Final = "DELETE FROM audit WHERE seq <= (SELECT coalesce(max(seq), 0) FROM audit_pruned)"
LAST_AUDIT: Final = "SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"
PUT_AUDIT: Final = """
INSERT INTO audit
  (seq, at, principal, key_id, address, agent, action, resource, allowed, statement, request_id, params, digest, response,
   error, hash)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

# --- sinks

# It begins after the last event there is, those of this turn excepted.
PUT_SINK: Final = """
INSERT INTO sink (key, run, notify, status, cursor, until, created_at)
VALUES (?, ?, ?, 0, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0), NULL, ?)
ON CONFLICT (key) DO UPDATE SET notify = excluded.notify
"""

COPY_SINK: Final = """
INSERT OR IGNORE INTO sink (key, run, notify, status, cursor, until, created_at)
SELECT ?, run, notify, 0, ?, ?, ? FROM sink WHERE key = ?
"""

PROGRESS_SINK: Final = """
UPDATE sink SET
  cursor = max(cursor, ?), delivered = delivered + ?, failed = failed + ?, dead = dead + ?,
  delivered_at = coalesce(?, delivered_at), failing_since = ?, tries = ?, error = ?, digest_first = ?, digest_last = ?
WHERE key = ?
"""

SET_SINK: Final = "UPDATE sink SET status = ?, status_reason = ? WHERE key = ?"
ENABLE_SINK: Final = """
UPDATE sink SET status = 0, status_reason = NULL, failing_since = NULL, tries = 0, error = NULL WHERE key = ?
"""
TRY_PARKED: Final = "UPDATE parked SET next_at = 0 WHERE sink = ? AND next_at IS NOT NULL"
REOPEN_SINKS: Final = "UPDATE sink SET status = 0 WHERE run = ? AND status = 1 AND until IS NULL"

PUT_PARKED: Final = "INSERT OR REPLACE INTO parked (sink, seq, tries, next_at, error, first) VALUES (?, ?, ?, ?, ?, ?)"
DROP_PARKED: Final = "DELETE FROM parked WHERE sink = ? AND seq = ?"
PUT_DEAD: Final = "INSERT OR REPLACE INTO dead (sink, seq, tries, at, error, first) VALUES (?, ?, ?, ?, ?, ?)"
PUT_GAP: Final = "INSERT OR IGNORE INTO gap (sink, first, last, at) VALUES (?, ?, ?, ?)"
PUT_DELIVERY: Final = "INSERT INTO delivery (sink, at, acks) VALUES (?, ?, ?)"
PRUNE_DELIVERIES: Final = """
DELETE FROM delivery WHERE sink = ? AND no <= (
  SELECT no FROM delivery WHERE sink = ? ORDER BY no DESC LIMIT 1 OFFSET ?
)
"""
REVIVE_DEAD: Final = """
INSERT OR REPLACE INTO parked (sink, seq, tries, next_at, error, first)
SELECT sink, seq, 0, 0, error, first FROM dead WHERE sink = ?
"""
DROP_DEAD: Final = "DELETE FROM dead WHERE sink = ?"

PUT_TOKEN_UPDATE: Final = "INSERT OR REPLACE INTO token_update (name, once, at) VALUES (?, ?, ?)"
DROP_TOKEN_UPDATE: Final = "DELETE FROM token_update WHERE name = ? AND once = ?"
TOKEN_UPDATES: Final = "SELECT name, once, at FROM token_update ORDER BY at"
DROP_JOB_TOKENS: Final = "DELETE FROM job_token WHERE job = ?"
DROP_TOKEN: Final = "DELETE FROM token WHERE name = ?"

PUT_TOKENS: Final = """
INSERT OR REPLACE INTO token (name, kind, total, declared, run, tags, created_at)
SELECT * FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) LIMIT ?
"""

# --- the start of a life

KEYS: Final = "SELECT id, name, generation, policies, created_at, expires_at, revoked_at FROM access_key ORDER BY id"
POLICIES: Final = "SELECT name, document, updated_at FROM policy ORDER BY name"

ENVIRONMENTS: Final = "SELECT name, spec, declared, status, updated_at, replace_at FROM environment ORDER BY name"
SCHEDULING_POLICIES: Final = "SELECT name, policy FROM scheduling_policy ORDER BY name"
QUEUES: Final = "SELECT name, spec, declared, status FROM queue ORDER BY name"

BEGIN_LIFE: Final = "INSERT INTO life (boot_id, pid, started_at) VALUES (?, ?, ?)"

# Of queues that are gone, or have no work: in use, a share's old cells leave one by one.
DROP_OLD_USAGE: Final = "DELETE FROM share_usage WHERE until < ?"

USAGE: Final = "SELECT queue, share, at, used, until FROM share_usage"

HEADS: Final = "SELECT queue, job, reason, since FROM queue_head"

LIVES: Final = """
SELECT
  (SELECT max(no) FROM life),
  (SELECT min(no) FROM life WHERE no > (SELECT coalesce(max(no), 0) FROM life WHERE boot_id <> ?)),
  (SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'run'),
  (SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = 'job')
"""

INSTANCE: Final = "SELECT id FROM instance"

OPEN_RUNS: Final = "SELECT no FROM run INDEXED BY run_open WHERE status = 0 ORDER BY no"

ENDED_RUN: Final = """
SELECT run.no FROM run JOIN run_plan ON run_plan.run = run.no WHERE run.id = ? AND run.status <> 0
"""

RUN: Final = """
SELECT run.no, run.id, run.status, run.stage, run.stop, run.cancelled, run.generation, run.status_reason,
  run.created_at, run.deadline_at, run.finally_at, run.stopped_at, run_plan.plan
FROM run
JOIN run_plan ON run_plan.run = run.no
WHERE run.no = ?
"""

JOBS_OF_RUN: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.plan
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.run = ?
ORDER BY job.no
"""

JOBS_ALONE: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.plan
FROM job INDEXED BY job_alone_open
JOIN job_plan ON job_plan.job = job.no
WHERE job.run IS NULL AND job.status < 5
ORDER BY job.no
"""

TASKS_ALONE: Final = """
SELECT
  json_group_array(task.job), json_group_array(idx), json_group_array(task.status), json_group_array(attempt),
  json_group_array(base), json_group_array(lost), json_group_array(memory_mib), json_group_array(environment),
  json_group_array(life), json_group_array(halt), json_group_array(not_before), json_group_array(task.started_at),
  json_group_array(task.stopped_at), json_group_array(exit_code), json_group_array(reason),
  json_group_array(task.status_reason), json_group_array(truncated), json_group_array(node),
  json_group_array(task.cancelled)
FROM job INDEXED BY job_alone_open
CROSS JOIN task
WHERE job.run IS NULL AND job.status < 5 AND task.job = job.no
"""

# One step for all tasks of a job, a JSON array a column: a step per row gives the interpreter up per row, and beside a
# busy thread each of those waits for its 5 ms (2,000 rows: 16 s). Those that hold something, or that something sets apart.
TASKS_OF_JOB: Final = """
SELECT
  json_group_array(job), json_group_array(idx), json_group_array(status), json_group_array(attempt),
  json_group_array(base), json_group_array(lost), json_group_array(memory_mib), json_group_array(environment),
  json_group_array(life), json_group_array(halt), json_group_array(not_before), json_group_array(started_at),
  json_group_array(stopped_at), json_group_array(exit_code), json_group_array(reason), json_group_array(status_reason),
  json_group_array(truncated), json_group_array(node),
  json_group_array(cancelled)
FROM task
WHERE job = ? AND (
  status IN (3, 4)
  OR (status < 3 AND (base <> 0 OR lost <> 0 OR memory_mib <> 0 OR not_before IS NOT NULL OR cancelled <> 0))
)
"""
# All others: `TaskRow.plain`. Nearly all tasks of a recovery are, and three columns take a fraction of what nineteen do.
PLAIN_TASKS: Final = """
SELECT json_group_array(idx), json_group_array(status), json_group_array(attempt)
FROM task
WHERE job = ? AND NOT (
  status IN (3, 4)
  OR (status < 3 AND (base <> 0 OR lost <> 0 OR memory_mib <> 0 OR not_before IS NOT NULL OR cancelled <> 0))
)
"""

# One step for all of them, like TASKS_OF_JOB; the key has them in the order of their revisions.
DEFINITIONS: Final = """
SELECT json_group_array(name), json_group_array(revision), json_group_array(active), json_group_array(digest)
FROM (SELECT name, revision, active, digest FROM definition ORDER BY name, revision)
"""

# Only of jobs that have several nodes or containers: all that their live attempts wrote.
MEMBERS_OF_LIVE_TASKS: Final = """
SELECT member.job, member.idx, member.attempt, member.member, member.status, member.life, member.asked, member.address,
  member.due_at, member.started_at, member.stopped_at, member."end", member.exit_code, member.reason, member.status_reason,
  member.truncated
FROM task
CROSS JOIN member
WHERE task.job = ? AND task.status IN (3, 4)
  AND member.job = task.job AND member.idx = task.idx AND member.attempt = task.attempt
ORDER BY member.idx, member.member
"""
SHARED_TOKENS: Final = "SELECT name, kind, total, declared, run, tags, created_at FROM token WHERE run IS NULL"
TOKENS_OF_RUN: Final = "SELECT name, kind, total, declared, run, tags, created_at FROM token WHERE run = ?"

# --- collecting what ended long ago

COLLECTABLE: Final = """
SELECT no FROM run INDEXED BY run_by_stop
WHERE stopped_at < ? AND NOT EXISTS (SELECT 1 FROM sink WHERE sink.run = run.no AND sink.status = 0)
ORDER BY stopped_at LIMIT ?
"""
COLLECTABLE_JOBS: Final = """
SELECT no, id FROM job INDEXED BY job_alone_by_stop WHERE run IS NULL AND stopped_at < ? ORDER BY stopped_at LIMIT ?
"""
DROP_EVENTS_ALONE: Final = "DELETE FROM event INDEXED BY event_of_job_alone WHERE run IS NULL AND job = ?"
DROP_RUN_PLAN: Final = "DELETE FROM run_plan WHERE run = ?"
JOBS_TO_DROP: Final = "SELECT no FROM job WHERE run = ? ORDER BY no"
DROP_ATTEMPTS: Final = "DELETE FROM attempt WHERE job = ?"
DROP_MEMBERS: Final = "DELETE FROM member WHERE job = ?"
DROP_IMAGES: Final = "DELETE FROM image WHERE job = ?"
DROP_TASKS: Final = "DELETE FROM task WHERE job = ?"
DROP_JOB_PLAN: Final = "DELETE FROM job_plan WHERE job = ?"
DROP_JOB: Final = "DELETE FROM job WHERE no = ?"
EVENTS_TO_DROP: Final = """
SELECT
  (SELECT seq FROM event INDEXED BY event_by_run WHERE run = ?1 AND kind <> 3 ORDER BY seq LIMIT 1),
  (SELECT seq FROM event INDEXED BY event_by_run WHERE run = ?1 AND kind <> 3 ORDER BY seq DESC LIMIT 1)
"""
DROP_EVENTS: Final = "DELETE FROM event NOT INDEXED WHERE run = ? AND seq BETWEEN ? AND ?"
DROP_DELIVERIES_OF_RUN: Final = "DELETE FROM delivery WHERE sink IN (SELECT key FROM sink WHERE run = ?)"
DROP_GAPS_OF_RUN: Final = "DELETE FROM gap WHERE sink IN (SELECT key FROM sink WHERE run = ?)"
DROP_DEAD_OF_RUN: Final = "DELETE FROM dead WHERE sink IN (SELECT key FROM sink WHERE run = ?)"
DROP_PARKED_OF_RUN: Final = "DELETE FROM parked WHERE sink IN (SELECT key FROM sink WHERE run = ?)"
DROP_SINKS_OF_RUN: Final = "DELETE FROM sink WHERE run = ?"
DROP_TOKENS: Final = "DELETE FROM token WHERE run = ?"
DROP_RUN: Final = "DELETE FROM run WHERE no = ?"
