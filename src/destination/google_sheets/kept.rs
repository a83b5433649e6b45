//! The leads that bear a mark: this process kept them while the store could not commit, or another one did and may
//! have died before the store had them. Should such a lead come from the store, its row is there already.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::columns::MARK;
use super::failure::Failure;
use super::writer::{AtDesk, Writer};
use crate::id::LeadId;
use crate::lead::Lead;

/// What the marks say.
#[derive(Default)]
pub(super) struct KeptBefore(Mutex<State>);

#[derive(Default)]
struct State {
    leads: HashSet<LeadId>,
    is_known: bool,
}

impl KeptBefore {
    /// Other processes may keep leads from now on: the marks are to be read again.
    pub(super) fn forget(&self) {
        self.state().is_known = false;
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

impl Writer {
    /// Reads the marks, once, as soon as there is a column of them.
    pub(super) async fn learn_who_was_kept(&self, seat: &AtDesk<'_>) -> Result<(), Failure> {
        let Some(known) = seat.kept.as_ref().filter(|_| !self.kept_before.state().is_known) else {
            return Ok(());
        };
        let Some(place) = known.header.position(MARK) else { return Ok(()) };
        self.take_look().await;
        let marks = self.api.columns(&known.tab, &[place]).await?.into_iter().flatten();
        let marked = marks.filter_map(|text| serde_json::from_str::<Lead>(&text).ok()).map(|lead| lead.id);
        *self.kept_before.state() = State { leads: marked.collect(), is_known: true };
        Ok(())
    }
}
