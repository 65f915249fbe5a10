-- Secrets are sealed; `value` is what an older release left, and is emptied at the first start.
ALTER TABLE secrets ADD COLUMN sealed BLOB;
-- Something known, sealed, so that a wrong key is seen at once.
CREATE TABLE vault (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  proof BLOB NOT NULL
) STRICT;
