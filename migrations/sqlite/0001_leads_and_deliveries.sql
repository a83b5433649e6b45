-- The leads and the outbox. Times are milliseconds since 1970-01-01 UTC.

CREATE TABLE leads (
    seq         INTEGER PRIMARY KEY,                                  -- order of acceptance
    id          TEXT    NOT NULL UNIQUE CHECK (id GLOB 'lead_*'),     -- the public id; with a key, derived from it
    form_name   TEXT    NOT NULL,                                     -- the form it came through
    received_at INTEGER NOT NULL,                                     -- the server's time of arrival
    digest      BLOB    NOT NULL CHECK (length(digest) = 32),         -- SHA-256 of the submission, to tell a repeat
    crm_planned INTEGER NOT NULL CHECK (crm_planned IN (0, 1)),       -- whether any CRM or webhook was planned
    body        TEXT    NOT NULL                                      -- the lead as JSON
) STRICT;

-- One lead on its way to one destination. A lease is a due date in the future: there is no running state.
-- Every lead brings several, so their checks are cheap ones: a list of three or more is a table that SQLite builds for
-- every statement. They are inserted in the transaction that inserts their lead, for what that returned, and no lead is
-- ever deleted: why there is no reference to leads is said in the other engine's folder.
CREATE TABLE deliveries (
    lead        INTEGER NOT NULL,                                     -- its leads.seq
    destination TEXT    NOT NULL,                                     -- the destination's name
    state       TEXT    NOT NULL CHECK (state = 'pending' OR state = 'delivered' OR state = 'dead' OR state = 'withheld' OR state = 'cancelled'),
    due_at      INTEGER,                                              -- when the next attempt may be claimed
    attempts    INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),     -- number of the newest claim; the fence
    budget_used INTEGER NOT NULL DEFAULT 0 CHECK (budget_used >= 0),  -- waits of the schedule that are used up
    open_since  INTEGER,                                              -- when the claim was made that is not settled yet
    receipt     TEXT,                                                 -- proof of arrival, as JSON
    PRIMARY KEY (lead, destination),
    CHECK ((state = 'pending') = (due_at IS NOT NULL)),
    CHECK (open_since IS NULL OR state = 'pending')
) STRICT, WITHOUT ROWID;

-- What a lane asks for, and nothing else.
CREATE INDEX deliveries_due ON deliveries (destination, due_at) WHERE state = 'pending';

-- One try at a delivery; append-only. Its check is a cheap one, too.
CREATE TABLE attempts (
    lead        INTEGER NOT NULL,
    destination TEXT    NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),                  -- the claim's number
    started_at  INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    outcome     TEXT    NOT NULL CHECK (outcome = 'delivered' OR outcome = 'transient' OR outcome = 'unknown' OR outcome = 'rejected' OR outcome = 'blocked'),
    code        TEXT    NOT NULL,                                     -- a short word for the reason
    detail      TEXT    NOT NULL,                                     -- what a person should read
    PRIMARY KEY (lead, destination, number),
    FOREIGN KEY (lead, destination) REFERENCES deliveries (lead, destination)
) STRICT, WITHOUT ROWID;

-- Values that are made once and kept, such as the key of the address hash.
CREATE TABLE kept (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
