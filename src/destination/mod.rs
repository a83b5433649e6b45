//! What a place that leads go to must be able to do.
//!
//! Implementations never import each other, never touch the store, and never decide on retries: they
//! say what happened, in the words of [`Fault`](crate::delivery::Fault).

pub mod api;
pub mod board;
pub mod commons;
pub mod email;
pub mod field;
pub mod google_sheets;
pub mod handoff;
pub mod hubspot;
pub mod messenger;
pub mod notebook;
pub mod pipedrive;
pub mod registry;
pub mod webhook;

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::clock::Timestamp;
pub use crate::delivery::lane_settings::{LaneSettings, Start};
use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Kind, Receipt};
use crate::id::{DeliveryId, LeadId};
use crate::lead::Lead;
pub use board::{Board, Failing, Wish};
pub use commons::{Booked, Commons};
pub use handoff::Handoff;
pub use messenger::{Messenger, News};
pub use notebook::{NoNotes, Notebook, Steps};

pub use crate::units::SettingProblem;

/// What a destination is.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// Its part in the story of a lead.
    pub kind: Kind,
    /// The word that `type` is in the configuration.
    pub type_name: &'static str,
}

/// A place that leads go to.
#[async_trait]
pub trait Destination: Send + Sync + 'static {
    /// Makes one attempt. Repeatable: every attempt of a delivery carries the same key.
    ///
    /// The future is never dropped half way; it must come back by [`Parcel::deadline`] on its own,
    /// and say whether anything was sent.
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError>;

    /// Tries the credentials without sending a lead.
    async fn check(&self) -> Result<(), DeliveryError>;

    /// How long after our last byte the other side may still apply what we sent. A lease is longer
    /// than an attempt by this much, so that a lost attempt is not repeated too early.
    fn quiet_period(&self) -> Duration {
        Duration::ZERO
    }
}

/// One attempt's worth of work.
#[derive(Clone, Copy, Debug)]
pub struct Parcel<'a> {
    /// The lead.
    pub lead: &'a Arc<Lead>,
    /// Which delivery: the key that is the same on every attempt.
    pub delivery: &'a DeliveryId,
    /// This attempt's number, from 1.
    pub attempt: u32,
    /// The attempts before this one, oldest first.
    pub earlier: &'a [Attempt],
    /// When the attempt must be over.
    pub deadline: Instant,
    /// The wall clock at the start of the attempt.
    pub now: Timestamp,
    /// Whether the lead goes to a CRM or webhook at all.
    pub crm_planned: bool,
    /// For a destination that queues: where it says so, and asks before it sends.
    pub handoff: &'a Arc<Handoff>,
    /// The steps that earlier attempts finished.
    pub steps: &'a Steps,
    /// Where this attempt writes down what a repeat must know.
    pub notebook: &'a dyn Notebook,
}

impl Parcel<'_> {
    /// When the last earlier attempt that may have been done after all had been sent; `None`: there is none.
    ///
    /// A clock that was ahead may have written down a moment that is still to come. Then the moment is the first later
    /// one since that clock was put right: it had been sent by then. (The last one would come again with every attempt.)
    pub fn unsure_since(&self) -> Option<Timestamp> {
        let at = self.earlier.iter().rposition(|attempt| attempt.outcome == AttemptOutcome::Unknown)?;
        let unknown = &self.earlier[at];
        // The lease of a lost attempt was longer than the quiet period: only its start is known.
        let sent = if unknown.code == LOST { unknown.started_at } else { unknown.finished_at };
        if sent <= self.now {
            return Some(sent);
        }
        let mut first = self.now;
        for attempt in self.earlier[at + 1..].iter().rev() {
            if attempt.finished_at > first {
                break;
            }
            first = attempt.finished_at;
        }
        Some(first)
    }
}

/// The code of an attempt that a crash took: the store's word.
const LOST: &str = "lost";

/// The second home of a lead: what a destination must be able to do to keep one while our own store
/// cannot commit. The whole lead travels as a mark beside the row that people read.
#[async_trait]
pub trait FallbackHome: Send + Sync + 'static {
    /// Appends the lead with its mark. `Unknown` means that it may be there: the home remembers that, and
    /// looks before it keeps or delivers this lead again.
    async fn keep(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError>;

    /// Takes the marks off these leads' rows: the store has them now. A lead without a row, or
    /// without a mark, is no error. One that two processes wrote keeps one row.
    async fn clear(&self, leads: &[LeadId]) -> Result<(), DeliveryError>;

    /// Every marked lead: what was kept and has not been cleared. A mark that cannot be read is
    /// given as the text it holds.
    async fn kept(&self) -> Result<Vec<Result<Lead, String>>, DeliveryError>;
}
