-- Consumable resources. What is in use of a replenishable one follows from the tasks that are live; of a non-replenishable one
-- `total` is what is left.

CREATE TABLE token (
  name TEXT PRIMARY KEY,
  kind INTEGER NOT NULL CHECK (kind IN (0, 1)),
  total INTEGER NOT NULL CHECK (total >= 0),
  declared INTEGER CHECK (declared >= 0),  -- the total that the settings said last
  run INTEGER REFERENCES run (no),  -- whose file declares it
  tags TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX token_by_run ON token (run);

PRAGMA user_version = 11;
