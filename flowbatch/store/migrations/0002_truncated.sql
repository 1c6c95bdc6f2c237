-- Whether the log of an attempt was capped, so that its beginning is gone.

ALTER TABLE task ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0 CHECK (truncated IN (0, 1));
ALTER TABLE attempt ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0 CHECK (truncated IN (0, 1));

PRAGMA user_version = 2;
