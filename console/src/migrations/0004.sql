-- What is still to be told of alarms: kept until a receiver has it or was given up.
CREATE TABLE notices (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
  time INTEGER NOT NULL,
  text TEXT NOT NULL,
  resolved INTEGER NOT NULL
) STRICT;
