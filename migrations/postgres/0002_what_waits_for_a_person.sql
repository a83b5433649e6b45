-- What a person is asked about: dead letters and what is withheld. Few rows among many that are done.
CREATE INDEX deliveries_stuck ON deliveries (state, destination) WHERE state IN ('dead', 'withheld');
