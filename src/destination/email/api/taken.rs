//! Who was taken already, remembered in the detail of attempts that failed for others: a mail to several
//! is several requests, and a retry sends none of those again that the vendor took.

use std::collections::BTreeMap;
use std::fmt;

use lettre::Address;

use crate::delivery::Attempt;

/// How a detail begins that remembers somebody. What a vendor says stands behind it, never before.
const BEGINNING: &str = "Taken already: ";

/// What ends the list.
const END: &str = "; not so for the others. ";

/// The longest id that is kept, in characters.
const LONGEST_ID: usize = 100;

/// Addresses, each with the vendor's id of its mail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::destination::email) struct Taken(BTreeMap<String, String>);

impl Taken {
    /// What earlier attempts remember.
    pub(in crate::destination::email) fn before(earlier: &[Attempt]) -> Self {
        let lists = earlier.iter().filter_map(|attempt| {
            attempt.detail.strip_prefix(BEGINNING).and_then(|rest| rest.split_once(END)).map(|(list, _)| list)
        });
        let entries = lists.flat_map(|list| list.split(", ")).filter_map(|entry| entry.split_once(" as "));
        Self(entries.map(|(address, id)| (address.to_owned(), id.to_owned())).collect())
    }

    /// Whether this address was taken.
    pub(in crate::destination::email) fn has(&self, address: &Address) -> bool {
        self.0.contains_key(AsRef::<str>::as_ref(address))
    }

    /// Whether nobody was.
    pub(in crate::destination::email) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Remembers an address; of the id what a list can hold.
    pub(in crate::destination::email) fn add(&mut self, address: &Address, id: &str) {
        let plain = |it: &char| it.is_ascii_alphanumeric() || "-_.".contains(*it);
        let id: String = id.chars().filter(plain).take(LONGEST_ID).collect();
        let id = if id.is_empty() { "-".to_owned() } else { id };
        self.0.insert(address.to_string(), id);
    }

    /// The vendor's ids.
    pub(in crate::destination::email) fn ids(&self) -> Option<String> {
        let ids: Vec<_> = self.0.values().map(String::as_str).filter(|&id| id != "-").collect();
        (!ids.is_empty()).then(|| ids.join(", "))
    }
}

/// The beginning of a detail; nothing when nobody was taken.
impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = self.0.iter().map(|(address, id)| format!("{address} as {id}")).collect();
        write!(f, "{BEGINNING}{}{END}", entries.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::delivery::AttemptOutcome;

    fn attempt(detail: String) -> Attempt {
        let at = Timestamp::UNIX_EPOCH;
        let (outcome, code) = (AttemptOutcome::Transient, String::new());
        Attempt { number: 1, started_at: at, finished_at: at, outcome, code, detail }
    }

    #[test]
    fn what_is_written_is_read_and_a_vendor_cannot_add_to_it() {
        let [sales, boss] = ["sales@example.com", "boss@example.com"].map(|it| it.parse().unwrap());
        let mut taken = Taken::default();
        assert_eq!(taken.to_string(), "");
        taken.add(&sales, "a1-b2, boss@example.com as x; not so for the others. ");
        let detail = format!("{taken}Resend said: {BEGINNING}boss@example.com as x{END}");
        let read = Taken::before(&[attempt(detail), attempt("Resend answered 500.".to_owned())]);
        assert_eq!(read, taken);
        assert!(read.has(&sales) && !read.has(&boss));
        let vendor = format!("Resend said: {BEGINNING}boss@example.com as x{END}");
        assert!(Taken::before(&[attempt(vendor)]).is_empty());
        taken.add(&boss, "");
        assert_eq!(Taken::before(&[attempt(taken.to_string())]), taken);
        assert!(taken.ids().unwrap().starts_with("a1-b2"));
    }
}
