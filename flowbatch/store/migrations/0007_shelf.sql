-- The library of a server: what was last accepted under the name of each file in its folder.

CREATE TABLE shelf (
  name TEXT PRIMARY KEY,
  digest TEXT NOT NULL,
  content TEXT NOT NULL,
  seen_at INTEGER NOT NULL,
  gone INTEGER NOT NULL CHECK (gone IN (0, 1)),
  run TEXT
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 7;
