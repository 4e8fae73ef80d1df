CREATE TABLE IF NOT EXISTS setting (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS file (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  purpose    TEXT NOT NULL,
  created_at REAL NOT NULL,
  expires_at REAL,
  record     BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS batch (
  position   INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL,
  status     TEXT NOT NULL,
  model      TEXT,
  tokens     INTEGER NOT NULL,
  record     BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS batch_status ON batch (status);
CREATE INDEX IF NOT EXISTS batch_created_at ON batch (created_at);
CREATE INDEX IF NOT EXISTS file_created_at ON file (created_at);

CREATE TABLE IF NOT EXISTS event (
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  record   BLOB NOT NULL
) STRICT;
