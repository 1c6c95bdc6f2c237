-- A digest that was given up is known by its first event, too, so that it can be had again as it was. Of those that are there already
-- the one before, where there is one, says where they began: an event may come twice, none is left out.

ALTER TABLE dead ADD COLUMN first INTEGER CHECK (first <= seq);
ALTER TABLE parked ADD COLUMN first INTEGER CHECK (first <= seq);

UPDATE dead SET first = 1 + coalesce(
  (SELECT max(earlier.seq) FROM dead AS earlier WHERE earlier.sink = dead.sink AND earlier.seq < dead.seq), 0
)
WHERE sink IN (SELECT key FROM sink WHERE json_extract(notify, '$.digest_ms') IS NOT NULL);

PRAGMA user_version = 16;
