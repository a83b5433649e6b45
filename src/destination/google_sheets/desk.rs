//! The one place that a tab is written from: within a process a lock, between processes a turn.

use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::failure::Failure;
use crate::destination::Commons;
use crate::destination::commons::InTurn;

/// The desk of a tab, and what is kept there.
pub(super) struct Desk<T> {
    commons: Arc<dyn Commons>,
    name: String,
    kept: Mutex<T>,
}

/// A seat at the desk, until it is dropped.
pub(super) struct Seat<'a, T> {
    /// What is kept at the desk of this process.
    pub(super) kept: MutexGuard<'a, T>,
    /// Since when nobody else writes.
    pub(super) since: Instant,
    /// Whether to write although nobody can be asked who else does.
    pub(super) alone: bool,
    turn: InTurn,
}

impl<T> Desk<T> {
    pub(super) fn new(commons: &Arc<dyn Commons>, name: String, kept: T) -> Self {
        Self { commons: Arc::clone(commons), name, kept: Mutex::new(kept) }
    }

    /// Waits for a seat. `alone` says whether to take it although nobody can be asked who else sits there.
    pub(super) async fn sit(&self, alone: impl Fn() -> bool) -> Seat<'_, T> {
        let kept = self.kept.lock().await;
        loop {
            if let Some(turn) = InTurn::wait(&self.commons, self.name.clone(), None, &alone).await {
                return Seat { kept, since: Instant::now(), alone: false, turn };
            }
        }
    }
}

impl<T> Seat<'_, T> {
    /// To be asked before every write: whether it is still this process that writes.
    pub(super) async fn may_write(&mut self) -> Result<(), Failure> {
        if self.turn.lasts(self.alone).await { Ok(()) } else { Err(Failure::Overtaken) }
    }
}
