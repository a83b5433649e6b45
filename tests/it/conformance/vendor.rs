//! A destination and its vendor's stand-in, and what can go wrong there: all that a scene needs to know.

use std::sync::Arc;

/// A `Retry-After` that nobody means, in seconds: more than any clock can count.
pub(super) const AGES: &str = "18446744073709551615";

/// The variables that send leads to a stand-in at an address.
type Variables<S> = dyn Fn(&S, &str) -> Vec<(String, String)>;

/// A look at what a stand-in has of a lead, by its id and the visitor's address.
type Look<S> = dyn Fn(&S, &str, &str) -> Has;

/// A destination, set up against its vendor's stand-in.
pub(super) struct Vendor<S> {
    /// The destination's name.
    pub(super) name: &'static str,
    /// Whether a submit waits for it.
    pub(super) is_inline: bool,
    pub(super) stand: Arc<S>,
    /// Where the stand-in listens.
    pub(super) address: String,
    /// The variables that send leads to the vendor at an address.
    pub(super) settings: Box<Variables<S>>,
    /// All is well again.
    pub(super) mend: fn(&S),
    /// What it has of a lead, known by its id and the visitor's address.
    pub(super) has: Box<Look<S>>,
    /// What nobody may read anywhere.
    pub(super) secret: String,
}

/// What a vendor has of a lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Has {
    /// In words.
    pub(super) words: String,
    /// Whether it is there, and not doubled: a repeat that carries the same key is none.
    pub(super) is_once: bool,
}

impl Has {
    /// So many of each of these things.
    pub(super) fn of(things: &[(usize, &str)]) -> Self {
        let some: Vec<_> = things.iter().filter(|(number, _)| *number > 0).collect();
        let words: Vec<_> = some
            .iter()
            .map(|(number, thing)| format!("{number} {thing}{}", if *number == 1 { "" } else { "s" }))
            .collect();
        Self {
            words: if words.is_empty() { "nothing".to_owned() } else { words.join(", ") },
            is_once: things.iter().all(|(number, _)| *number == 1),
        }
    }

    /// The lead came so often, always under one key; `thing` is what it is, and `key` the key.
    pub(super) fn under_one_key(times: usize, keys: usize, thing: &str, key: &str) -> Self {
        let plain = Self::of(&[(times, thing)]);
        let words = if times > 1 { format!("{}, with one {key}", plain.words) } else { plain.words };
        Self { words, is_once: keys == 1 }
    }
}

/// What goes wrong at a vendor, once.
pub(super) struct Case<S> {
    /// In words.
    pub(super) fault: &'static str,
    pub(super) make: Box<dyn Fn(&S)>,
    /// What a person does to mend it, beside what mends everything at the vendor.
    pub(super) hands: Box<dyn Fn(&S)>,
    pub(super) way: Way,
}

/// How a case goes, beside its fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody answers, or ends the connection.
    Plain,
    /// Nobody answers: the attempt ends by its own time.
    Hangs,
    /// Nobody listens at the address.
    Refused,
    /// The vendor says that it has the lead, and has not: nobody can tell.
    Lies,
}

impl<S> Case<S> {
    /// A case whose fault is made so.
    pub(super) fn new(fault: &'static str, make: impl Fn(&S) + 'static) -> Self {
        Self { fault, make: Box::new(make), hands: Box::new(|_| ()), way: Way::Plain }
    }

    /// Nobody listens.
    pub(super) fn refused() -> Self {
        Self { way: Way::Refused, ..Self::new("Nobody listens: the connection is refused", |_| ()) }
    }

    /// The attempt ends by its own time.
    pub(super) fn hanging(fault: &'static str, make: impl Fn(&S) + 'static) -> Self {
        Self { way: Way::Hangs, ..Self::new(fault, make) }
    }

    /// A person mends it by this.
    pub(super) fn mended_by(self, hands: impl Fn(&S) + 'static) -> Self {
        Self { hands: Box::new(hands), ..self }
    }

    /// The vendor is believed, and lies.
    pub(super) fn lying(fault: &'static str, make: impl Fn(&S) + 'static) -> Self {
        Self { way: Way::Lies, ..Self::new(fault, make) }
    }
}

/// Variables, from texts.
pub(super) fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
