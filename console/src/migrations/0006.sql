-- Values that secrets had before: nobody gets them, and a job's older words are starred by them.
CREATE TABLE former_secrets (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  name TEXT NOT NULL,
  sealed BLOB NOT NULL
) STRICT;
CREATE INDEX former_secrets_by_task ON former_secrets (task);
-- Receivers that have it already, while others are still tried: `webhook`, `mail`, or both.
ALTER TABLE notices ADD COLUMN told TEXT NOT NULL DEFAULT '';
