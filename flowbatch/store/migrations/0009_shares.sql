-- Fair share: what each share of a queue has used, a row for each cell of its decay window; and since when a blocked job stands
-- at the head of a queue that limits how long. Queues are named as runs name them, and come and go with settings and runs.

CREATE TABLE share_usage (
  queue TEXT NOT NULL,
  share TEXT NOT NULL,
  at INTEGER NOT NULL,     -- when the cell begins
  used INTEGER NOT NULL CHECK (used >= 0),  -- thousandths of a vCPU × milliseconds
  until INTEGER NOT NULL,  -- what the share holds counts from then on
  PRIMARY KEY (queue, share, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE queue_head (
  queue TEXT PRIMARY KEY,
  job INTEGER NOT NULL,
  reason TEXT NOT NULL,
  since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 9;
