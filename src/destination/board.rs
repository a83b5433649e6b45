//! Where people read what becomes of leads: a destination that keeps a row for each of them.

use std::time::Duration;

use async_trait::async_trait;

use crate::delivery::DeliveryError;
use crate::id::{DeliveryId, LeadId};

/// A delivery that fails, has died or was saved after all, in the words of the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failing {
    /// Which.
    pub id: DeliveryId,
    /// The destination's type; empty where it is no longer configured.
    pub type_name: String,
    /// What the last failure said.
    pub error: String,
    /// How many attempts were made.
    pub attempts: String,
    /// When the last one ended.
    pub last_attempt: String,
    /// When the next one is due; empty where there is none.
    pub next_retry: String,
    /// `retrying`, `dead`, `delivered`, `withheld` or `cancelled`.
    pub state: String,
    /// The lead, as JSON.
    pub payload: String,
}

/// What a person wrote beside a failing delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Which delivery.
    pub id: DeliveryId,
    /// What was written.
    pub action: String,
}

/// A board that people read.
#[async_trait]
pub trait Board: Send + Sync + 'static {
    /// Shows for each lead whether all of its CRMs have it, and for each delivery how it fails. Whoever is
    /// not on the board any more is left out: a person took the row away. To be repeated until it
    /// succeeds; a repeat changes nothing that is right.
    async fn show(&self, synced: &[(LeadId, bool)], failing: &[Failing]) -> Result<(), DeliveryError>;

    /// How often people's wishes are read.
    fn listen_every(&self) -> Duration;

    /// What people have written beside failing deliveries and has not been answered.
    async fn wishes(&self) -> Result<Vec<Wish>, DeliveryError>;

    /// Answers wishes in the place where they were written.
    async fn answer(&self, answers: &[Wish]) -> Result<(), DeliveryError>;
}
