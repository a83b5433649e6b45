//! The step that makes a deal.
//!
//! One that was sent, and may be there, is known by the custom field that is filled with the lead's id. Without such a
//! field it is any deal of the same person and title that was added since it was sent, and is no other delivery's: each
//! delivery remembers its deal, and those of one person make or look for theirs one at a time. Were two deals lost on
//! their way at once, and one of them made, either lead may have it; the other gets another. What remains: a deal of this
//! very title that somebody else made for the person since then is taken for ours.

use serde_json::Value;

use super::custom::Custom;
use super::item::Item;
use super::person::CLOCKS_DIFFER;
use super::progress::Progress;
use super::{Pipedrive, Trip, bodies};
use crate::clock::Timestamp;
use crate::delivery::DeliveryError;

impl Pipedrive {
    /// The deal.
    pub(super) async fn deal(&self, trip: Trip<'_>, person: u64) -> Result<Item, DeliveryError> {
        let Trip { parcel, moment, .. } = trip;
        let path = ["api", "v2", "deals"];
        let body = bodies::deal(parcel.lead, &self.parsed, person);
        let progress = Progress::of(parcel.steps.get(Item::DEAL));
        let field =
            self.parsed.deal_fields.iter().find(|(_, custom)| Custom::is_id(custom)).map(|(key, _)| key);
        let _turn = match field {
            Some(_) => None,
            None => Some(self.turn(trip, self.account.deals_of(person)).await?),
        };
        let mut found = Vec::new();
        if let Progress::Sending { since } = progress {
            let earliest = since.and_then(|since| since.checked_sub(CLOCKS_DIFFER).ok());
            let is_ours = |deal: &Value| match field {
                Some(key) => deal["custom_fields"][key] == parcel.lead.id.to_string(),
                None => {
                    let added = deal["add_time"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
                    deal["title"] == body["title"] && added >= earliest
                }
            };
            let of = person.to_string();
            let look = |deal: &Value| {
                if deal["is_deleted"] != true && is_ours(deal) {
                    found.extend(deal["id"].as_u64());
                }
            };
            self.client.list(&path, &[("person_id", &of)], moment, look).await?;
        }
        found.sort_unstable();
        let id = match self.nobody_elses(trip, found).await? {
            Some(id) => id.to_string(),
            None => self.make(trip, (Item::DEAL, &progress), &path, &body).await?,
        };
        if field.is_none() {
            parcel.notebook.remember(&self.account.deal(&id), &parcel.delivery.to_string()).await?;
        }
        parcel.notebook.finish_step(Item::DEAL, &id).await?;
        Item::of_deal(&id)
    }

    /// The first of these deals that is not known to be another delivery's.
    async fn nobody_elses(&self, trip: Trip<'_>, deals: Vec<u64>) -> Result<Option<u64>, DeliveryError> {
        let (notebook, ours) = (trip.parcel.notebook, trip.parcel.delivery.to_string());
        for id in deals {
            if notebook.recall(&self.account.deal(&id.to_string())).await?.is_none_or(|owner| owner == ours) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }
}
