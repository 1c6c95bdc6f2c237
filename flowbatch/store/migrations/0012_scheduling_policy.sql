-- Scheduling policies that queues share by name; each queue has a copy of its own in its spec.

CREATE TABLE scheduling_policy (
  name TEXT PRIMARY KEY,
  policy TEXT NOT NULL  -- FairShare as JSON
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 12;
