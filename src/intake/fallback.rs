//! The second home: a lead that the store cannot commit is kept in the sheet, waits in memory, and
//! enters the store as soon as that can commit again.
//!
//! Its row carries a mark with the whole lead, so that one whose process died meanwhile can be found and
//! imported. The mark is taken off once the store has the lead.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Answer;
use crate::clock::Clock;
use crate::delivery::{Birth, DeliveryError, Entry, Receipt};
use crate::destination::{FallbackHome, Handoff, NoNotes, Parcel, Steps};
use crate::dispatch::Lane;
use crate::id::{DeliveryId, LeadId};
use crate::lead::Digest;
use crate::report::Chain;
use crate::store::{Accepted, Store};

/// The first and the longest wait before the store is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// How often taking a mark off is tried before it is left to `leads import`.
const CLEAR_TRIES: usize = 10;

/// The second home, and what waits there.
pub struct Fallback {
    home: Arc<dyn FallbackHome>,
    lane: Arc<Lane>,
    clock: Clock,
    capacity: usize,
    waiting: Mutex<HashMap<LeadId, Waiting>>,
    to_clear: Mutex<Vec<LeadId>>,
    /// One call at a time takes marks off, and takes all those that have come meanwhile.
    clearing: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Waiting {
    digest: Digest,
    kept: bool,
}

impl Fallback {
    /// A second home that `lane` leads to, for at most `capacity` leads at once.
    pub fn new(home: Arc<dyn FallbackHome>, lane: Arc<Lane>, clock: Clock, capacity: usize) -> Self {
        Self {
            home,
            lane,
            clock,
            capacity,
            waiting: Mutex::default(),
            to_clear: Mutex::default(),
            clearing: tokio::sync::Mutex::default(),
        }
    }

    /// The lane of the destination that is the home.
    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// The answer for a submission whose lead is already here.
    pub(super) fn recall(&self, id: LeadId, digest: &Digest) -> Option<Answer> {
        let waiting = *locked(&self.waiting).get(&id)?;
        Some(match waiting {
            // Nobody has it yet, and perhaps nobody will: it uses up no key.
            Waiting { kept: false, .. } => Answer::Unavailable { retry_after: super::RETRY_AFTER },
            Waiting { digest: first, .. } if first != *digest => Answer::Conflict,
            Waiting { .. } => Answer::Repeat(id),
        })
    }

    /// Room for one more lead. `false`: memory's bound is reached, or the lead is on its way already.
    pub(super) fn reserve(&self, id: LeadId, digest: Digest) -> bool {
        let mut waiting = locked(&self.waiting);
        if waiting.len() >= self.capacity {
            return false;
        }
        match waiting.entry(id) {
            Slot::Occupied(_) => false,
            Slot::Vacant(slot) => {
                slot.insert(Waiting { digest, kept: false });
                true
            }
        }
    }

    /// Gives the room back.
    pub(super) fn forget(&self, id: LeadId) {
        locked(&self.waiting).remove(&id);
    }

    /// Appends the lead with its mark.
    pub(super) async fn keep(&self, entry: &Entry) -> Result<Receipt, DeliveryError> {
        let id = entry.lead.id;
        let delivery = DeliveryId { lead: id, destination: self.lane.name().clone() };
        let outcome = self
            .home
            .keep(Parcel {
                lead: &entry.lead,
                delivery: &delivery,
                attempt: 1,
                earlier: &[],
                deadline: Instant::now() + self.lane.settings().timeout,
                now: self.clock.now(),
                crm_planned: entry.crm_planned(),
                handoff: &Arc::new(Handoff::default()),
                steps: &Steps::new(),
                notebook: &NoNotes,
            })
            .await;
        match &outcome {
            Ok(_) => {
                if let Some(waiting) = locked(&self.waiting).get_mut(&id) {
                    waiting.kept = true;
                }
                warn!(lead = %id, destination = %self.lane.name(), "kept in the second home: the store cannot commit");
            }
            Err(error) => {
                error!(lead = %id, destination = %self.lane.name(), error = %Chain(error), "not kept in the second home either");
            }
        }
        outcome
    }

    /// Brings a kept lead into the store, however long that takes, and then takes its mark off.
    pub(super) async fn enter(&self, store: &dyn Store, mut entry: Entry, receipt: &Receipt) {
        let id = entry.lead.id;
        for planned in &mut entry.deliveries {
            if planned.destination == *self.lane.name() {
                planned.birth = Birth::Delivered(receipt.clone());
            } else if matches!(planned.birth, Birth::Claimed { .. }) {
                planned.birth = Birth::Due;
            }
        }
        let entry = Arc::new(entry);
        let (mut wait, longest) = AGAIN;
        let accepted = loop {
            let error = match store.accept(Arc::clone(&entry)).await {
                Ok(accepted) => break accepted,
                Err(error) => error,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.lane.given_up() => {
                    error!(lead = %id, error = %Chain(&error), "the store has not got it; it is in the sheet: run `lead-intake leads import`");
                    return;
                }
            }
            wait = (wait * 2).min(longest);
        };
        self.forget(id);
        if matches!(accepted, Accepted::Conflict) {
            // Its mark is the only whole copy, and stays.
            error!(lead = %id, "the store has another submission of this key; this one is in the sheet alone: run `lead-intake leads import`, and compare them");
            return;
        }
        info!(lead = %id, "entered the store from the second home");
        if matches!(accepted, Accepted::Repeat) {
            // Another process took it meanwhile, and may be writing its row at this moment: one row too many is
            // seen, and removed with the mark, once that attempt is over.
            tokio::select! {
                () = tokio::time::sleep(self.lane.lease()) => {}
                () = self.lane.stopped() => {}
            }
        }
        self.entered(id).await;
    }

    /// The store has the lead: its mark goes, in one call with its neighbours'.
    pub(super) async fn entered(&self, id: LeadId) {
        self.forget(id);
        locked(&self.to_clear).push(id);
        let _alone = self.clearing.lock().await;
        let ids = std::mem::take(&mut *locked(&self.to_clear));
        if ids.is_empty() {
            return;
        }
        let (mut wait, longest) = AGAIN;
        for _ in 0..CLEAR_TRIES {
            let Err(error) = self.home.clear(&ids).await else { return };
            warn!(leads = ids.len(), error = %Chain(&error), "marks not cleared yet");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.lane.given_up() => break,
            }
            wait = (wait * 2).min(longest);
        }
        warn!(leads = ids.len(), "marks not cleared; `lead-intake leads import` clears them");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
