//! What became of a mail to several recipients, for each of them: remembered in the detail of attempts that
//! failed for some. A retry sends none of those again that have it, and counts lost answers for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lettre::Address;

use crate::delivery::Attempt;

/// How a detail begins that remembers somebody. What a vendor says stands behind it, never before.
const TAKEN: &str = "Taken already: ";

/// What ends the list of those who have it.
const TAKEN_END: &str = "; not so for the others. ";

/// How the list of those begins whose answer this attempt lost, where it was not everybody's.
const LOST: &str = "The answer was lost for: ";

/// What ends it; no address has a space in it.
const LOST_END: &str = ". ";

/// The longest id that is kept, in characters.
const LONGEST_ID: usize = 100;

/// What is known of the recipients.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fates {
    /// Who has it, each with the vendor's id of its mail.
    taken: BTreeMap<String, String>,
    /// Whose answer this attempt lost.
    lost: BTreeSet<String>,
}

impl Fates {
    /// What earlier attempts remember of those who have it.
    pub(super) fn before(earlier: &[Attempt]) -> Self {
        let lists = earlier.iter().filter_map(|attempt| split(&attempt.detail).0);
        let entries = lists.flat_map(|list| list.split(", ")).filter_map(|entry| entry.split_once(" as "));
        let taken = entries.map(|(address, id)| (address.to_owned(), id.to_owned())).collect();
        Self { taken, lost: BTreeSet::new() }
    }

    /// Whether this address has it.
    pub(super) fn has(&self, address: &Address) -> bool {
        self.taken.contains_key(AsRef::<str>::as_ref(address))
    }

    /// Whether nobody has.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// This address has it; of the id is kept what a list can hold.
    pub(super) fn taken(&mut self, address: &Address, id: &str) {
        let plain = |it: &char| it.is_ascii_alphanumeric() || "-_.".contains(*it);
        let id: String = id.chars().filter(plain).take(LONGEST_ID).collect();
        let id = if id.is_empty() { "-".to_owned() } else { id };
        self.taken.insert(address.to_string(), id);
    }

    /// This attempt lost the answers for these, and not for all that were left.
    pub(super) fn lost<'a>(&mut self, addresses: impl IntoIterator<Item = &'a Address>) {
        self.lost = addresses.into_iter().map(ToString::to_string).collect();
    }

    /// The vendor's ids.
    pub(super) fn ids(&self) -> Option<String> {
        let ids: Vec<_> = self.taken.values().map(String::as_str).filter(|&id| id != "-").collect();
        (!ids.is_empty()).then(|| ids.join(", "))
    }
}

/// Whether an attempt names this address among those whose answer it lost; `None`: it names nobody.
pub(super) fn names_as_lost(attempt: &Attempt, address: &Address) -> Option<bool> {
    let list = split(&attempt.detail).1?;
    Some(list.split(", ").any(|lost| lost == AsRef::<str>::as_ref(address)))
}

/// The two lists that a detail may begin with.
fn split(detail: &str) -> (Option<&str>, Option<&str>) {
    let list = |text: &'_ str, begin: &str, end: &str| -> Option<(usize, usize)> {
        let rest = text.strip_prefix(begin)?;
        let length = rest.find(end)?;
        Some((begin.len(), begin.len() + length))
    };
    let (taken, rest) = match list(detail, TAKEN, TAKEN_END) {
        Some((from, to)) => (Some(&detail[from..to]), &detail[to + TAKEN_END.len()..]),
        None => (None, detail),
    };
    (taken, list(rest, LOST, LOST_END).map(|(from, to)| &rest[from..to]))
}

/// The beginning of a detail; nothing where there is nothing to remember.
impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.taken.is_empty() {
            let entries: Vec<_> =
                self.taken.iter().map(|(address, id)| format!("{address} as {id}")).collect();
            write!(f, "{TAKEN}{}{TAKEN_END}", entries.join(", "))?;
        }
        if !self.lost.is_empty() {
            let entries: Vec<_> = self.lost.iter().map(String::as_str).collect();
            write!(f, "{LOST}{}{LOST_END}", entries.join(", "))?;
        }
        Ok(())
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
        let mut fates = Fates::default();
        assert_eq!(fates.to_string(), "");
        fates.taken(&sales, "a1-b2, boss@example.com as x; not so for the others. ");
        let boast = format!("{TAKEN}boss@example.com as x{TAKEN_END}{LOST}boss@example.com{LOST_END}");
        let said = attempt(format!("{fates}Resend said: {boast}"));
        let read = Fates::before(&[said.clone(), attempt("Resend answered 500.".to_owned())]);
        assert_eq!(read, fates);
        assert!(read.has(&sales) && !read.has(&boss));
        assert_eq!(names_as_lost(&said, &boss), None);
        assert!(Fates::before(&[attempt(format!("Resend said: {boast}"))]).is_empty());

        fates.lost([&boss]);
        let both = attempt(format!("{fates}Resend said: {boast}"));
        assert_eq!(Fates::before(std::slice::from_ref(&both)).taken, fates.taken);
        assert_eq!((names_as_lost(&both, &boss), names_as_lost(&both, &sales)), (Some(true), Some(false)));
        let mut alone = Fates::default();
        alone.lost([&sales, &boss]);
        assert_eq!(names_as_lost(&attempt(format!("{alone}It said: no")), &sales), Some(true));

        fates.taken(&boss, "");
        assert_eq!(Fates::before(&[attempt(fates.to_string())]).taken, fates.taken);
        assert!(fates.ids().unwrap().starts_with("a1-b2"));
    }
}
