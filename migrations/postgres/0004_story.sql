-- What the sheet tells of a lead beyond its row: whether its CRMs have it, and which deliveries fail.

ALTER TABLE deliveries ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT 'crm' CHECK (kind IN ('crm', 'sheet', 'mail'));

-- What has changed and is not in the sheet yet: a delivery, or with an empty destination the lead's crm_synced.
CREATE TABLE unshown (
    lead        BIGINT  NOT NULL REFERENCES leads (seq),
    destination TEXT COLLATE "C" NOT NULL,
    version     BIGINT  NOT NULL DEFAULT 1,                           -- counts changes, so that none is taken for shown
    PRIMARY KEY (lead, destination)
);

-- What the sheet has been told of before: later changes follow.
CREATE TABLE told (
    lead        BIGINT  NOT NULL REFERENCES leads (seq),
    destination TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (lead, destination)
);
