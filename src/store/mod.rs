//! What an engine must be able to do. Every method is ONE transaction; none is open during network
//! I/O, and no transaction type leaves this folder.
//!
//! Due dates and leases are kept by the engine's own clock: callers hand in durations.

pub mod archive;
pub mod connect;
pub mod moving;
pub mod postgres;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::delivery::{Attempt, Claim, Entry, Kind, Settlement, State};
use crate::id::{DeliveryId, DestinationName, FormName, LeadId};
use crate::lead::Lead;
pub use connect::Settings;

/// Where leads and their deliveries are kept.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Stores a lead and its deliveries. When this returns, they survive a crash.
    ///
    /// The lead's id decides: an id that is there already, with the same digest, is a repeat and
    /// changes nothing; with another digest it is a conflict.
    async fn accept(&self, entry: Arc<Entry>) -> Result<Accepted, StoreError>;

    /// Claims up to `limit` due deliveries of one destination, those due longest first. A delivery
    /// whose last claim ended unsettled gets a lost attempt with the outcome Unknown first.
    async fn claim_due(&self, request: ClaimRequest) -> Result<Vec<Claim>, StoreError>;

    /// Writes an attempt and what becomes of its delivery. A failure changes nothing when the store
    /// has gone on to another attempt or state; `Delivered` wins over pending, dead and cancelled.
    /// Returns whether the delivery changed.
    async fn settle(&self, settle: Settle) -> Result<bool, StoreError>;

    /// Gives a claim back unsent: due at once, not counted. Returns whether the delivery changed.
    async fn release(&self, claim: Claim) -> Result<bool, StoreError>;

    /// Lengthens a claim's lease to `lease` from now. `false` when the claim has been lost.
    async fn renew(&self, delivery: &DeliveryId, attempt: u32, lease: Duration) -> Result<bool, StoreError>;

    /// Keeps a finished step of a delivery, whatever has become of the claim: it is a fact.
    async fn finish_step(&self, delivery: &DeliveryId, name: &str, value: &str) -> Result<(), StoreError>;

    /// What a destination remembered under `key`.
    async fn recall(&self, destination: &DestinationName, key: &str) -> Result<Option<String>, StoreError>;

    /// Remembers `value` under `key`; an empty value forgets.
    async fn remember(&self, destination: &DestinationName, key: &str, value: &str)
    -> Result<(), StoreError>;

    /// How long until the next delivery of the destination is due; `None` when none is pending.
    async fn next_due(&self, destination: &DestinationName) -> Result<Option<Duration>, StoreError>;

    /// One lead with everything that happened to it.
    async fn lead(&self, id: LeadId) -> Result<Option<LeadRecord>, StoreError>;

    /// Leads, newest first.
    async fn leads(&self, filter: LeadFilter) -> Result<Vec<LeadRecord>, StoreError>;

    /// Deliveries, newest lead first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Puts the dead letters among these deliveries on their way again, with a fresh budget.
    /// Returns how many.
    async fn replay(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError>;

    /// Gives up those of these deliveries that are pending, dead or withheld. Returns how many.
    async fn cancel(&self, deliveries: &[DeliveryId]) -> Result<u64, StoreError>;

    /// Records consent given at `at` and makes what was withheld pending. Returns how many
    /// deliveries that freed; `None` when there is no such lead.
    async fn consent(&self, lead: LeadId, at: Timestamp) -> Result<Option<u64>, StoreError>;

    /// The destinations that deliveries wait for. Cheap however many wait: `/health` asks it.
    async fn waited_for(&self) -> Result<Vec<DestinationName>, StoreError>;

    /// How many deliveries of each destination are pending, dead or withheld. Cheap however many are done.
    async fn counts(&self) -> Result<Vec<(DestinationName, State, u64)>, StoreError>;

    /// What the sheet has still to be told, at most so many.
    async fn unshown(&self, limit: u32) -> Result<Vec<Unshown>, StoreError>;

    /// These have been told. One that has changed meanwhile stays unshown.
    async fn shown(&self, told: Vec<Unshown>) -> Result<(), StoreError>;

    /// A value that is made once and kept: the first caller's `fresh` value stays.
    async fn keep(&self, name: &'static str, fresh: Vec<u8>) -> Result<Vec<u8>, StoreError>;

    /// Whether the store could commit now.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Finishes what is queued and closes the files or connections.
    async fn close(&self);
}

/// What became of an entry.
#[derive(Debug)]
pub enum Accepted {
    /// It is stored; the claims are those of the deliveries that were born claimed.
    New(Vec<Claim>),
    /// The same submission was here before.
    Repeat,
    /// Another submission has this id.
    Conflict,
}

/// A lane's wish for work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Whose deliveries.
    pub destination: DestinationName,
    /// At most how many.
    pub limit: usize,
    /// How long the claims last.
    pub lease: Duration,
}

