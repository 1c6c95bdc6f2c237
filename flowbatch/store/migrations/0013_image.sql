-- The very image that a container of an attempt was made from: a tag may mean another one by the next attempt.

CREATE TABLE image (
  job INTEGER NOT NULL REFERENCES job (no),
  idx INTEGER NOT NULL CHECK (idx >= 0),
  attempt INTEGER NOT NULL CHECK (attempt > 0),
  member INTEGER NOT NULL CHECK (member >= -1),  -- -1: the attempt is one container
  image TEXT NOT NULL,  -- name@sha256:…; of an image that no registry knows, sha256:…
  PRIMARY KEY (job, idx, attempt, member)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 13;
