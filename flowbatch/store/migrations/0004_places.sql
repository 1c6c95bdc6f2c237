-- The engine's own environments and queues; those of a workflow file are in the plan of their run. And of a task the node that
-- it runs on, and one more reason to stop it: its host is taken back (4).

CREATE TABLE environment (
  name TEXT PRIMARY KEY,
  spec TEXT NOT NULL,  -- Environment as JSON
  declared TEXT,       -- what the settings said when they were last looked at; NULL: made by a command
  status TEXT NOT NULL CHECK (status IN ('VALID', 'UPDATING', 'DELETING', 'DELETED')),
  updated_at INTEGER,
  replace_at INTEGER,
  CHECK (status <> 'DELETED' OR declared IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
  name TEXT PRIMARY KEY,
  spec TEXT NOT NULL,  -- Queue as JSON
  declared TEXT,
  status TEXT NOT NULL CHECK (status IN ('VALID', 'UPDATING', 'DELETING', 'DELETED')),
  CHECK (status <> 'DELETED' OR declared IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_with_node (
  job INTEGER NOT NULL REFERENCES job (no),
  idx INTEGER NOT NULL CHECK (idx >= 0),
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 6),
  attempt INTEGER NOT NULL CHECK (attempt >= 0),
  base INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  memory_mib INTEGER NOT NULL,
  environment TEXT,
  life INTEGER NOT NULL,
  halt INTEGER NOT NULL CHECK (halt BETWEEN 0 AND 4),
  not_before INTEGER,
  started_at INTEGER,
  stopped_at INTEGER,
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT,
  truncated INTEGER NOT NULL DEFAULT 0 CHECK (truncated IN (0, 1)),
  node TEXT,  -- of an UNMANAGED environment
  PRIMARY KEY (job, idx),
  CHECK ((status >= 5) = (stopped_at IS NOT NULL)),
  CHECK (status NOT IN (3, 4) OR (environment IS NOT NULL AND attempt > 0))
) STRICT, WITHOUT ROWID;

INSERT INTO task_with_node
SELECT job, idx, status, attempt, base, lost, memory_mib, environment, life, halt, not_before, started_at, stopped_at,
  exit_code, reason, status_reason, truncated, NULL
FROM task;

DROP TABLE task;
ALTER TABLE task_with_node RENAME TO task;

PRAGMA user_version = 4;
