-- What the processes that share this store know together.

-- How a destination stands; one without a row is open.
CREATE TABLE standings (
    destination  TEXT NOT NULL PRIMARY KEY,
    parked_at    INTEGER,                                         -- since when our credentials or settings are wrong there
    probe_at     INTEGER,                                         -- when the next single delivery may be tried
    probes       INTEGER NOT NULL DEFAULT 0 CHECK (probes >= 0),  -- how many were tried since
    recovered_at INTEGER,                                         -- when it last worked again
    held_until   INTEGER,                                         -- it has asked everybody to wait until then
    CHECK ((parked_at IS NULL) = (probe_at IS NULL))
) STRICT, WITHOUT ROWID;

-- Rights that one process at a time has, such as to write a spreadsheet.
CREATE TABLE turns (
    name    TEXT NOT NULL PRIMARY KEY,  -- the right
    holder  TEXT NOT NULL,              -- the process
    number  INTEGER NOT NULL,           -- which of the process's turns
    ends_at INTEGER NOT NULL            -- from then on another process may have it
) STRICT, WITHOUT ROWID;

-- How many calls were let go, as the moment at which all of them are paid for.
CREATE TABLE paces (
    name    TEXT NOT NULL PRIMARY KEY,  -- whose calls
    paid_at INTEGER NOT NULL            -- in microseconds since 1970-01-01 UTC
) STRICT, WITHOUT ROWID;
