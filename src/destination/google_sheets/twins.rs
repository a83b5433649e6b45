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
        let Some((first, last)) = reach(&ids, leads) else { return Ok(HashSet::new()) };
        let Some(repeated) = repeated(&ids[first..=last]) else {
            warn!(
                tab = tab.title,
                from = first + 2,
                to = last + 2,
                "a lead has two rows, and between them are rows without an id: look for the same id twice, and delete one"
            );
            return Ok(HashSet::new());
        };
        if !repeated.iter().all(|id| leads.iter().any(|lead| lead.to_string() == **id)) {
            warn!(
                tab = tab.title,
                from = first + 2,
                to = last + 2,
                "a lead has two rows, and between them are copies of others: look for the same id twice, and delete one"
            );
            return Ok(HashSet::new());
        }
        let is_synced =
            |id: &&String| ids.iter().zip(&said).any(|(theirs, said)| *theirs == **id && *said == yes(true));
        let synced = repeated.iter().copied().filter(is_synced).cloned().collect();
        let but: Vec<_> = PASSING.iter().filter_map(|name| header.position(name)).collect();
        self.writer.marks.take().await;
        seat.may_write().await?;
        // The first row below the header is row 2.
        self.writer.api.remove_repeats(tab, (first + 2, last + 2), &but).await?;
        info!(leads = repeated.len(), "second rows removed: two processes had written the same lead");
        Ok(synced)
    }
}

/// Where the first of these leads stands that stands there again, and the last that stood there before.
fn reach(ids: &[String], leads: &[LeadId]) -> Option<(usize, usize)> {
    let leads: HashSet<_> = leads.iter().map(ToString::to_string).collect();
    let mut first = HashMap::new();
    let ours = ids.iter().enumerate().filter(|(_, id)| leads.contains(*id));
    let again = ours.filter_map(|(at, id)| first.insert(id, at).map(|before| (before, at)));
    again.reduce(|(first, last), (before, at)| (first.min(before), last.max(at)))
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
        assert_eq!(reach(&ids(&[&one, &other]), &[one, other]), None);
        assert_eq!(reach(&ids(&[&other, &one, &other, &one, &other]), &[one]), Some((1, 3)));
        let none = [String::new(), String::new()];
        assert_eq!((repeated(&ids(&[&one, &other])).map(|it| it.len()), repeated(&none)), (Some(0), None));
    }
}
