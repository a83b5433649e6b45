//! HubSpot: a contact by its e-mail address, created, or updated where it exists.
//!
//! The address is unique there, so a repeat meets the contact that the first try made: nothing doubles.
//! Searching is not asked, for it lags behind (HubSpot's own words).

mod fault;
mod form;
pub mod settings;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::api::{Api, Call, Reply};
use super::commons::Ours;
use super::{Destination, Parcel};
use crate::clock::{Timestamp, until};
use crate::delivery::{DeliveryError, Receipt};
use crate::lead::Lead;
use crate::net::Net;
use settings::OnUnknown;
pub use settings::{Parsed, Settings};

/// The name that people read.
const NAME: &str = "HubSpot";

/// How long a check may take.
const CHECK: Duration = Duration::from_secs(20);

/// The interval of the burst limit, where an answer does not name it.
const INTERVAL: Duration = Duration::from_secs(10);

/// A HubSpot account.
pub struct HubSpot {
    parsed: Parsed,
    api: Api,
    forms: Option<Api>,
}

/// The most that is read of an answer: the list of all properties with their options, of which an account has more than
/// a thousand.
const LONGEST_ANSWER: usize = 8 * 1024 * 1024;

/// The step that makes the contact, where another follows.
const STEP: &str = "contact";

/// The contact, as the step keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Contact {
    id: String,
    /// Whether it was made.
    created: bool,
    /// The properties that were left out, for HubSpot does not know them.
    #[serde(default)]
    without: Vec<String>,
    /// Whether this very attempt made it: nobody can have corrected it since.
    #[serde(skip)]
    is_fresh: bool,
}

impl Contact {
    fn receipt(&self) -> Receipt {
        let mut notes = Vec::new();
        if !self.created {
            notes.push("updated".to_owned());
        }
        if !self.without.is_empty() {
            notes.push(format!("sent without {}, which HubSpot does not know", self.without.join(", ")));
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        Receipt { remote_id: Some(self.id.clone()), note }
    }
}

impl HubSpot {
    /// An account that is called through `net`; `ours` is what is shared of it.
    ///
    /// # Panics
    /// Never: the token was believed before.
    pub fn new(parsed: Parsed, net: &Net, ours: &Ours) -> Self {
        let bearer = format!("Bearer {}", parsed.access_token.expose());
        let api = |base: &reqwest::Url| {
            Api::new(net.clone(), base.clone(), ("authorization", &bearer), ours.clone())
                .expect("the token was believed")
        };
        Self {
            api: api(&parsed.base).reading(LONGEST_ANSWER),
            forms: parsed.form.as_ref().map(|form| api(&form.base)),
            parsed,
        }
    }

    /// Everything that the lead has to say, and what only a new contact gets beside it.
    fn properties(&self, lead: &Lead, without: &[String]) -> (Map<String, Value>, Map<String, Value>) {
        let Parsed { properties, keep_existing, new_contact, legal_basis, .. } = &self.parsed;
        let mut update = Map::new();
        let mut create = Map::new();
        create.insert("email".to_owned(), json!(email(lead)));
        for (name, value) in new_contact {
            create.insert(name.clone(), json!(value));
        }
        if let Some(basis) = legal_basis.as_ref().filter(|_| lead.submitted.consent_given) {
            create.insert("hs_legal_basis".to_owned(), json!(basis));
        }
        for (name, field) in properties {
            // An empty text would clear what is there.
            let Some(value) = field.of(lead) else { continue };
            if !keep_existing.contains(name) {
                update.insert(name.clone(), json!(value));
            }
            create.insert(name.clone(), json!(value));
        }
        for name in without {
            update.remove(name);
            create.remove(name);
        }
        (create, update)
    }

