-- What an attempt of several nodes or containers consists of. A member that waits has a row only where a clock runs for it.

CREATE TABLE member (
  job INTEGER NOT NULL REFERENCES job (no),
  idx INTEGER NOT NULL CHECK (idx >= 0),
  attempt INTEGER NOT NULL CHECK (attempt > 0),
  member INTEGER NOT NULL CHECK (member >= 0),
  status INTEGER NOT NULL CHECK (status BETWEEN 2 AND 6),
  life INTEGER NOT NULL,
  asked INTEGER NOT NULL CHECK (asked IN (0, 1)),  -- to stop
  address TEXT,
  due_at INTEGER,
  started_at INTEGER,
  stopped_at INTEGER,
  "end" TEXT,  -- model/ending.py: EndClass
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT,
  truncated INTEGER NOT NULL CHECK (truncated IN (0, 1)),
  PRIMARY KEY (job, idx, attempt, member),
  CHECK ((status >= 5) = (stopped_at IS NOT NULL)),
  CHECK ((status >= 5) = ("end" IS NOT NULL)),
  CHECK (status NOT IN (4, 5) OR started_at IS NOT NULL)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 6;
