-- The finished steps of a delivery that takes several, such as the id of a person that was created: a repeat goes on
-- after them.
CREATE TABLE steps (
    lead        BIGINT  NOT NULL,
    destination TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,                            -- the step's name, such as `person`
    value       TEXT    NOT NULL,                                     -- what it brought, such as the person's id
    PRIMARY KEY (lead, destination, name),
    FOREIGN KEY (lead, destination) REFERENCES deliveries (lead, destination)
);

-- What a destination remembers beyond one delivery. Keys that say something of a person are hashed.
CREATE TABLE memory (
    destination TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    value       TEXT NOT NULL,
    PRIMARY KEY (destination, key)
);