    async fn call(&self, call: Call<'_>, parcel: &Parcel<'_>) -> Result<Reply, DeliveryError> {
        let reply = self.api.call(call, parcel.now, parcel.deadline).await;
        let reply = reply.map_err(|lost| lost.into_error(NAME))?;
        if reply.number("x-hubspot-ratelimit-remaining") == Some(0) {
            let interval = reply.number("x-hubspot-ratelimit-interval-milliseconds");
            self.api.rest_all(interval.map_or(INTERVAL, Duration::from_millis).min(INTERVAL));
        }
        Ok(reply)
    }

    /// Creates the contact, or updates the one that has the address.
    async fn upsert(&self, parcel: &Parcel<'_>, without: &[String]) -> Result<Contact, Failed> {
        let (create, update) = self.properties(parcel.lead, without);
        let objects = ["crm", "objects", &self.parsed.version, "contacts"];
        let created = json!({ "properties": create, "associations": [] });
        let contact = |id, created| Contact { id, created, without: without.to_vec(), is_fresh: created };
        for _ in 0..2 {
            let reply = self.call(Call::send(Method::POST, &objects, &created), parcel).await?;
            let reply = match reply.status {
                status if status.is_success() => {
                    let id = reply.json["id"].as_str().filter(|id| !id.is_empty());
                    let id = id.ok_or_else(|| unreadable(&reply))?.to_owned();
                    return Ok(contact(id, true));
                }
                StatusCode::CONFLICT => reply,
                _ => return Err(Failed::Answer(reply)),
            };
            let existing = fault::existing(&reply);
            if update.is_empty()
                && let Some(id) = existing
            {
                return Ok(contact(id, false));
            }
            let address = email(parcel.lead);
            let which = existing.as_deref().unwrap_or(&address);
            let [crm, kind, version, contacts] = objects;
            let path = [crm, kind, version, contacts, which];
            let by_email = [("idProperty", "email")];
            let body = json!({ "properties": update });
            let mut call = Call::send(Method::PATCH, &path, &body);
            if existing.is_none() {
                call = call.with(&by_email);
            }
            let reply = self.call(call, parcel).await?;
            match reply.status {
                status if status.is_success() => {
                    let id = reply.json["id"].as_str().map(str::to_owned);
                    return Ok(contact(id.ok_or_else(|| unreadable(&reply))?, false));
                }
                // Deleted or merged meanwhile: once more from the beginning.
                StatusCode::NOT_FOUND => {}
                _ => return Err(Failed::Answer(reply)),
            }
        }
        Err(Failed::Error(DeliveryError::transient(
            "hubspot_gone",
            "The contact is there when it is created and gone when it is updated; it is tried again.",
        )))
    }

    /// What an answer means for the delivery; the daily limit is asked when it ends.
    async fn judge(&self, reply: &Reply, parcel: &Parcel<'_>) -> DeliveryError {
        let mut error = fault::judge(reply, parcel.attempt, parcel.earlier);
        if fault::is_daily(reply) && reply.retry_after.is_none() {
            let wait = self.until_reset(parcel).await.unwrap_or(fault::HOUR);
            error.fault = crate::delivery::Fault::Transient { retry_after: Some(wait) };
            error = error.holding_lane(wait);
        }
        error
    }

    /// How long until the day's calls are counted anew, by HubSpot's own word.
    async fn until_reset(&self, parcel: &Parcel<'_>) -> Option<Duration> {
        let path = ["account-info", &self.parsed.version, "api-usage", "daily", "private-apps"];
        let reply = self.api.call(Call::get(&path), parcel.now, parcel.deadline).await.ok()?;
        let resets_at: Timestamp = reply.json["results"][0]["resetsAt"].as_str()?.parse().ok()?;
        Some(until(parcel.now, resets_at)).filter(|wait| !wait.is_zero())
    }

