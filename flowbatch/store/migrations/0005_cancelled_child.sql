-- A child that was cancelled by its index while it ran: it ends by itself, and is not tried again.

ALTER TABLE task ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0 CHECK (cancelled IN (0, 1));

PRAGMA user_version = 5;
