-- The audit log has an end at which it is kept no longer. What went is said here: up to which record, and that one's hash, on which
-- the first that is left stands. Only what is said here may be deleted, and this is never changed.

CREATE TABLE audit_pruned (
  seq INTEGER PRIMARY KEY,  -- the last record that went
  hash TEXT NOT NULL,
  at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_pruned_is_not_changed BEFORE UPDATE ON audit_pruned
BEGIN
  SELECT raise(ABORT, 'the audit log is not changed');
END;

CREATE TRIGGER audit_pruned_is_not_deleted BEFORE DELETE ON audit_pruned
BEGIN
  SELECT raise(ABORT, 'the audit log is not changed');
END;

DROP TRIGGER audit_is_not_deleted;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN OLD.seq > (SELECT coalesce(max(seq), 0) FROM audit_pruned)
BEGIN
  SELECT raise(ABORT, 'the audit log is not changed');
END;

PRAGMA user_version = 14;