    /// The contact, with what HubSpot does not know left out where the settings allow it.
    async fn contact(&self, parcel: &Parcel<'_>) -> Result<Contact, DeliveryError> {
        let ended = match self.upsert(parcel, &[]).await {
            Err(Failed::Answer(reply)) if self.parsed.on_unknown == OnUnknown::Drop => {
                let bad = fault::bad_properties(&reply);
                if bad.is_empty() || !bad.iter().all(fault::is_unknown) {
                    return Err(self.judge(&reply, parcel).await);
                }
                let names: Vec<_> = bad.into_iter().map(|bad| bad.name).collect();
                self.upsert(parcel, &names).await
            }
            ended => ended,
        };
        match ended {
            Ok(contact) => Ok(contact),
            Err(Failed::Answer(reply)) => Err(self.judge(&reply, parcel).await),
            Err(Failed::Error(error)) => Err(error),
        }
    }
}

/// Why there is no contact.
enum Failed {
    /// An answer that has still to be judged.
    Answer(Reply),
    /// It has been.
    Error(DeliveryError),
}

impl From<DeliveryError> for Failed {
    fn from(error: DeliveryError) -> Self {
        Self::Error(error)
    }
}

fn unreadable(reply: &Reply) -> Failed {
    Failed::Error(DeliveryError::unknown(
        "hubspot_no_id",
        format!(
            "HubSpot answered {} without the contact's id. A repeat finds the contact by its address.",
            reply.status
        ),
    ))
}

/// The address as HubSpot keeps it.
fn email(lead: &Lead) -> String {
    lead.submitted.email.ascii().to_lowercase()
}

#[async_trait]
impl Destination for HubSpot {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let (Some(form), Some(api)) = (&self.parsed.form, &self.forms) else {
            return self.contact(&parcel).await.map(|contact| contact.receipt());
        };
        let contact = match parcel.steps.get(STEP).and_then(|kept| serde_json::from_str(kept).ok()) {
            Some(contact) => contact,
            None => {
                let contact = self.contact(&parcel).await?;
                parcel.notebook.finish_step(STEP, &json!(contact).to_string()).await?;
                contact
            }
        };
        let mut receipt = contact.receipt();
        if let Some(note) = form::submit(form, api, &self.parsed, &contact, &parcel).await? {
            receipt.note = Some(receipt.note.map_or(note.clone(), |before| format!("{before}; {note}")));
        }
        Ok(receipt)
    }

    /// The token reads the properties and may write contacts, and every mapped property is there.
    async fn check(&self) -> Result<(), DeliveryError> {
        let deadline = tokio::time::Instant::now() + CHECK;
        let version = self.parsed.version.as_str();
        let ask = |call| self.api.call(call, Timestamp::UNIX_EPOCH, deadline);
        let properties = ["crm", "properties", version, "contacts"];
        let reply = ask(Call::get(&properties)).await;
        let reply = reply.map_err(|lost| lost.into_error(NAME))?;
        if !reply.status.is_success() {
            return Err(fault::judge(&reply, 1, &[]));
        }
        let Some(known) = reply.json["results"].as_array() else {
            return Err(DeliveryError::transient(
                "hubspot_unreadable",
                "HubSpot's list of properties cannot be read, so nobody knows whether those of `properties` are there. Check again.",
            ));
        };
        let known: Vec<_> = known.iter().filter_map(|it| it["name"].as_str()).collect();
        let mut wanted: Vec<_> =
            self.parsed.properties.keys().chain(self.parsed.new_contact.keys()).collect();
        wanted.retain(|name| !known.contains(&name.as_str()));
        if !wanted.is_empty() {
            let names: Vec<_> = wanted.iter().map(|name| format!("`{name}`")).collect();
            return Err(DeliveryError::rejected(
                "unknown_property",
                format!(
                    "HubSpot does not know the property {}: create it there, or correct `properties`.",
                    names.join(", ")
                ),
            ));
        }
        // A contact that cannot be: no contact is changed, and a token that may not write is told so.
        let nothing = json!({ "properties": {} });
        let path = ["crm", "objects", version, "contacts", "0"];
        let reply = ask(Call::send(Method::PATCH, &path, &nothing)).await;
        let reply = reply.map_err(|lost| lost.into_error(NAME))?;
        match reply.status.as_u16() {
            401 | 403 => Err(fault::judge(&reply, 1, &[])),
            _ => Ok(()),
        }
    }
}
