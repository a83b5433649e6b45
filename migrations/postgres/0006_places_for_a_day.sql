-- A place among an address's confirmations is a turn that ends a day later: those that are over are found by their end.
CREATE INDEX turns_by_end ON turns (ends_at);
