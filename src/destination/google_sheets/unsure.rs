//! Keeps of unknown outcome. The store, which logs every attempt, could not hear of these, so they are
//! remembered here until the lead's row has been seen.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::id::LeadId;

/// The most that are remembered; then the oldest gives way, whose visitor is the least likely to come back.
const MOST: usize = 10_000;

/// Leads that may be in the sheet although nobody could say so, and since when.
#[derive(Default)]
pub(super) struct Unsure(Mutex<HashMap<LeadId, Instant>>);

impl Unsure {
    /// The lead may be in the sheet, or land there later.
    pub(super) fn add(&self, lead: LeadId) {
        let mut since = self.locked();
        if since.len() >= MOST
            && let Some(oldest) = since.iter().min_by_key(|(_, at)| **at).map(|(lead, _)| *lead)
        {
            since.remove(&oldest);
        }
        since.insert(lead, Instant::now());
    }

    /// How long until the sheet can be asked whether it has the lead; `None`: nothing is unsure.
    pub(super) fn wait(&self, lead: LeadId, look_after: Duration) -> Option<Duration> {
        self.locked().get(&lead).map(|since| look_after.saturating_sub(since.elapsed()))
    }

    /// The row has been seen. Whether it had been unsure.
    pub(super) fn remove(&self, lead: LeadId) -> bool {
        self.locked().remove(&lead).is_some()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<LeadId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
