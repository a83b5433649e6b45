//! Rows of unknown outcome that the store's log of attempts does not tell of: leads that were kept while it
//! could not commit, and rows of failing deliveries. They are remembered here until they have been seen.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most that are remembered; then the oldest gives way, whose visitor is the least likely to come back.
const MOST: usize = 10_000;

/// What may be in the sheet although nobody could say so, and since when.
pub(super) struct Unsure<K>(Mutex<HashMap<K, Instant>>);

impl<K> Default for Unsure<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Unsure<K> {
    /// It may be in the sheet, or land there later.
    pub(super) fn add(&self, key: K) {
        let mut since = self.locked();
        if since.len() >= MOST
            && let Some(oldest) = since.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())
        {
            since.remove(&oldest);
        }
        since.insert(key, Instant::now());
    }

    /// How long until the sheet can be asked whether it is there; `None`: nothing is unsure.
    pub(super) fn wait(&self, key: &K, look_after: Duration) -> Option<Duration> {
        self.locked().get(key).map(|since| look_after.saturating_sub(since.elapsed()))
    }

    /// The row has been seen. Whether it had been unsure.
    pub(super) fn remove(&self, key: &K) -> bool {
        self.locked().remove(key).is_some()
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
