-- Job definitions: revisions of a name count up from 1 and are never deleted while their name is in use, so that a number is
-- never given twice. `body` is RegisterJobDefinition as JSON without name and tags.

CREATE TABLE definition (
  name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
  revision INTEGER NOT NULL CHECK (revision >= 1),
  active INTEGER NOT NULL CHECK (active IN (0, 1)),
  body TEXT NOT NULL,
  digest TEXT NOT NULL,  -- of body and tags
  tags TEXT NOT NULL,
  registered_at INTEGER NOT NULL,
  deregistered_at INTEGER,
  PRIMARY KEY (name, revision),
  CHECK ((active = 0) = (deregistered_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 3;
