-- Where events go. A sink is a cursor over the event log: there is no row per event, but for what was refused. And more kinds of
-- events: a node (4), a queue that is blocked (5), a sink (6); with more changed facts where there are some.

CREATE TABLE event_with_detail (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  kind INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 6),
  run INTEGER,
  job INTEGER,
  idx INTEGER,
  attempt INTEGER,
  status INTEGER NOT NULL,
  exit_code INTEGER,
  reason TEXT,
  status_reason TEXT,
  detail TEXT  -- a JSON object
) STRICT;

INSERT INTO event_with_detail
SELECT seq, at, kind, run, job, idx, attempt, status, exit_code, reason, status_reason, NULL FROM event;

DELETE FROM sqlite_sequence WHERE name = 'event_with_detail';
INSERT INTO sqlite_sequence (name, seq) SELECT 'event_with_detail', seq FROM sqlite_sequence WHERE name = 'event';

DROP TABLE event;
ALTER TABLE event_with_detail RENAME TO event;
CREATE INDEX event_by_run ON event (run, seq) WHERE kind <> 3;
CREATE INDEX event_of_job_alone ON event (job) WHERE run IS NULL;

CREATE TABLE sink (
  key TEXT PRIMARY KEY,
  run INTEGER REFERENCES run (no),  -- only of its events; NULL: of all runs
  notify TEXT NOT NULL,             -- Notify as JSON; secrets by reference
  status INTEGER NOT NULL CHECK (status BETWEEN 0 AND 2),
  status_reason TEXT,
  cursor INTEGER NOT NULL,          -- all events up to here are delivered, not wanted, parked or dead
  until INTEGER,                    -- a redelivery ends there
  created_at INTEGER NOT NULL,
  failing_since INTEGER,
  tries INTEGER NOT NULL DEFAULT 0, -- since then
  error TEXT,                       -- the last one
  digest_first INTEGER,             -- the digest that is on its way
  digest_last INTEGER,
  delivered INTEGER NOT NULL DEFAULT 0,
  failed INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0,
  delivered_at INTEGER,
  CHECK ((failing_since IS NULL) = (error IS NULL)),
  CHECK ((digest_first IS NULL) = (digest_last IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX sink_by_run ON sink (run) WHERE run IS NOT NULL;

-- Refused while others of the sink pass, or waiting behind such a one of the same job (then without next_at).
CREATE TABLE parked (
  sink TEXT NOT NULL REFERENCES sink (key),
  seq INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  next_at INTEGER,
  error TEXT NOT NULL,
  PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;

-- Given up.
CREATE TABLE dead (
  sink TEXT NOT NULL REFERENCES sink (key),
  seq INTEGER NOT NULL,
  tries INTEGER NOT NULL,
  at INTEGER NOT NULL,
  error TEXT NOT NULL,
  PRIMARY KEY (sink, seq)
) STRICT, WITHOUT ROWID;

-- Collected before they could be delivered.
CREATE TABLE gap (
  sink TEXT NOT NULL REFERENCES sink (key),
  first INTEGER NOT NULL,
  last INTEGER NOT NULL CHECK (last >= first),
  at INTEGER NOT NULL,
  PRIMARY KEY (sink, first)
) STRICT, WITHOUT ROWID;

-- What was delivered, many in a row: [[seq, tries, status, latency_ms, ms before `at`], …]. The newest of a sink are kept.
CREATE TABLE delivery (
  no INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL REFERENCES sink (key),
  at INTEGER NOT NULL,
  acks TEXT NOT NULL
) STRICT;

CREATE INDEX delivery_by_sink ON delivery (sink, no);

PRAGMA user_version = 10;
