//! What an engine must be able to do. Every method is ONE transaction; none is open during network
//! I/O, and no transaction type leaves this folder.
//!
//! Due dates and leases are kept by the engine's own clock: callers hand in durations.

pub mod archive;
pub mod connect;
pub mod migrations;
pub mod moving;
pub mod postgres;
pub mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::delivery::standing::{Pace, Signal, Standing, Turn, Turned};
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

    /// Claims up to `limit` due deliveries of one destination, those due longest first, as its standing
    /// allows: none while it is held, and while it is parked one when a probe is due, which puts the next
    /// probe further away. A delivery whose last claim ended unsettled gets a lost attempt with the
    /// outcome Unknown first.
    async fn claim_due(&self, request: ClaimRequest) -> Result<Claimed, StoreError>;

    /// Writes an attempt, what becomes of its delivery, and what it says of its destination. A failure
    /// changes nothing of the delivery when the store has gone on to another attempt or state;
    /// `Delivered` wins over pending, dead and cancelled.
    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError>;

    /// Gives a claim back unsent: due at once, not counted. Returns whether the delivery changed.
    async fn release(&self, claim: &Claim) -> Result<bool, StoreError>;

    /// Lengthens a claim's lease to `lease` from now. `false` when the claim has been lost.
    async fn renew(&self, delivery: &DeliveryId, attempt: u32, lease: Duration) -> Result<bool, StoreError>;

    /// Keeps a finished step of a delivery, whatever has become of the claim: it is a fact.
    async fn finish_step(&self, delivery: &DeliveryId, name: &str, value: &str) -> Result<(), StoreError>;

    /// What a destination remembered under `key`.
    async fn recall(&self, destination: &DestinationName, key: &str) -> Result<Option<String>, StoreError>;

    /// Remembers `value` under `key`; an empty value forgets.
    async fn remember(&self, destination: &DestinationName, key: &str, value: &str)
    -> Result<(), StoreError>;

    /// Keeps what is known of a destination beyond any attempt, such as a pause that it asks for.
    async fn signal(&self, destination: &DestinationName, signal: Signal) -> Result<(), StoreError>;

    /// Makes the next probe of a parked destination due, and its rests begin anew: a person has done
    /// something about it.
    async fn probe_now(&self, destination: &DestinationName) -> Result<(), StoreError>;

    /// Takes a turn for `length`, or lengthens it. `false`: another process has it. A process that has
    /// the turn can take it again, under another number.
    async fn take_turn(&self, turn: &Turn, length: Duration) -> Result<bool, StoreError>;

    /// Ends a turn, unless its process has taken it again under another number.
    async fn end_turn(&self, turn: &Turn) -> Result<(), StoreError>;

    /// Books the next call of `name`: how long until it may go. `None`: not within `patience`, and
    /// nothing is booked.
    async fn pace(&self, name: &str, pace: Pace, patience: Duration) -> Result<Option<Duration>, StoreError>;

    /// No call of `name` goes for so long, 10 minutes at most, and then one after the other.
    async fn rest(&self, name: &str, pace: Pace, wait: Duration) -> Result<(), StoreError>;

    /// How long until the next delivery of the destination is due; `None` when none is pending.
    async fn next_due(&self, destination: &DestinationName) -> Result<Option<Duration>, StoreError>;

    /// One lead with everything that happened to it.
    async fn lead(&self, id: LeadId) -> Result<Option<LeadRecord>, StoreError>;

    /// Leads, newest first.
    async fn leads(&self, filter: LeadFilter) -> Result<Vec<LeadRecord>, StoreError>;

    /// Deliveries, newest lead first.
    async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliveryRecord>, StoreError>;

    /// Puts the dead letters among these deliveries on their way again, with a fresh budget; a parked
    /// destination among theirs is probed at once. Returns how many.
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
    /// How long the destination rests before its first probe, should it be parked.
    pub rest: Duration,
}

/// What a lane got.
#[derive(Debug)]
pub struct Claimed {
    /// The claims.
    pub claims: Vec<Claim>,
    /// How the destination stands after them.
    pub standing: Standing,
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
    /// What the attempt says of the destination, if it says anything new.
    pub signal: Option<Signal>,
}

/// What a settlement came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Whether the delivery changed.
    pub changed: bool,
    /// Whether the destination stands otherwise now, by this settlement.
    pub turned: Option<Turned>,
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
            signal: self.signal,
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
    /// It was to be looked into alone, and an earlier release made its schema.
    #[error(
        "an earlier release made the store's schema; start this release's service on it, or run `lead-intake migrate`"
    )]
    Outdated,
    /// What it holds is not what we wrote.
    #[error("the store holds something that cannot be read: {0}")]
    Corrupt(String),
}
