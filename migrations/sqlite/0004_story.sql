-- What the sheet tells of a lead beyond its row: whether its CRMs have it, and which deliveries fail.

ALTER TABLE deliveries ADD COLUMN kind TEXT NOT NULL DEFAULT 'crm' CHECK (kind = 'crm' OR kind = 'sheet' OR kind = 'mail');

-- What has changed and is not in the sheet yet: a delivery, or with an empty destination the lead's crm_synced.
CREATE TABLE unshown (
    lead        INTEGER NOT NULL REFERENCES leads (seq),
    destination TEXT    NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,                           -- counts changes, so that none is taken for shown
    PRIMARY KEY (lead, destination)
) STRICT, WITHOUT ROWID;

-- What the sheet has been told of before: later changes follow.
CREATE TABLE told (
    lead        INTEGER NOT NULL REFERENCES leads (seq),
    destination TEXT    NOT NULL,
    PRIMARY KEY (lead, destination)
) STRICT, WITHOUT ROWID;
