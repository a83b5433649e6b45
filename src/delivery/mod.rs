//! The state machine of a delivery. Pure: no I/O, no clock, no randomness.
//!
//! ```text
//! accept ─► pending ──settle Delivered──► delivered
//!             │ ▲ └──settle Dead──► dead ──replay──► pending (budget_used := 0)
//!             │ └─ settle Retry(wait): due_at := now + wait;  release: due_at := now, not counted
//!             └─ cancel ─► cancelled      (withheld is born withheld; consent makes it pending)
//! ```
//! A lease is a due date in the future: a delivery that is scheduled, retried, in flight or lost is
//! `pending` with a `due_at`, and there is no state that a crash can orphan.

pub mod lane_settings;
pub mod outcome;
pub mod plan;
pub mod retry;
pub mod standing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::id::{DeliveryId, DestinationName};
use crate::lead::{Digest, Lead};
pub use outcome::{DeliveryError, Fault, Outcome, Receipt};

/// The longest a delivery can rightly wait for its next attempt. One that is due later than that was
/// written by a clock that lied, and counts as due.
pub const LONGEST_WAIT: Duration = Duration::from_secs(25 * 60 * 60);

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its next attempt, or is in one.
    Pending,
    /// Arrived.
    Delivered,
    /// A dead letter: needs a person.
    Dead,
    /// Consent does not permit it.
    Withheld,
    /// A person gave it up.
    Cancelled,
}

impl State {
    /// Every state, in the order of the picture above.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Delivered, Self::Dead, Self::Withheld, Self::Cancelled];

    /// The word that stores, logs and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Withheld => "withheld",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// A word that is no state.
#[derive(Debug, thiserror::Error)]
#[error("a delivery is pending, delivered, dead, withheld or cancelled")]
pub struct UnknownState;

/// A lead and its deliveries, as `store.accept` takes them: all of it or nothing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The lead.
    pub lead: Arc<Lead>,
    /// What the submission was, to tell a repeat from another one under the same key.
    pub digest: Digest,
    /// One for each destination that the plan names.
    pub deliveries: Vec<Planned>,
}

impl Entry {
    /// Whether any CRM or webhook is among the destinations: the sheet's `crm_synced` is empty
    /// without.
    pub fn crm_planned(&self) -> bool {
        self.deliveries.iter().any(|planned| planned.kind == Kind::Crm)
    }
}

/// What a destination is, as far as the story of a lead is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A CRM or webhook: what `crm_synced` in the sheet speaks of.
    Crm,
    /// A spreadsheet.
    Sheet,
    /// A mail.
    Mail,
}

impl Kind {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crm => "crm",
            Self::Sheet => "sheet",
            Self::Mail => "mail",
        }
    }

    /// The kind that a stored word names.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Crm, Self::Sheet, Self::Mail].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A delivery that is about to be born.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Where it goes.
    pub destination: DestinationName,
    /// What the destination is.
    pub kind: Kind,
    /// The state it is born in.
    pub birth: Birth,
}

/// The state that a delivery is born in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Birth {
    /// Pending and due at once: a lane will claim it.
    Due,
    /// Pending and claimed by this process for the length of the lease: the attempt starts now.
    Claimed {
        /// How long the claim lasts.
        lease: Duration,
    },
    /// Consent does not permit it.
    Withheld,
    /// The destination has it already: the lead waited there while the store could not commit.
    Delivered(Receipt),
}

/// The right to make the next attempt, until its lease ends. Not `Clone`, and settled by value: one
/// claim is one settlement.
#[derive(Debug)]
pub struct Claim {
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The lead.
    pub lead: Arc<Lead>,
    /// This attempt's number, from 1. It is also the fence: a failure is settled only while the
    /// store still has this number.
    pub attempt: u32,
    /// How many waits of the retry schedule are used up.
    pub budget_used: u32,
    /// When the lease ends, measured from before the claim was asked for.
    pub lease_ends: Instant,
    /// Whether the lead goes to a CRM or webhook at all.
    pub crm_planned: bool,
    /// The attempts before this one, oldest first.
    pub earlier: Vec<Attempt>,
    /// The steps that they finished, by name.
    pub steps: BTreeMap<String, String>,
}

/// One try at a delivery, as the store keeps it.
#[derive(Clone, Debug, Serialize)]
pub struct Attempt {
    /// From 1; a number can be missing where a claim was released unsent.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// When its outcome was known. For a lost attempt: when the loss was noticed.
    pub finished_at: Timestamp,
    /// `delivered`, or the fault's name.
    pub outcome: AttemptOutcome,
    /// A short word for the reason, such as `http_503`, `timeout` or `lost`.
    pub code: String,
    /// What a person should read. May quote the vendor, so it stays in the store and out of the log.
    pub detail: String,
}

/// What an attempt brought, as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptOutcome {
    /// It arrived.
    Delivered,
    /// Surely not done; later.
    Transient,
    /// May have been done.
    Unknown,
    /// This lead will never go in as it is.
    Rejected,
    /// Our credentials or settings.
    Blocked,
}

impl AttemptOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] =
        [Self::Delivered, Self::Transient, Self::Unknown, Self::Rejected, Self::Blocked];

    /// The word that stores, logs and people use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::Unknown => "unknown",
            Self::Rejected => "rejected",
            Self::Blocked => "blocked",
        }
    }

    /// What `outcome` is.
    pub fn of(outcome: &Outcome) -> Self {
        outcome.as_ref().map_or_else(|error| error.fault.outcome(), |_| Self::Delivered)
    }

    /// The outcome that `word` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Settlement {
    /// It arrived. A fact: it wins over whatever the store says.
    Delivered(Receipt),
    /// Another attempt, no earlier than `wait` from now by the store's clock.
    Retry {
        /// How long until it is due.
        wait: Duration,
        /// Whether this attempt used up a wait of the schedule.
        counted: bool,
    },
    /// A dead letter.
    Dead,
    /// Given up by a rule of ours.
    Cancelled,
}
