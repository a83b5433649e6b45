//! How many attempts brought what, since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::delivery::AttemptOutcome;

/// A counter for each outcome.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; AttemptOutcome::ALL.len()]);

impl Tally {
    /// One more.
    pub fn count(&self, outcome: AttemptOutcome) {
        if let Some(index) = AttemptOutcome::ALL.iter().position(|other| *other == outcome) {
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All counters.
    pub fn read(&self) -> impl Iterator<Item = (AttemptOutcome, u64)> {
        AttemptOutcome::ALL
            .into_iter()
            .zip(&self.0)
            .map(|(outcome, counter)| (outcome, counter.load(Ordering::Relaxed)))
    }
}
