-- Times of a schedule that have come while a server ran and wait for the run before them to end: they are owed across a restart, too, and
-- no longer told by `seen_at` alone from those that passed while none ran. A JSON list of milliseconds.

ALTER TABLE shelf ADD COLUMN queued TEXT NOT NULL DEFAULT '[]';

PRAGMA user_version = 17;
