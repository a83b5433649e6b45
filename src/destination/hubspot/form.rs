//! HubSpot's forms API: what makes a lead a conversion there, ties it to the visitor's cookie, and records
//! the consent in the visitor's own words.
//!
//! It is not idempotent and names no contact, so a submission whose answer was lost is not repeated: the
//! contact is there already.

use reqwest::Method;
use serde_json::{Value, json};

use super::settings::{Form, Parsed};
use super::{Contact, NAME, email, fault};
use crate::delivery::{DeliveryError, Fault};
use crate::destination::Parcel;
use crate::destination::api::{Api, Call};

/// The step's name in the notebook.
const STEP: &str = "form";

/// What the step says before the call, where that surely brought nothing, and where nobody knows what it brought.
const SENDING: &str = "sending";
const UNSENT: &str = "unsent";
const LOST: &str = "lost";

/// Submits the lead to the form, once. Returns what a person should know of it.
pub(super) async fn submit(
    form: &Form,
    api: &Api,
    parsed: &Parsed,
    contact: &Contact,
    parcel: &Parcel<'_>,
) -> Result<Option<String>, DeliveryError> {
    match parcel.steps.get(STEP).map(String::as_str) {
        // The process ended, or was to end, while it was under way.
        Some(SENDING) => {
            parcel.notebook.finish_step(STEP, LOST).await?;
            return Ok(note(LOST));
        }
        Some(UNSENT) | None => {}
        Some(before) => return Ok(note(before)),
    }
    let path = [
        "submissions",
        "v3",
        "integration",
        "secure",
        "submit",
        form.portal_id.as_str(),
        form.form_id.as_str(),
    ];
    let body = body(form, parsed, contact, parcel);
    // The forms API has no pace of its own: the call is made at once.
    parcel.notebook.finish_step(STEP, SENDING).await?;
    let answer = api.call(Call::send(Method::POST, &path, &body), parcel.now, parcel.deadline).await;
    let ended = match answer {
        Ok(reply) if reply.status.is_success() => "submitted",
        Ok(reply) if reply.status.is_server_error() => LOST,
        Ok(reply) => {
            parcel.notebook.finish_step(STEP, UNSENT).await?;
            let mut error = fault::judge(&reply, parcel.attempt, parcel.earlier);
            error.detail = format!("The contact is there; the form was not submitted. {}", error.detail);
            return Err(error);
        }
        Err(lost) => {
            let error = lost.into_error(NAME);
            if !matches!(error.fault, Fault::Unknown { .. }) {
                parcel.notebook.finish_step(STEP, UNSENT).await?;
                return Err(error);
            }
            LOST
        }
    };
    parcel.notebook.finish_step(STEP, ended).await?;
    Ok(note(ended))
}

fn note(ended: &str) -> Option<String> {
    (ended == LOST).then(|| "the answer to the form's submission was lost; it is not sent twice".to_owned())
}

/// What the contact got is what the form gets: a submission writes into the contact, too.
fn body(form: &Form, parsed: &Parsed, contact: &Contact, parcel: &Parcel<'_>) -> Value {
    let lead = parcel.lead;
    let field = |name: &str, value: String| json!({ "objectTypeId": "0-1", "name": name, "value": value });
    let mut fields = vec![field("email", email(lead))];
    let is_kept = |name: &String| !contact.is_fresh && parsed.keep_existing.contains(name);
    let given =
        parsed.properties.iter().filter(|(name, _)| !is_kept(name) && !contact.without.contains(name));
    fields.extend(given.filter_map(|(name, from)| from.of(lead).map(|value| field(name, value))));
    let submitted = &lead.submitted;
    let mut context = json!({ "pageUri": submitted.source.url });
    // A foreign cookie would merge two visitors: only what the page itself gave, and only what can be one, for HubSpot
    // refuses a lead with another.
    let is_cookie = |text: &&str| text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
    if let Some(cookie) = submitted.source.more.get("hutk").and_then(Value::as_str).filter(is_cookie) {
        context["hutk"] = json!(cookie);
    }
    let mut body = json!({
        "fields": fields,
        "submittedAt": lead.received_at.as_millisecond().to_string(),
        "context": context,
    });
    if let Some(text) = form.consent_text.as_ref().filter(|_| submitted.consent_given) {
        body["legalConsentOptions"] = json!({ "consent": { "consentToProcess": true, "text": text } });
    }
    body
}
