//! Pipedrive: a person for the address, then a lead in the leads inbox or a deal, then a note.
//!
//! Pipedrive has neither an idempotency key nor anything unique. So every step's id is saved before the next
//! step; persons are found or made one at a time per address, and an address whose person may have been made
//! is looked for before another one is; a lead carries our lead's id as its `origin_id`, a note carries it in
//! its text, and a deal in a field where one is configured. What is about to be made is saved, too: a lead or deal
//! that was never sent is not looked for.

mod bodies;
mod check;
mod client;
mod custom;
mod deal;
mod fault;
mod item;
mod memory;
mod note;
mod pace;
mod person;
mod progress;
pub mod settings;
mod title;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::client::{Client, Moment};
use self::item::Item;
use self::memory::Account;
use self::progress::Progress;
use self::turns::{Turn, Turns};
use super::commons::Ours;
use super::{Destination, Parcel};
use crate::clock::{after, until};
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::net::Net;
pub use settings::{Create, Parsed, Settings};

/// A company's Pipedrive.
pub struct Pipedrive {
    parsed: Parsed,
    client: Client,
    account: Account,
    turns: Turns,
}

/// One attempt on its way.
#[derive(Clone, Copy)]
struct Trip<'a> {
    parcel: Parcel<'a>,
    moment: Moment,
    /// Whether an earlier attempt may have done more than its steps say.
    looks: bool,
}

impl Pipedrive {
    /// The Pipedrive that the settings name; `ours` is what is shared of it. Nothing is connected yet.
    pub fn new(parsed: Parsed, net: Net, ours: Ours) -> Self {
        let account = Account::of(parsed.company.as_deref(), &ours.name);
        let turns = Turns::new(Arc::clone(&ours.commons));
        let client = Client::new(&parsed, net, ours);
        Self { parsed, client, account, turns }
    }

    /// Whether something must be looked for before it is sent, as soon as it can be seen there.
    fn looks(&self, parcel: &Parcel<'_>) -> Result<bool, DeliveryError> {
        let Some(sent) = parcel.unsure_since() else { return Ok(false) };
        let wait = until(parcel.now, after(sent, self.parsed.settle));
        if wait.is_zero() { Ok(true) } else { Err(too_early(wait)) }
    }

    /// Waits for a turn.
    async fn turn(&self, trip: Trip<'_>, key: String) -> Result<Turn, DeliveryError> {
        self.turns.take(key, trip.moment.deadline).await.ok_or_else(out_of_turn)
    }

    async fn steps(&self, trip: Trip<'_>) -> Result<Receipt, DeliveryError> {
        let steps = trip.parcel.steps;
        let mut done = Vec::new();
        let mut told = None;
        let made = |step| Progress::of(steps.get(step)).made();
        // Where what hangs on the person is there, the person matters no more.
        let mut on = match self.parsed.create {
            Create::Lead => made(Item::LEAD).map(Item::Lead),
            Create::Deal => made(Item::DEAL).map(|id| Item::of_deal(&id)).transpose()?,
            Create::Person => None,
        };
        match (&on, steps.get(person::STEP)) {
            (Some(_), Some(id)) => done.push(format!("person {id}")),
            _ => {
                let (id, others) = self.person(trip).await?;
                done.push(format!("person {id}"));
                told = (others > 0).then(|| {
                    format!(
                        "{} persons in Pipedrive have this address; the oldest was taken. Merge them there.",
                        others + 1
                    )
                });
                on = on.or(match self.parsed.create {
                    Create::Person => Some(Item::Person(id)),
                    Create::Lead => Some(self.lead(trip, id).await?),
                    Create::Deal => Some(self.deal(trip, id).await?),
                });
            }
        }
        if let Some(item) = on {
            if !matches!(item, Item::Person(_)) {
                done.push(item.to_string());
            }
            if self.parsed.note {
                done.push(format!("note {}", self.note(trip, &item).await?));
            }
        }
        Ok(Receipt { remote_id: Some(done.join(", ")), note: told })
    }
}

#[async_trait]
impl Destination for Pipedrive {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let moment = Moment { now: parcel.now, began: Instant::now(), deadline: parcel.deadline };
        let looks = self.looks(&parcel)?;
        self.steps(Trip { parcel, moment, looks }).await
    }

    /// The token is known, and the configured pipeline, stage and fields are there.
    async fn check(&self) -> Result<(), DeliveryError> {
        check::check(&self.client, &self.parsed).await
    }

    fn quiet_period(&self) -> Duration {
        self.parsed.settle
    }
}

/// Somebody else has the turn, or may have it.
fn out_of_turn() -> DeliveryError {
    DeliveryError::transient(
        "same_address",
        "Another lead of the same address was being delivered the whole time, or our own store could not say whether one was. It is tried again.",
    )
}

/// What was sent earlier may not be visible there yet.
fn too_early(wait: Duration) -> DeliveryError {
    DeliveryError::new(
        Fault::Transient { retry_after: Some(wait) },
        "too_early",
        "An earlier attempt may have created something that Pipedrive does not show yet. It is looked for a little later, before anything is sent again.",
    )
}
