-- Stores of which one row may be looked at: an administrator has said so.
CREATE TABLE records (
  name TEXT PRIMARY KEY,
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  -- As the task's topology calls it.
  store TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- Figures of a job for its charts, by second: JSON. Kept over a restart of the console.
CREATE TABLE points (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  time INTEGER NOT NULL,
  point TEXT NOT NULL,
  PRIMARY KEY (task, time)
) STRICT, WITHOUT ROWID;
