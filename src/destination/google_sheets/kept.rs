//! The leads that bear a mark: this process kept them while the store could not commit, or another one did and may
//! have died before the store had them. Should such a lead come from the store, its row is there already.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::columns::MARK;
use super::failure::Failure;
use super::queue::Waiting;
use super::writer::{AtDesk, Writer};
use crate::id::LeadId;
use crate::lead::{Digest, Lead};

/// How long the marks are believed as they were read: another process may keep a lead in an outage that this one does not
/// notice.
const FRESH: Duration = Duration::from_secs(60);

/// What the marks say.
#[derive(Default)]
pub(super) struct KeptBefore(Mutex<State>);

#[derive(Default)]
struct State {
    leads: HashSet<LeadId>,
    /// When the marks were read.
    read_at: Option<Instant>,
}

impl KeptBefore {
    /// Other processes may keep leads from now on: the marks are to be read again.
    pub(super) fn forget(&self) {
        self.state().read_at = None;
    }

    /// Whether the marks were read a short time ago.
    fn is_fresh(&self) -> bool {
        self.state().read_at.is_some_and(|read_at| read_at.elapsed() < FRESH)
    }

    /// It has been kept: should it come again from the store, its row is there.
    pub(super) fn add(&self, lead: LeadId) {
        self.state().leads.insert(lead);
    }

    /// Whether the lead may be in the sheet already.
    pub(super) fn contains(&self, lead: &LeadId) -> bool {
        self.state().leads.contains(lead)
    }

    /// Whether it may have been; asked once.
    pub(super) fn remove(&self, lead: &LeadId) -> bool {
        self.state().leads.remove(lead)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids of the tab's rows, and whose mark each bears.
pub(super) struct Rows(HashMap<String, Vec<Option<Digest>>>);

/// Whether a lead has a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum There {
    Yes,
    No,
    /// There is a row of its key, perhaps of another submission.
    Unclear,
}

impl Rows {
    /// Out of the column of ids and that of marks, where there is one.
    pub(super) fn of(columns: Vec<Vec<String>>) -> Self {
        let mut columns = columns.into_iter();
        let (ids, marks) = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        let mut rows = HashMap::<_, Vec<_>>::new();
        let marks = marks.into_iter().map(Some).chain(std::iter::repeat(None));
        for (id, mark) in ids.into_iter().zip(marks).filter(|(id, _)| !id.is_empty()) {
            let lead = mark.and_then(|mark| serde_json::from_str::<Lead>(&mark).ok());
            rows.entry(id).or_default().push(lead.map(|lead| lead.digest()));
        }
        Self(rows)
    }

    /// A row that bears another submission's mark is that one's. For a lead that has no other home a row without a mark
    /// is none of its own, unless nobody else can have its id: the whole of it would be nowhere.
    pub(super) fn find(&self, waiting: &Waiting) -> There {
        let Some(marks) = self.0.get(&waiting.lead.to_string()) else { return There::No };
        let alone = waiting.errand.keeps && waiting.lead.is_of_key();
        if marks.contains(&Some(waiting.digest)) || !alone && marks.contains(&None) {
            There::Yes
        } else if alone {
            There::Unclear
        } else {
            There::No
        }
    }
}

impl Writer {
    /// Reads the marks, once a minute, as soon as there is a column of them.
    pub(super) async fn learn_who_was_kept(&self, seat: &AtDesk<'_>) -> Result<(), Failure> {
        let Some(known) = seat.kept.as_ref().filter(|_| !self.kept_before.is_fresh()) else {
            return Ok(());
        };
        let Some(place) = known.header.position(MARK) else { return Ok(()) };
        self.take_look().await;
        let marks = self.api.columns(&known.tab, &[place]).await?.into_iter().flatten();
        let marked = marks.filter_map(|text| serde_json::from_str::<Lead>(&text).ok()).map(|lead| lead.id);
        let leads: HashSet<_> = marked.collect();
        let others = leads.iter().filter(|lead| !self.kept_before.contains(lead)).count();
        if others > 0 {
            warn!(
                leads = others,
                "the sheet keeps leads that the store may not have: unless another process brings them there, run `lead-intake leads import`"
            );
        }
        *self.kept_before.state() = State { leads, read_at: Some(Instant::now()) };
        Ok(())
    }
}
