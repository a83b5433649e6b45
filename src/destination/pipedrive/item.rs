//! The steps after the person: a lead (a deal is next door), and the note on either.
//!
//! What was sent, and may be there, is looked for among what hangs on the person (a lead that somebody archived or converted
//! within those minutes has left the list, and is made again): a lead is known by its
//! `origin_id`, a note by its mark.

use std::fmt;

use serde_json::{Value, json};

use super::progress::Progress;
use super::{Pipedrive, Trip, bodies, note};
use crate::delivery::{DeliveryError, Fault};

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
        let Trip { parcel, moment, .. } = trip;
        let path = ["v1", "leads"];
        let progress = Progress::of(parcel.steps.get(Item::LEAD));
        let mut found = None;
        if let Progress::Sending { .. } = progress {
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
                let body = bodies::lead(parcel.lead, &self.parsed, person);
                self.make(trip, (Item::LEAD, &progress), &path, &body).await?
            }
        };
        parcel.notebook.finish_step(Item::LEAD, &id).await?;
        Ok(Item::Lead(id))
    }

    /// Makes a lead or deal; its id. That it is sent is saved when the call is about to be made, not while that waits for
    /// its pace, and is taken back where Pipedrive surely made nothing.
    pub(super) async fn make(
        &self,
        trip: Trip<'_>,
        (step, progress): (&'static str, &Progress),
        path: &[&str],
        body: &Value,
    ) -> Result<String, DeliveryError> {
        let Trip { parcel, moment, .. } = trip;
        let mut is_saved = false;
        let save = async {
            let sending = match progress {
                // What was sent first may have come late.
                Progress::Sending { .. } => progress.clone(),
                _ => Progress::Sending { since: Some(self.client.their_clock(moment)) },
            };
            is_saved = true;
            parcel.notebook.finish_step(step, &sending.to_string()).await
        };
        let made = self.client.create_after(save, path, body, moment).await;
        if is_saved && made.as_ref().is_err_and(|error| !matches!(error.fault, Fault::Unknown { .. })) {
            // An earlier one may still be there. Should this fail, it is looked for without need, and no more.
            let _ = parcel.notebook.finish_step(step, &progress.to_string()).await;
        }
        made
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
