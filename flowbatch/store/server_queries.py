"""The SQL of what the server alone asks for: pages of jobs, tags, the audit log. As in `queries`, nothing may scan `task`."""

from __future__ import annotations

from typing import Final

# --- a job, its tags where they were changed, and one of its tasks, in one look (DescribeJobs)

DESCRIBED: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.name, job_plan.size, tag.tags,
  task.job, task.idx, task.status, task.attempt, task.base, task.lost, task.memory_mib, task.environment, task.life, task.halt,
  task.not_before, task.started_at, task.stopped_at, task.exit_code, task.reason, task.status_reason, task.truncated, task.node,
  task.cancelled
FROM job
JOIN job_plan ON job_plan.job = job.no
LEFT JOIN tag ON tag.kind = 'job' AND tag.name = job.id
LEFT JOIN task ON task.job = job.no AND task.idx = ?
WHERE job.id = ?
"""

# --- jobs by queue (ListJobs)

# Each page goes by an index from where the last one ended; `no` is the order of submission.
LISTED: Final = """
SELECT job.no FROM job INDEXED BY job_by_queue_status
WHERE job.queue = ? AND job.status = ? AND job.no < ?
ORDER BY job.no DESC
LIMIT ?
"""
LISTED_BY_SHARE: Final = """
SELECT job.no FROM job INDEXED BY job_by_share
WHERE job.queue = ? AND job.share = ? AND job.share <> '' AND job.no < ?
ORDER BY job.no DESC
LIMIT ?
"""
LISTED_BY_SHARE_STATUS: Final = """
SELECT job.no FROM job INDEXED BY job_by_share_status
WHERE job.queue = ? AND job.share = ? AND job.share <> '' AND job.status = ? AND job.no < ?
ORDER BY job.no DESC
LIMIT ?
"""
LISTED_BY_TOKEN: Final = """
SELECT job.no, job.status, job_plan.name
FROM job_token
JOIN job ON job.no = job_token.job
JOIN job_plan ON job_plan.job = job_token.job
WHERE job_token.token = ? AND job_token.job < ?
ORDER BY job_token.job DESC
LIMIT ?
"""
LISTED_BEFORE: Final = """
SELECT job.no, job.created_at FROM job INDEXED BY job_by_queue_time
WHERE job.queue = ? AND (job.created_at, job.no) < (?, ?)
ORDER BY job.created_at DESC, job.no DESC
LIMIT ?
"""
LISTED_AFTER: Final = """
SELECT job.no, job.created_at FROM job INDEXED BY job_by_queue_time
WHERE job.queue = ? AND job.created_at > ? AND (job.created_at, job.no) < (?, ?)
ORDER BY job.created_at DESC, job.no DESC
LIMIT ?
"""
LISTED_BY_NAME: Final = """
SELECT job_plan.job FROM job_plan INDEXED BY job_plan_by_name
WHERE job_plan.queue = ? AND job_plan.name = ? COLLATE NOCASE AND job_plan.job < ?
ORDER BY job_plan.job DESC
LIMIT ?
"""
LISTED_BY_NAME_PREFIX: Final = """
SELECT job_plan.job, job_plan.name FROM job_plan INDEXED BY job_plan_by_name
WHERE job_plan.queue = ? AND job_plan.name >= ? COLLATE NOCASE AND job_plan.name < ? COLLATE NOCASE
  AND (job_plan.name <> ? COLLATE NOCASE OR job_plan.job > ?)
ORDER BY job_plan.name COLLATE NOCASE, job_plan.job
LIMIT ?
"""
LISTED_BY_DEFINITION: Final = """
SELECT job_plan.job FROM job_plan INDEXED BY job_plan_by_definition
WHERE job_plan.queue = ? AND job_plan.definition = ? AND job_plan.job < ?
ORDER BY job_plan.job DESC
LIMIT ?
"""
LISTED_BY_DEFINITIONS: Final = """
SELECT job_plan.job, job_plan.definition FROM job_plan INDEXED BY job_plan_by_definition
WHERE job_plan.queue = ? AND job_plan.definition >= ? AND job_plan.definition < ?
  AND (job_plan.definition <> ? OR job_plan.job > ?)
ORDER BY job_plan.definition, job_plan.job
LIMIT ?
"""
JOB_BY_NO: Final = """
SELECT job.no, job.id, job.run, job.stage, job.status, job.rest, job.rest_reason, job.rest_at, job.generation,
  job.cancelled, job.terminated, job.skipped, job.status_reason, job.created_at, job.started_at, job.stopped_at,
  job_plan.name, job_plan.size
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.no = ?
"""
# A single's own task comes with it: a page of a thousand is one step for its reader.
JOBS_OF_PAGE: Final = """
SELECT job.no, job.id, job.status, job.rest, job.rest_reason, job.cancelled, job.terminated, job.status_reason,
  job.created_at, job.started_at, job.stopped_at, job_plan.name, job_plan.size, job_plan.definition, job.share, task.exit_code, task.reason, task.status_reason
FROM json_each(?) AS page
JOIN job ON job.no = page.value
JOIN job_plan ON job_plan.job = job.no
LEFT JOIN task ON task.job = job.no AND task.idx = 0 AND job_plan.size IS NULL
ORDER BY page.id
"""
COUNTS_OF_PAGE: Final = """
SELECT task.job, task.status, count(*)
FROM json_each(?) AS page
JOIN task ON task.job = page.value
GROUP BY task.job, task.status
"""
STATUSES_OF_JOB: Final = "SELECT idx, status FROM task WHERE job = ?"
# By how they begin: from the one text, and before the other.
RUN_IDS: Final = "SELECT id FROM run WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
JOB_IDS: Final = "SELECT id FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
HAS_JOB: Final = "SELECT 1 FROM job WHERE id = ?"

# --- tags, keys, audit

TAGS: Final = "SELECT tags FROM tag WHERE kind = ? AND name = ?"
AUDITED: Final = """
SELECT seq, at, principal, key_id, address, agent, action, resource, allowed, statement, request_id, params, digest, response,
  error, hash
FROM audit
WHERE seq > ?
ORDER BY seq
LIMIT ?
"""
AUDIT_PRUNED: Final = "SELECT seq, hash, at FROM audit_pruned ORDER BY seq DESC LIMIT 1"
AUDIT_KEPT_FROM: Final = "SELECT seq FROM audit WHERE at >= ? ORDER BY seq LIMIT 1"  # reads what is to go, and one more
AUDIT_AT: Final = "SELECT seq, hash FROM audit WHERE seq <= ? ORDER BY seq DESC LIMIT 1"
LAST_AUDITED: Final = "SELECT coalesce(max(seq), 0) FROM audit"
