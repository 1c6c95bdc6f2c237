-- Jobs found by their share and by the consumable resources that they need, ended ones too; and which updates of a
-- consumable resource were made, so that one that is sent again changes nothing.

ALTER TABLE job ADD COLUMN share TEXT NOT NULL DEFAULT '';

UPDATE job SET share = coalesce((SELECT plan ->> '$.spec.share' FROM job_plan WHERE job_plan.job = job.no), '');

CREATE INDEX job_by_share ON job (queue, share, no) WHERE share <> '';
CREATE INDEX job_by_share_status ON job (queue, share, status, no) WHERE share <> '';

-- Those of a file's own run are nobody else's question.
CREATE TABLE job_token (
  token TEXT NOT NULL,
  job INTEGER NOT NULL REFERENCES job (no),
  PRIMARY KEY (token, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_token_by_job ON job_token (job);

INSERT OR IGNORE INTO job_token (token, job)
SELECT demand.value ->> 0, job_plan.job
FROM job_plan, json_each(job_plan.plan, '$.spec.tokens') AS demand
WHERE instr(demand.value ->> 0, '/') = 0;

CREATE TABLE token_update (
  name TEXT NOT NULL,  -- of the consumable resource
  once TEXT NOT NULL,  -- the client's token, with what it asked for
  at INTEGER NOT NULL,
  PRIMARY KEY (name, once)
) STRICT, WITHOUT ROWID;

PRAGMA user_version = 15;
