-- The first schema. Integers for statuses, times (epoch milliseconds) and flags; the numbers of a status are those of
-- model/status.py. What can be derived (queues, timers, counts of parents) is not stored.

PRAGMA application_id = 1718382455;  -- "flow"
PRAGMA user_version = 1;

CREATE TABLE instance (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  id TEXT NOT NULL  -- names this state folder to backends that serve several
) STRICT;

INSERT INTO instance (only, id) VALUES (1, lower(hex(randomblob(8))));

-- Each start of an engine on this folder.
CREATE TABLE life (
  no INTEGER PRIMARY KEY AUTOINCREMENT,
  boot_id TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started_at INTEGER NOT NULL
) STRICT;

CREATE TABLE run (
  no INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2),
  stage TEXT NOT NULL CHECK (stage IN ('main', 'finally')),
  stop INTEGER NOT NULL CHECK (stop BETWEEN 0 AND 3),
  cancelled INTEGER NOT NULL CHECK (cancelled IN (0, 1)),
  generation INTEGER NOT NULL CHECK (generation >= 0),
  status_reason TEXT,
  created_at INTEGER NOT NULL,
  deadline_at INTEGER,
  finally_at INTEGER,
  stopped_at INTEGER,
  CHECK ((status <> 0) = (stopped_at IS NOT NULL)),
  CHECK (stage = 'main' OR finally_at IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX run_by_id ON run (id);
CREATE INDEX run_open ON run (no) WHERE status = 0;
CREATE INDEX run_by_stop ON run (stopped_at) WHERE stopped_at IS NOT NULL;

-- What a run was started from; never changed. A run without its plan is being collected and shows nowhere.
CREATE TABLE run_plan (
  run INTEGER PRIMARY KEY REFERENCES run (no),
  workflow TEXT NOT NULL,
  file TEXT NOT NULL,
  plan TEXT NOT NULL,   -- RunPlan as JSON, without its jobs and its source
  source TEXT NOT NULL  -- the workflow file's text
) STRICT;

CREATE INDEX run_plan_by_workflow ON run_plan (workflow, run);

CREATE TABLE job (
  no INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  run INTEGER REFERENCES run (no),
  stage TEXT NOT NULL CHECK (stage IN ('main', 'finally')),
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 6),
  rest INTEGER NOT NULL CHECK (rest BETWEEN 0 AND 6),
  rest_reason TEXT,
  rest_at INTEGER,
  generation INTEGER NOT NULL CHECK (generation >= 0),
  cancelled INTEGER NOT NULL CHECK (cancelled IN (0, 1)),
  terminated INTEGER NOT NULL CHECK (terminated IN (0, 1)),
  skipped INTEGER NOT NULL CHECK (skipped IN (0, 1)),
  status_reason TEXT,
  created_at INTEGER NOT NULL,
  started_at INTEGER,
  stopped_at INTEGER,
  CHECK ((status >= 5) = (stopped_at IS NOT NULL)),
  CHECK ((rest >= 5) = (rest_at IS NOT NULL)),
  CHECK (rest NOT IN (3, 4))  -- what runs has a row
) STRICT;

CREATE UNIQUE INDEX job_by_id ON job (id);
CREATE INDEX job_by_run ON job (run, no);

-- What a job is; never changed.
CREATE TABLE job_plan (
  job INTEGER PRIMARY KEY REFERENCES job (no),
  name TEXT NOT NULL,
  size INTEGER CHECK (size BETWEEN 0 AND 10000),  -- NULL: a single
  plan TEXT NOT NULL  -- JobPlan as JSON
) STRICT;

-- Children (and singles) that have left the status in which their job's others rest. No index but the key: it is the table
-- that is written most.
CREATE TABLE task (
  job INTEGER NOT NULL REFERENCES job (no),
  idx INTEGER NOT NULL CHECK (idx >= 0),
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 6),
  attempt INTEGER NOT NULL CHECK (attempt >= 0),
  base INTEGER NOT NULL,
  lost INTEGER NOT NULL,
  memory_mib INTEGER NOT NULL,
  environment TEXT,
  life INTEGER NOT NULL,
  halt INTEGER NOT NULL CHECK (halt BETWEEN 0 AND 3),
  not_before INTEGER,
  started_at INTEGER,
  stopped_at INTEGER,
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT,
  PRIMARY KEY (job, idx),
  CHECK ((status >= 5) = (stopped_at IS NOT NULL)),
  CHECK (status NOT IN (3, 4) OR (environment IS NOT NULL AND attempt > 0))
) STRICT, WITHOUT ROWID;

-- Attempts that were followed by another, or may be.
CREATE TABLE attempt (
  job INTEGER NOT NULL REFERENCES job (no),
  idx INTEGER NOT NULL CHECK (idx >= 0),
  attempt INTEGER NOT NULL CHECK (attempt > 0),
  environment TEXT,
  started_at INTEGER,
  stopped_at INTEGER NOT NULL,
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT,
  PRIMARY KEY (job, idx, attempt)
) STRICT, WITHOUT ROWID;

-- The log of changed facts, and the outbox: a sink is a cursor over `seq`. Kind 3 is a child's; these are many, so that the one
-- index leaves them out: they lie between the first and the last event of their run.
CREATE TABLE event (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 3),
  run INTEGER,
  job INTEGER,
  idx INTEGER,
  attempt INTEGER,
  status INTEGER NOT NULL,
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT
) STRICT;

CREATE INDEX event_by_run ON event (run, seq) WHERE kind <> 3;
