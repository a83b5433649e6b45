//! The steps after the person: a lead or a deal, and the note on it.
//!
//! After an unknown outcome each is looked for among what hangs on the person. A lead is known by its
//! `origin_id`, a note by its mark, a deal by the custom field that is filled with the lead's id. Without such
//! a field a deal of the same person and title that was added since the first attempt of unknown outcome is
//! taken for ours: were two leads of one person with one title on their way in that very minute, they would
//! share a deal, each with its note.

use std::fmt;

use serde_json::{Value, json};

use super::custom::Custom;
use super::person::CLOCKS_DIFFER;
use super::{Pipedrive, Trip, bodies, note};
use crate::clock::Timestamp;
use crate::delivery::{AttemptOutcome, DeliveryError};

/// What the note hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// The person.
    Person(u64),
    /// A lead in the inbox: a UUID.
    Lead(String),
    /// A deal.
    Deal(u64),
}

impl Item {
    /// The name of the step that makes a lead.
    pub(super) const LEAD: &'static str = "lead";
    /// The name of the step that makes a deal.
    pub(super) const DEAL: &'static str = "deal";
    /// The name of the step that adds the note.
    const NOTE: &'static str = "note";

    /// The deal of this id.
    pub(super) fn of_deal(id: &str) -> Result<Self, DeliveryError> {
        id.parse().map(Self::Deal).map_err(|_| {
            DeliveryError::rejected(
                "pipedrive_no_id",
                "Pipedrive's deal has an id that is no number. Please report this.",
            )
        })
    }

    /// Its id.
    fn id(&self) -> String {
        match self {
            Self::Person(id) | Self::Deal(id) => id.to_string(),
            Self::Lead(id) => id.clone(),
        }
    }

    /// How a note names what it hangs on.
    pub(super) fn reference(&self) -> (&'static str, Value) {
        match self {
            Self::Person(id) => ("person_id", json!(id)),
            Self::Lead(id) => ("lead_id", json!(id)),
            Self::Deal(id) => ("deal_id", json!(id)),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => write!(f, "person {id}"),
            Self::Lead(id) => write!(f, "lead {id}"),
            Self::Deal(id) => write!(f, "deal {id}"),
        }
    }
}

impl Pipedrive {
    /// The lead in the inbox.
    pub(super) async fn lead(&self, trip: Trip<'_>, person: u64) -> Result<Item, DeliveryError> {
        let Trip { parcel, moment, looks } = trip;
        let path = ["v1", "leads"];
        let mut found = None;
        if looks {
            let (ours, of) = (parcel.lead.id.to_string(), person.to_string());
            let look = |lead: &Value| {
                if lead["origin_id"] == ours.as_str() {
                    found = found.take().or_else(|| lead["id"].as_str().map(str::to_owned));
                }
            };
            self.client.old_list(&path, ("person_id", &of), moment, look).await?;
        }
        let id = match found {
            Some(id) => id,
            None => {
                self.client.create(&path, &bodies::lead(parcel.lead, &self.parsed, person), moment).await?
            }
        };
        parcel.notebook.finish_step(Item::LEAD, &id).await?;
        Ok(Item::Lead(id))
    }

    /// The deal.
    pub(super) async fn deal(&self, trip: Trip<'_>, person: u64) -> Result<Item, DeliveryError> {
        let Trip { parcel, moment, looks } = trip;
        let path = ["api", "v2", "deals"];
        let body = bodies::deal(parcel.lead, &self.parsed, person);
        let mut found = Vec::new();
        if looks {
            let of = person.to_string();
            let look = |deal: &Value| {
                if deal["is_deleted"] != true && self.is_ours(deal, &body, trip) {
                    found.extend(deal["id"].as_u64());
                }
            };
            self.client.list(&path, &[("person_id", &of)], moment, look).await?;
        }
        let id = match found.into_iter().min() {
            Some(id) => id.to_string(),
            None => self.client.create(&path, &body, moment).await?,
        };
        parcel.notebook.finish_step(Item::DEAL, &id).await?;
        Item::of_deal(&id)
    }

    /// Whether a deal is the one that `body` made.
    fn is_ours(&self, deal: &Value, body: &Value, trip: Trip<'_>) -> bool {
        let parcel = trip.parcel;
        if let Some((key, _)) = self.parsed.deal_fields.iter().find(|(_, custom)| Custom::is_id(custom)) {
            return deal["custom_fields"][key] == parcel.lead.id.to_string();
        }
        let first = parcel.earlier.iter().find(|attempt| attempt.outcome == AttemptOutcome::Unknown);
        let began = first.map(|attempt| self.client.by_their_clock(attempt.started_at, trip.moment));
        let since = began.and_then(|began| began.checked_sub(CLOCKS_DIFFER).ok());
        let added = deal["add_time"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        deal["title"] == body["title"] && added >= since
    }

    /// The note; its id.
    pub(super) async fn note(&self, trip: Trip<'_>, on: &Item) -> Result<String, DeliveryError> {
        let Trip { parcel, moment, looks } = trip;
        if let Some(id) = parcel.steps.get(Item::NOTE) {
            return Ok(id.clone());
        }
        let path = ["v1", "notes"];
        let mut found = None;
        if looks {
            let (mark, (name, _)) = (note::mark(parcel.lead), on.reference());
            let look = |note: &Value| {
                if note["content"].as_str().is_some_and(|content| content.contains(&mark)) {
                    found = found.take().or_else(|| note["id"].as_u64());
                }
            };
            self.client.old_list(&path, (name, &on.id()), moment, look).await?;
        }
        let id = match found {
            Some(id) => id.to_string(),
            None => self.client.create(&path, &bodies::note(parcel.lead, on), moment).await?,
        };
        parcel.notebook.finish_step(Item::NOTE, &id).await?;
        Ok(id)
    }
}
