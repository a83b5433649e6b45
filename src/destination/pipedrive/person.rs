//! The first step: the person who has the address, found or made.
//!
//! Searches are dear (20 of a day's tokens; one look at a known person is 1), so person ids are remembered. A
//! person that exists already is left as it is: people work on it.

use std::time::Duration;

use serde_json::Value;

use super::client::LONGEST_CALL;
use super::memory::{Memory, same};
use super::turns::Turn;
use super::{Pipedrive, Trip, bodies, out_of_turn, too_early};
use crate::clock::{Timestamp, after, until};
use crate::delivery::{DeliveryError, Fault, LONGEST_WAIT};

/// The step's name.
pub(super) const STEP: &str = "person";

/// How much earlier than we sent it something may bear the time of: answers give the time in whole seconds, and come
/// later than it was.
pub(super) const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

impl Pipedrive {
    /// The person's id, and how many others have the address.
    pub(super) async fn person(&self, trip: Trip<'_>) -> Result<(u64, usize), DeliveryError> {
        let Trip { parcel, moment, .. } = trip;
        let email = &parcel.lead.submitted.email;
        let key = self.account.person(email);
        let mut turn = self.turn(trip, key.clone()).await?;
        let memory = parcel.notebook.recall(&key).await?.as_deref().and_then(Memory::parse);
        let saved = parcel.steps.get(STEP).and_then(|id| id.parse().ok());
        let remembered = match memory {
            Some(Memory::Person(id)) => Some(id),
            _ => None,
        };
        for id in saved.into_iter().chain(remembered.filter(|id| saved != Some(*id))) {
            let known = self.client.one(&["api", "v2", "persons", &id.to_string()], moment).await?;
            // Under another account's token the number is somebody else's; and people give a person another address.
            if known.is_some_and(|person| has_address(&person, &same(email.as_str()))) {
                if saved != Some(id) {
                    parcel.notebook.finish_step(STEP, &id.to_string()).await?;
                }
                return Ok((id, 0));
            }
            if remembered == Some(id) {
                parcel.notebook.remember(&key, "").await?;
            }
        }
        let unsure = match memory {
            Some(Memory::Unsure { sent, look_after }) => {
                let (now, longest) = (moment.wall(), LONGEST_CALL + self.parsed.settle);
                let wait = until(now, look_after);
                if wait > longest {
                    // A clock that was ahead wrote it down. How long ago that was nobody knows.
                    let sent = now.checked_sub(LONGEST_WAIT).unwrap_or(now);
                    let unsure = Memory::Unsure { sent, look_after: after(now, longest) };
                    parcel.notebook.remember(&key, &unsure.to_string()).await?;
                    return Err(too_early(longest));
                }
                if !wait.is_zero() {
                    return Err(too_early(wait));
                }
                Some(sent)
            }
            _ => None,
        };
        let mut found = self.search(trip).await?;
        if let (true, Some(sent)) = (found.is_empty(), unsure) {
            found = self.listed_since(trip, sent).await?;
        }
        found.sort_unstable();
        found.dedup();
        let id = match found.first() {
            Some(oldest) => *oldest,
            None => self.create_person(trip, &key, &mut turn).await?,
        };
        parcel.notebook.finish_step(STEP, &id.to_string()).await?;
        parcel.notebook.remember(&key, &Memory::Person(id).to_string()).await?;
        Ok((id, found.len().saturating_sub(1)))
    }

    /// The persons that the search index shows with exactly this address.
    async fn search(&self, trip: Trip<'_>) -> Result<Vec<u64>, DeliveryError> {
        let email = trip.parcel.lead.submitted.email.as_str();
        let query = [("term", email), ("fields", "email"), ("exact_match", "true")];
        let (mut found, ours) = (Vec::new(), same(email));
        self.client
            .list(&["api", "v2", "persons", "search"], &query, trip.moment, |entry| {
                let item = &entry["item"];
                let emails = item["emails"].as_array().into_iter().flatten();
                if emails.filter_map(|email| email.as_str()).any(|email| same(email) == ours) {
                    found.extend(item["id"].as_u64());
                }
            })
            .await?;
        Ok(found)
    }

    /// The persons with the address that have changed since: this list is exact where the search index lags.
    async fn listed_since(&self, trip: Trip<'_>, sent: Timestamp) -> Result<Vec<u64>, DeliveryError> {
        // Fractions of a second are refused.
        let sent = self.client.by_their_clock(sent, trip.moment);
        let second = sent.as_second() - i64::try_from(CLOCKS_DIFFER.as_secs()).unwrap_or_default();
        let since = Timestamp::from_second(second).unwrap_or(sent).to_string();
        let (mut found, ours) = (Vec::new(), same(trip.parcel.lead.submitted.email.as_str()));
        self.client
            .list(&["api", "v2", "persons"], &[("updated_since", &since)], trip.moment, |person| {
                if has_address(person, &ours) && person["is_deleted"] != true {
                    found.extend(person["id"].as_u64());
                }
            })
            .await?;
        Ok(found)
    }

    /// Makes the person, if it is still our turn when the call is about to be made. That it may be there is remembered
    /// before the call, and taken back where Pipedrive surely did not make it.
    async fn create_person(&self, trip: Trip<'_>, key: &str, turn: &mut Turn) -> Result<u64, DeliveryError> {
        let Trip { parcel, moment, .. } = trip;
        let mut sent = None;
        let remember = async {
            if !turn.lasts().await {
                return Err(out_of_turn());
            }
            let now = moment.wall();
            let longest = moment.call_ends().saturating_duration_since(tokio::time::Instant::now());
            let unsure = Memory::Unsure { sent: now, look_after: after(now, longest + self.parsed.settle) };
            sent = Some(now);
            parcel.notebook.remember(key, &unsure.to_string()).await
        };
        let body = bodies::person(parcel.lead, &self.parsed);
        let path = ["api", "v2", "persons"];
        let created = self.client.create_after(remember, &path, &body, moment).await.and_then(|id| {
            id.parse().map_err(|_| {
                DeliveryError::new(
                    Fault::Unknown { look_after: self.parsed.settle },
                    "pipedrive_no_id",
                    "Pipedrive created a person whose id is no number. The person is looked for.",
                )
            })
        });
        let (Err(error), Some(sent)) = (&created, sent) else { return created };
        let known = match error.fault {
            Fault::Unknown { look_after } => {
                Memory::Unsure { sent, look_after: after(moment.wall(), look_after) }.to_string()
            }
            _ => String::new(),
        };
        // Should this fail, the next one looks without need, and no more.
        let _ = parcel.notebook.remember(key, &known).await;
        created
    }
}

/// Whether a person, as the API shows one, has the address.
fn has_address(person: &Value, address: &str) -> bool {
    let emails = person["emails"].as_array().into_iter().flatten();
    emails.filter_map(|email| email["value"].as_str()).any(|email| same(email) == address)
}
