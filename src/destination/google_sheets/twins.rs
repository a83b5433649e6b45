//! Second rows. Two processes that keep one lead at the same moment, or one that keeps it while another one, which
//! can ask the store, takes it from its visitor, know nothing of each other: only the sheet knows of both. Once the
//! store has the lead its first row stays, and those that say the same are removed.

use std::collections::{HashMap, HashSet};

use tracing::{info, warn};

use super::GoogleSheets;
use super::api::Tab;
use super::columns::{Header, PASSING, SYNCED, yes};
use super::failure::Failure;
use super::writer::AtDesk;
use crate::id::LeadId;

impl GoogleSheets {
    /// Removes what these leads have beyond one row each. A row that somebody has written into is another row,
    /// and stays. The leads that a removed row may have called synced.
    pub(super) async fn unite(
        &self,
        tab: &Tab,
        header: &Header,
        id: usize,
        leads: &[LeadId],
        seat: &mut AtDesk<'_>,
    ) -> Result<HashSet<String>, Failure> {
        let synced = header.position(SYNCED);
        let places: Vec<_> = std::iter::once(id).chain(synced).collect();
        self.writer.take_look().await;
        let mut read = self.writer.api.columns(tab, &places).await?.into_iter();
        let ids = read.next().unwrap_or_default();
        let said = read.next().unwrap_or_default();
        let leads: HashSet<_> = leads.iter().map(ToString::to_string).collect();
        let (mut twice, mut rows) = (HashSet::new(), Vec::new());
        for (first, last) in spans(&ids, &leads) {
            // The first row below the header is row 2.
            let (from, to) = (first + 2, last + 2);
            match repeated(&ids[first..=last]) {
                Some(repeated) if repeated.iter().all(|id| leads.contains(*id)) => {
                    twice.extend(repeated);
                    rows.push((from, to));
                }
                _ => warn!(
                    tab = tab.title,
                    from,
                    to,
                    "a lead has two rows, and between them are rows without an id or copies of other rows: \
                     look for the same id twice, and delete one"
                ),
            }
        }
        if rows.is_empty() {
            return Ok(HashSet::new());
        }
        let is_synced =
            |id: &&String| ids.iter().zip(&said).any(|(theirs, said)| *theirs == **id && *said == yes(true));
        let synced = twice.iter().copied().filter(is_synced).cloned().collect();
        let but: Vec<_> = PASSING.iter().filter_map(|name| header.position(name)).collect();
        self.writer.marks.take().await;
        seat.may_write().await?;
        self.writer.api.remove_repeats(tab, &rows, &but).await?;
        info!(leads = twice.len(), "second rows removed: two processes had written the same lead");
        Ok(synced)
    }
}

/// From the first row of each of these leads that stands there again to its last; those that overlap are one, for
/// what is removed moves the rows below it up to the end. What stands between two of them is of no concern.
fn spans(ids: &[String], leads: &HashSet<String>) -> Vec<(usize, usize)> {
    let mut each: HashMap<_, (usize, usize)> = HashMap::new();
    for (at, id) in ids.iter().enumerate().filter(|(_, id)| leads.contains(*id)) {
        each.entry(id).or_insert((at, at)).1 = at;
    }
    let mut each: Vec<_> = each.into_values().filter(|(first, last)| first < last).collect();
    each.sort_unstable();
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for (first, last) in each {
        match spans.last_mut() {
            Some((_, end)) if first < *end => *end = last.max(*end),
            _ => spans.push((first, last)),
        }
    }
    spans
}

/// The ids that stand there more than once. `None`: there is more than one row without.
fn repeated(ids: &[String]) -> Option<HashSet<&String>> {
    let mut seen = HashSet::new();
    let repeated: HashSet<_> = ids.iter().filter(|id| !seen.insert(*id)).collect();
    repeated.iter().all(|id| !id.is_empty()).then_some(repeated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_there_again_is_a_second_row() {
        let (one, other) = (LeadId::fresh(), LeadId::fresh());
        let ids = |all: &[&LeadId]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let spans = |all: &[&LeadId], leads: &[LeadId]| {
            spans(&ids(all), &leads.iter().map(ToString::to_string).collect())
        };
        assert_eq!(spans(&[&one, &other], &[one, other]), []);
        assert_eq!(spans(&[&other, &one, &other, &one, &other], &[one]), [(1, 3)]);
        assert_eq!(spans(&[&other, &one, &other, &one, &other], &[one, other]), [(0, 4)]);
        assert_eq!(spans(&[&other, &other, &one, &one], &[one, other]), [(0, 1), (2, 3)]);
        let none = [String::new(), String::new()];
        assert_eq!((repeated(&ids(&[&one, &other])).map(|it| it.len()), repeated(&none)), (Some(0), None));
    }
}
