//! HubSpot's forms API: what makes a lead a conversion there, ties it to the visitor's cookie, and records
//! the consent in the visitor's own words.
//!
//! It is not idempotent and names no contact, so a submission whose answer was lost is not repeated: the
//! contact is there already.

use reqwest::Method;
use serde_json::{Value, json};

use super::settings::{Form, Parsed};
use super::{NAME, email, fault};
use crate::delivery::{DeliveryError, Fault};
use crate::destination::Parcel;
use crate::destination::api::{Api, Call};

/// The step's name in the notebook.
const STEP: &str = "form";

/// Submits the lead to the form, once. Returns what a person should know of it.
pub(super) async fn submit(
    form: &Form,
    api: &Api,
    parsed: &Parsed,
    parcel: &Parcel<'_>,
) -> Result<Option<String>, DeliveryError> {
    if let Some(before) = parcel.steps.get(STEP) {
        return Ok(note(before));
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
    let body = body(form, parsed, parcel);
    let answer = api.call(Call::send(Method::POST, &path, &body), parcel.now, parcel.deadline).await;
    let ended = match answer {
        Ok(reply) if reply.status.is_success() => "submitted",
        Ok(reply) if reply.status.is_server_error() => "lost",
        Ok(reply) => {
            let mut error = fault::judge(&reply, parcel.attempt, parcel.earlier);
            error.detail = format!("The contact is there; the form was not submitted. {}", error.detail);
            return Err(error);
        }
        Err(lost) => {
            let error = lost.into_error(NAME);
            if !matches!(error.fault, Fault::Unknown { .. }) {
                return Err(error);
            }
            "lost"
        }
    };
    parcel.notebook.finish_step(STEP, ended).await?;
    Ok(note(ended))
}

fn note(ended: &str) -> Option<String> {
    (ended == "lost").then(|| "the answer to the form's submission was lost; it is not sent twice".to_owned())
}

fn body(form: &Form, parsed: &Parsed, parcel: &Parcel<'_>) -> Value {
    let lead = parcel.lead;
    let field = |name: &str, value: String| json!({ "objectTypeId": "0-1", "name": name, "value": value });
    let mut fields = vec![field("email", email(lead))];
    fields.extend(
        parsed.properties.iter().filter_map(|(name, from)| from.of(lead).map(|value| field(name, value))),
    );
    let submitted = &lead.submitted;
    let mut context = json!({ "pageUri": submitted.source.url });
    // A foreign cookie would merge two visitors: only what the page itself gave.
    if let Some(cookie) = submitted.source.more.get("hutk").and_then(Value::as_str) {
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
