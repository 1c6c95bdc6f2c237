"""What must hold in every store at every moment, as SQL: each statement finds what breaks its law.

The schema states what one row can say; these look at several. `doctor --invariants` runs them on a live store, the tests after
each simulated crash. They read everything, so that they have no deadline.
"""

from __future__ import annotations

from typing import Final

RUN_ENDED_WITH_OPEN_JOB: Final = """
SELECT 'run ' || run.id || ' has ended, its job ' || job.id || ' has not'
FROM run
JOIN job ON job.run = run.no
WHERE run.status <> 0 AND job.status < 5
LIMIT 3
"""

RUN_SUCCEEDED_WITH_FAILED_JOB: Final = """
SELECT 'run ' || run.id || ' SUCCEEDED, its job ' || job.id || ' FAILED'
FROM run
JOIN job ON job.run = run.no
WHERE run.status = 1 AND job.status = 6
LIMIT 3
"""

JOB_ENDED_WITH_OPEN_TASK: Final = """
SELECT 'job ' || job.id || ' has ended, its child ' || task.idx || ' has not'
FROM job
CROSS JOIN task
WHERE job.status >= 5 AND task.job = job.no AND task.status < 5
LIMIT 3
"""

JOB_ENDED_WITH_OPEN_REST: Final = """
SELECT 'job ' || job.id || ' has ended, some of its children still wait'
FROM job
JOIN job_plan ON job_plan.job = job.no
WHERE job.status >= 5 AND job.rest < 5
  AND coalesce(job_plan.size, 1) > (SELECT count(*) FROM task WHERE task.job = job.no)
LIMIT 3
"""

SINGLE_IS_ITS_TASK: Final = """
SELECT 'job ' || job.id || ' has status ' || job.status || ', its task ' || task.status
FROM job
JOIN job_plan ON job_plan.job = job.no
CROSS JOIN task
WHERE job_plan.size IS NULL AND task.job = job.no AND task.status <> job.status
LIMIT 3
"""

TASK_WITHIN_ITS_JOB: Final = """
SELECT 'job ' || job.id || ' has ' || coalesce(job_plan.size, 1) || ' children and a row of child ' || max(task.idx)
FROM job
JOIN job_plan ON job_plan.job = job.no
CROSS JOIN task
WHERE task.job = job.no
GROUP BY job.no
HAVING max(task.idx) >= coalesce(job_plan.size, 1)
LIMIT 3
"""

ATTEMPTS_WITHIN_THE_BUDGET: Final = """
SELECT 'child ' || task.idx || ' of job ' || job.id || ' has begun attempt ' || task.attempt
FROM job
JOIN job_plan ON job_plan.job = job.no
CROSS JOIN task
WHERE task.job = job.no AND task.attempt - task.base > (job_plan.plan ->> '$.spec.retry.attempts')
LIMIT 3
"""

HISTORY_IS_BEHIND_ITS_TASK: Final = """
SELECT 'attempt ' || attempt.attempt || ' of child ' || attempt.idx || ' of job ' || job.id || ' is ahead of its task'
FROM attempt
JOIN job ON job.no = attempt.job
LEFT JOIN task ON task.job = attempt.job AND task.idx = attempt.idx
WHERE task.attempt IS NULL OR attempt.attempt > task.attempt
LIMIT 3
"""

MEMBERS_END_WITH_THEIR_ATTEMPT: Final = """
SELECT 'member ' || member.member || ' of attempt ' || member.attempt || ' of child ' || member.idx || ' of job ' || job.id
  || ' is open, and its attempt is over'
FROM job
CROSS JOIN member
LEFT JOIN task ON task.job = member.job AND task.idx = member.idx
WHERE member.job = job.no AND member.status < 5
  AND (task.status IS NULL OR task.status NOT IN (3, 4) OR task.attempt <> member.attempt)
LIMIT 3
"""

LIFE_IS_KNOWN: Final = """
SELECT 'child ' || task.idx || ' of job ' || job.id || ' was placed in life ' || task.life || ', which never was'
FROM job
CROSS JOIN task
WHERE task.job = job.no AND task.life > (SELECT max(no) FROM life)
LIMIT 3
"""

RUN_IS_ITS_LAST_EVENT: Final = """
SELECT 'run ' || run.id || ' has status ' || run.status || ', its last event says ' || event.status
FROM run
JOIN event ON event.seq = (SELECT max(seq) FROM event WHERE run = run.no AND kind <> 3 AND kind = 1)
WHERE event.status <> run.status
LIMIT 3
"""

JOB_IS_ITS_LAST_EVENT: Final = """
WITH last AS (
  SELECT job, status, max(seq) FROM event INDEXED BY event_by_run WHERE kind <> 3 AND kind = 2 GROUP BY job
)
SELECT 'job ' || job.id || ' has status ' || job.status || ', its last event says ' || last.status
FROM last
JOIN job ON job.no = last.job
WHERE last.status <> job.status
LIMIT 3
"""

# A `finally` job runs again with each retry of its run, also where it had succeeded.
LEGAL_EDGES: Final = """
WITH edge AS (
  SELECT job, lag(status) OVER (PARTITION BY job ORDER BY seq) AS old, status AS new
  FROM event INDEXED BY event_by_run
  WHERE kind <> 3 AND kind = 2
), legal (old, new) AS (
  VALUES (0, 1), (0, 2), (0, 6), (1, 2), (1, 5), (1, 6), (2, 3), (2, 6), (3, 4), (3, 2), (3, 6), (4, 2), (4, 5), (4, 6),
    (6, 1)
)
SELECT 'job ' || job.id || ' went from ' || edge.old || ' to ' || edge.new
FROM edge
JOIN job ON job.no = edge.job
WHERE edge.old IS NOT NULL AND (edge.old, edge.new) NOT IN (SELECT old, new FROM legal)
  AND NOT (job.stage = 'finally' AND (edge.old, edge.new) = (5, 1))
LIMIT 3
"""

NEEDED_ROWS_ARE_THERE: Final = """
SELECT "table" || ' row ' || coalesce(rowid, '') || ' refers to a missing ' || parent FROM pragma_foreign_key_check LIMIT 3
"""

LAWS: Final = {
    "an ended run has no open job": RUN_ENDED_WITH_OPEN_JOB,
    "a run with a FAILED job is not SUCCEEDED": RUN_SUCCEEDED_WITH_FAILED_JOB,
    "an ended job has no open child": JOB_ENDED_WITH_OPEN_TASK,
    "no child of an ended job waits": JOB_ENDED_WITH_OPEN_REST,
    "a single's status is its task's": SINGLE_IS_ITS_TASK,
    "every index lies within its job": TASK_WITHIN_ITS_JOB,
    "attempts stay within their budget": ATTEMPTS_WITHIN_THE_BUDGET,
    "no past attempt is ahead of its task": HISTORY_IS_BEHIND_ITS_TASK,
    "members end with their attempt": MEMBERS_END_WITH_THEIR_ATTEMPT,
    "every attempt was placed in a known life": LIFE_IS_KNOWN,
    "a run is what its last event says": RUN_IS_ITS_LAST_EVENT,
    "a job is what its last event says": JOB_IS_ITS_LAST_EVENT,
    "jobs went by legal edges alone": LEGAL_EDGES,
    "what a row refers to is there": NEEDED_ROWS_ARE_THERE,
}
