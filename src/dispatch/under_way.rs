//! Which deliveries have an attempt under way in this process. A lease is a moment of a clock, and a clock that jumps
//! ahead ends it while its attempt goes on: whoever claims the delivery then must not send beside that attempt.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::id::LeadId;

/// The leads that a destination has attempts of.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    leads: Mutex<HashSet<LeadId>>,
    ended: Notify,
}

/// An attempt that is under way until this is dropped.
pub(super) struct Alone<'a>(&'a UnderWay, LeadId);

impl UnderWay {
    /// The attempt at this lead begins. `None`: another one was under way, and has ended now.
    pub(super) async fn begin(&self, lead: LeadId) -> Option<Alone<'_>> {
        let mut is_first = true;
        loop {
            let ended = self.ended.notified();
            let mut ended = std::pin::pin!(ended);
            ended.as_mut().enable();
            if self.leads().insert(lead) {
                let alone = Alone(self, lead);
                return is_first.then_some(alone);
            }
            is_first = false;
            ended.await;
        }
    }

    fn leads(&self) -> MutexGuard<'_, HashSet<LeadId>> {
        self.leads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.leads().remove(&self.1);
        self.0.ended.notify_waiters();
    }
}
