-- Times are microseconds since 1970 UTC. Tokens and session ids are kept as SHA-256 only.
CREATE TABLE users (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  password TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'editor', 'admin')),
  active INTEGER NOT NULL DEFAULT 1,
  must_change INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL
) STRICT;
CREATE TABLE teams (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  created INTEGER NOT NULL
) STRICT;
CREATE TABLE members (
  team INTEGER NOT NULL REFERENCES teams ON DELETE CASCADE,
  user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
  PRIMARY KEY (team, user)
) STRICT, WITHOUT ROWID;
CREATE TABLE sessions (
  hash BLOB PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
  csrf TEXT NOT NULL,
  created INTEGER NOT NULL,
  seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY,
  user INTEGER NOT NULL REFERENCES users ON DELETE CASCADE,
  name TEXT NOT NULL,
  hash BLOB NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'editor', 'admin')),
  created INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  used INTEGER
) STRICT;
CREATE TABLE login_failures (
  name TEXT NOT NULL COLLATE NOCASE,
  address TEXT NOT NULL,
  time INTEGER NOT NULL
) STRICT;
CREATE INDEX login_failures_by_time ON login_failures (time);

CREATE TABLE tasks (
  -- Never given again: folders are named so.
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  team INTEGER NOT NULL REFERENCES teams,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  created INTEGER NOT NULL,
  -- The newest version; 0: there is a draft only.
  version INTEGER NOT NULL DEFAULT 0,
  -- What was last written in the form and is not a version.
  draft TEXT,
  -- 1 while the job is to run.
  wanted INTEGER NOT NULL DEFAULT 0,
  -- The newest run; 0: none yet.
  run INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE versions (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  number INTEGER NOT NULL,
  settings TEXT NOT NULL,
  user TEXT NOT NULL,
  time INTEGER NOT NULL,
  note TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE secrets (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  time INTEGER NOT NULL,
  PRIMARY KEY (task, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  number INTEGER NOT NULL,
  version INTEGER NOT NULL,
  -- How it was started: JSON.
  start TEXT NOT NULL,
  user TEXT NOT NULL,
  time INTEGER NOT NULL,
  -- Set once it is known to have ended.
  ended INTEGER,
  -- How: finished, stopped, failed, halted, dead.
  outcome TEXT,
  exit_code INTEGER,
  reason TEXT,
  PRIMARY KEY (task, number)
) STRICT, WITHOUT ROWID;
-- The audit log: never changed but to say how an operation ended.
CREATE TABLE operations (
  id INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  user TEXT NOT NULL,
  address TEXT NOT NULL,
  team INTEGER,
  task INTEGER,
  action TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '',
  -- pending, done, or failed.
  result TEXT NOT NULL
) STRICT;
CREATE INDEX operations_by_task ON operations (task, id);
CREATE TABLE alarms (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  rule TEXT NOT NULL,
  since INTEGER NOT NULL,
  message TEXT NOT NULL,
  -- 1 once somebody was told.
  told INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (task, rule)
) STRICT, WITHOUT ROWID;
CREATE TABLE silences (
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  rule TEXT NOT NULL,
  until INTEGER NOT NULL,
  PRIMARY KEY (task, rule)
) STRICT, WITHOUT ROWID;
