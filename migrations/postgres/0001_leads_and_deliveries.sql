-- The leads and the outbox. Times are milliseconds since 1970-01-01 UTC. Names compare byte by byte, whatever the
-- database's language.

CREATE TABLE leads (
    seq         BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,     -- order of acceptance; may have gaps
    id          TEXT COLLATE "C" NOT NULL UNIQUE CHECK (id LIKE 'lead\_%'), -- the public id; with a key, derived from it
    form_name   TEXT COLLATE "C" NOT NULL,                            -- the form it came through
    received_at BIGINT  NOT NULL,                                     -- the server's time of arrival
    digest      BYTEA   NOT NULL CHECK (length(digest) = 32),         -- SHA-256 of the submission, to tell a repeat
    crm_planned BOOLEAN NOT NULL,                                     -- whether any CRM or webhook was planned
    body        TEXT    NOT NULL                                      -- the lead as JSON
);

-- One lead on its way to one destination. A lease is a due date in the future: there is no running state.
-- A delivery is inserted by the statement that inserts its lead, for what that returned, and no lead is ever deleted: so
-- there is no reference to leads, which PostgreSQL checks by a query and a lock for every row, two fifths of what an
-- accept costs it. The tests of every engine look for a delivery without its lead, and so do a move and torture.
CREATE TABLE deliveries (
    lead        BIGINT  NOT NULL,                                     -- its leads.seq
    destination TEXT COLLATE "C" NOT NULL,                            -- the destination's name
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'withheld', 'cancelled')),
    due_at      BIGINT,                                               -- when the next attempt may be claimed
    attempts    BIGINT  NOT NULL DEFAULT 0 CHECK (attempts >= 0),     -- number of the newest claim; the fence
    budget_used BIGINT  NOT NULL DEFAULT 0 CHECK (budget_used >= 0),  -- waits of the schedule that are used up
    open_since  BIGINT,                                               -- when the claim was made that is not settled yet
    receipt     TEXT,                                                 -- proof of arrival, as JSON
    PRIMARY KEY (lead, destination),
    CHECK ((state = 'pending') = (due_at IS NOT NULL)),
    CHECK (open_since IS NULL OR state = 'pending')
);

-- What a lane asks for, and nothing else.
CREATE INDEX deliveries_due ON deliveries (destination, due_at) WHERE state = 'pending';

-- One try at a delivery; append-only.
CREATE TABLE attempts (
    lead        BIGINT  NOT NULL,
    destination TEXT COLLATE "C" NOT NULL,
    number      BIGINT  NOT NULL CHECK (number > 0),                  -- the claim's number
    started_at  BIGINT  NOT NULL,
    finished_at BIGINT  NOT NULL,
    outcome     TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('delivered', 'transient', 'unknown', 'rejected', 'blocked')),
    code        TEXT    NOT NULL,                                     -- a short word for the reason
    detail      TEXT    NOT NULL,                                     -- what a person should read
    PRIMARY KEY (lead, destination, number),
    FOREIGN KEY (lead, destination) REFERENCES deliveries (lead, destination)
);

-- Values that are made once and kept, such as the key of the address hash.
CREATE TABLE kept (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);
