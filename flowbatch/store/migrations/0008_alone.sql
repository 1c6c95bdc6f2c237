-- Jobs without a run, found by queue, status, name, definition and time; keys, policies, tags; and the audit log, which only
-- ever grows: each row holds the hash of the one before.

ALTER TABLE job ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE job_plan ADD COLUMN queue TEXT NOT NULL DEFAULT '';
ALTER TABLE job_plan ADD COLUMN definition TEXT NOT NULL DEFAULT '';

UPDATE job_plan SET queue = plan ->> '$.spec.queue', definition = coalesce(plan ->> '$.spec.definition', '');
UPDATE job SET queue = coalesce((SELECT queue FROM job_plan WHERE job_plan.job = job.no), '');

CREATE INDEX job_alone_open ON job (no) WHERE run IS NULL AND status < 5;
CREATE INDEX job_alone_by_stop ON job (stopped_at) WHERE run IS NULL AND stopped_at IS NOT NULL;
CREATE INDEX job_by_queue_status ON job (queue, status, no);
CREATE INDEX job_by_queue_time ON job (queue, created_at, no);
CREATE INDEX job_plan_by_name ON job_plan (queue, name COLLATE NOCASE, job);
CREATE INDEX job_plan_by_definition ON job_plan (queue, definition, job);
CREATE INDEX event_of_job_alone ON event (job) WHERE run IS NULL;

CREATE TABLE access_key (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  generation INTEGER NOT NULL CHECK (generation >= 1),
  policies TEXT NOT NULL,  -- names, as a JSON list
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  revoked_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE policy (
  name TEXT PRIMARY KEY,
  document TEXT NOT NULL,
  updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Of resources whose tags were changed; until then they are what the resource was made with.
CREATE TABLE tag (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  tags TEXT NOT NULL,
  PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  principal TEXT NOT NULL,
  key_id TEXT,
  address TEXT,
  agent TEXT,
  action TEXT NOT NULL,
  resource TEXT NOT NULL,
  allowed INTEGER NOT NULL CHECK (allowed IN (0, 1)),
  statement TEXT,
  request_id TEXT NOT NULL,
  params TEXT,
  digest TEXT NOT NULL,
  response TEXT,
  error TEXT,
  hash TEXT NOT NULL  -- of the hash before and of all columns but this
) STRICT;

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
  SELECT raise(ABORT, 'the audit log is not changed');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
  SELECT raise(ABORT, 'the audit log is not changed');
END;

PRAGMA user_version = 8;
