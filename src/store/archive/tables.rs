//! What a store consists of. Whoever adds a table or a column adds it here, to what moves or to what is left out on
//! purpose: a test compares both lists with the schema of each engine.

/// A table that moves.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns, those of its key first.
    pub columns: &'static [(&'static str, Holds)],
    /// How many columns its key has.
    pub key: usize,
    /// The rows that do not move, as a condition.
    pub except: Option<&'static str>,
}

/// What a column holds; any may hold nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A whole number of 64 bits.
    Integer,
    /// Yes or no: a BOOLEAN, and in SQLite an INTEGER.
    Flag,
    /// Text; PostgreSQL's cannot hold a zero character.
    Text,
    /// Bytes.
    Bytes,
}

use Holds::{Bytes, Flag, Integer, Text};

/// A lead and what belongs to it, in the order in which it can be written. The first column is the lead's place.
pub const OF_A_LEAD: [Table; 6] = [
    Table {
        name: "leads",
        columns: &[
            ("seq", Integer),
            ("id", Text),
            ("form_name", Text),
            ("received_at", Integer),
            ("digest", Bytes),
            ("crm_planned", Flag),
            ("body", Text),
        ],
        key: 1,
        except: None,
    },
    Table {
        name: "deliveries",
        columns: &[
            ("lead", Integer),
            ("destination", Text),
            ("kind", Text),
            ("state", Text),
            ("due_at", Integer),
            ("attempts", Integer),
            ("budget_used", Integer),
            ("open_since", Integer),
            ("receipt", Text),
        ],
        key: 2,
        except: None,
    },
    Table {
        name: "attempts",
        columns: &[
            ("lead", Integer),
            ("destination", Text),
            ("number", Integer),
            ("started_at", Integer),
            ("finished_at", Integer),
            ("outcome", Text),
            ("code", Text),
            ("detail", Text),
        ],
        key: 3,
        except: None,
    },
    Table {
        name: "steps",
        columns: &[("lead", Integer), ("destination", Text), ("name", Text), ("value", Text)],
        key: 3,
        except: None,
    },
    Table {
        name: "unshown",
        columns: &[("lead", Integer), ("destination", Text), ("version", Integer)],
        key: 2,
        except: None,
    },
    Table { name: "told", columns: &[("lead", Integer), ("destination", Text)], key: 2, except: None },
];

/// What belongs to the store as a whole.
pub const OF_THE_STORE: [Table; 3] = [
    // The key of the address hashes is here: without it every visitor would have another hash. What the old store's
    // clock said is nothing to the new one.
    Table {
        name: "kept",
        columns: &[("name", Text), ("value", Bytes)],
        key: 1,
        except: Some("name IN ('move', 'clock')"),
    },
    Table {
        name: "memory",
        columns: &[("destination", Text), ("key", Text), ("value", Text)],
        key: 2,
        except: None,
    },
    // A destination that is parked, or has asked to wait, is so for the new service, too.
    Table {
        name: "standings",
        columns: &[
            ("destination", Text),
            ("parked_at", Integer),
            ("probe_at", Integer),
            ("probes", Integer),
            ("recovered_at", Integer),
            ("held_until", Integer),
        ],
        key: 1,
        except: None,
    },
];

/// What does not move, and why.
pub const LEFT_OUT: [(&str, &str); 3] = [
    ("migrations", "each store has its own"),
    ("turns", "each ends by itself, within a day"),
    ("paces", "a second later nothing of them is left"),
];

impl Table {
    /// Its columns, as a list for a statement.
    pub fn list(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The columns of its key, as a list for a statement.
    pub fn key_list(&self) -> String {
        let key = self.columns.iter().take(self.key);
        key.map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The first column: where a lead's rows have its place.
    pub fn first(&self) -> &'static str {
        self.columns.first().map_or("", |(name, _)| name)
    }

    /// What is true of the rows that move.
    pub fn condition(&self) -> String {
        self.except.map_or_else(|| "true".to_owned(), |except| format!("NOT ({except})"))
    }
}