/// A claim at its end.
#[derive(Debug)]
pub struct Settle {
    /// The claim.
    pub claim: Claim,
    /// The attempt, as it is to be kept. Its number is the claim's.
    pub attempt: Attempt,
    /// What becomes of the delivery.
    pub settlement: Settlement,
}

impl Settle {
    /// The same settlement once more, for a store that could not take it. The one way to a second
    /// claim: a settlement that may have been written is harmless to repeat, for it is fenced.
    pub fn again(&self) -> Self {
        let claim = &self.claim;
        Self {
            claim: Claim {
                delivery: claim.delivery.clone(),
                lead: Arc::clone(&claim.lead),
                attempt: claim.attempt,
                budget_used: claim.budget_used,
                lease_ends: claim.lease_ends,
                crm_planned: claim.crm_planned,
                earlier: claim.earlier.clone(),
                steps: claim.steps.clone(),
            },
            attempt: self.attempt.clone(),
            settlement: self.settlement.clone(),
        }
    }
}

/// Something that people cannot see yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshown {
    /// Of which lead.
    pub lead: LeadId,
    /// A delivery to this destination; `None`: whether all CRMs have the lead.
    pub destination: Option<DestinationName>,
    /// Which change of it, as the engine counts.
    pub version: i64,
}

/// Which leads to list.
#[derive(Clone, Debug, Default)]
pub struct LeadFilter {
    /// Only this form's.
    pub form: Option<FormName>,
    /// Only those received at or after.
    pub since: Option<Timestamp>,
    /// Only those received before.
    pub until: Option<Timestamp>,
    /// At most how many; no limit when absent.
    pub limit: Option<u32>,
}

/// Which deliveries to list, replay or cancel.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only this one lead's.
    pub lead: Option<LeadId>,
    /// Only those in this state.
    pub state: Option<State>,
    /// Only this destination's.
    pub destination: Option<DestinationName>,
    /// Only those of leads that came through this form.
    pub form: Option<FormName>,
    /// Only those of leads received at or after.
    pub since: Option<Timestamp>,
    /// Only those of leads received before.
    pub until: Option<Timestamp>,
    /// Only those whose last error's code or detail contains this text.
    pub error: Option<String>,
    /// At most how many; no limit when absent.
    pub limit: Option<u32>,
}

/// A lead as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct LeadRecord {
    /// The lead.
    pub lead: Arc<Lead>,
    /// Its deliveries, by destination.
    pub deliveries: Vec<DeliveryRecord>,
}

/// A delivery as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct DeliveryRecord {
    /// Which.
    pub id: DeliveryId,
    /// What its destination is.
    pub kind: Kind,
    /// Where it stands.
    pub state: State,
    /// When it is due, if it is pending. In the future while an attempt is under way.
    pub due_at: Option<Timestamp>,
    /// The number of the newest attempt.
    pub attempts: u32,
    /// The proof of arrival.
    pub receipt: Option<crate::delivery::Receipt>,
    /// When its lead was received.
    pub received_at: Timestamp,
    /// Every attempt, oldest first.
    pub history: Vec<Attempt>,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot commit now: disk full, file locked, connection lost. Nothing was done, or it is not
    /// known whether it was.
    #[error("the store cannot commit")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It cannot be opened, and will not be until a person acts.
    #[error("the store cannot be opened: {problem}; {hint}")]
    Unusable {
        /// What is wrong, with the place.
        problem: String,
        /// What to do.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What it holds is not what we wrote.
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(String),
}
