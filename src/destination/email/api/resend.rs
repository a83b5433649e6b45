//! Resend: the mail as JSON under an idempotency key, and errors that have a name.
//!
//! The body is the same on every attempt: the same key with another body is refused.

use std::time::Duration;

use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::Single;
use super::said::Said;
use crate::delivery::DeliveryError;

/// How long a request under the same key is given to end.
const IN_FLIGHT: Duration = Duration::from_secs(5);

/// The wait where it takes fewer requests a second than we make, and does not say for how long.
const RATE: Duration = Duration::from_secs(1);

/// The wait for the next day's mails, to begin with.
const DAILY: Duration = Duration::from_secs(60 * 60);

/// The wait for the next month's, or for a larger plan.
const MONTHLY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `POST /emails` takes. Its `Message-ID` is its own: the key tells a repeat.
pub(super) fn body(single: &Single<'_>) -> Value {
    let texts = &single.letter.texts;
    let mut body = json!({
        "from": single.mail.from.to_string(),
        "to": [single.to.to_string()],
        "subject": texts.subject,
        "text": texts.text,
        "html": texts.html,
        "headers": { "Auto-Submitted": "auto-generated" },
        "tags": [{ "name": "delivery", "value": single.event }],
    });
    if let Some(address) = &single.letter.reply_to {
        body["reply_to"] = json!(address.to_string());
    }
    body
}

/// The idempotency key: the delivery and, for several requests are one delivery, the recipient.
pub(super) fn key(single: &Single<'_>) -> String {
    let hash = digest(&SHA256, AsRef::<[u8]>::as_ref(AsRef::<str>::as_ref(single.to)));
    let short: String = hash.as_ref().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{}_{short}", single.event)
}

/// Whether it took the mail.
pub(super) fn judge(said: &Said<'_>) -> Result<String, DeliveryError> {
    if said.is_success() {
        let id = said.json["id"].as_str().filter(|id| !id.is_empty());
        return id.map(str::to_owned).ok_or_else(|| said.unclear());
    }
    let name = said.json["name"].as_str().unwrap_or_default();
    let wait = said.answer.retry_after(said.now);
    Err(match (said.status(), name) {
        (
            _,
            "missing_api_key" | "restricted_api_key" | "invalid_api_key" | "suspended_api_key"
            | "invalid_permission",
        ) => said.unauthorized(name),
        _ if said.says("API key is invalid") => said.unauthorized("invalid_api_key"),
        (403, "validation_error") => {
            said.blocked(name, "It does not let us send. Verify the domain of EMAIL_FROM at Resend.")
        }
        (_, "not_found" | "method_not_allowed") => {
            said.blocked(name, "Nothing is there. Check `mail.base_url`.")
        }
        (409, "concurrent_idempotent_requests" | "resource_locked") => {
            said.transient(name, Some(IN_FLIGHT), "An earlier attempt is still under way; it is looked at again.")
        }
        (409, "invalid_idempotent_request") => said.rejected(
            name,
            "This mail was sent before with other words, as when a template was changed between two attempts. It has most likely arrived.",
        ),
        // The answer was cut: the next one can be read.
        (409, "") => said.transient("409", Some(IN_FLIGHT), "It is tried again."),
        (_, "daily_quota_exceeded") => said.limited(
            name,
            wait.unwrap_or_default().max(DAILY),
            "The day's quota is used up; mails wait. Raise the plan to send them sooner.",
        ),
        (_, "monthly_quota_exceeded" | "email_above_quota") => said.limited(
            name,
            wait.unwrap_or_default().max(MONTHLY),
            "The month's quota is used up; mails wait. Raise the plan to send them sooner.",
        ),
        (429, _) => {
            let code = if name == "rate_limit_exceeded" { name } else { "429" };
            let wait = wait.or_else(|| reset(said)).unwrap_or(RATE);
            said.limited(code, wait, "It takes fewer requests a second; mails wait for a moment.")
        }
        (500..=599, "application_error" | "service_unavailable") => {
            said.transient(name, wait, "It has a fault of its own; the mail is tried again.")
        }
        (
            400 | 422,
            "validation_error"
            | "invalid_idempotency_key"
            | "missing_required_field"
            | "missing_required_parameter"
            | "invalid_parameter"
            | "invalid_attachment"
            | "invalid_from_address"
            | "invalid_access"
            | "invalid_region",
        ) => said.rejected(name, "It refuses this mail."),
        _ => said.by_status(),
    })
}

/// `ratelimit-reset`: the seconds that are left.
fn reset(said: &Said<'_>) -> Option<Duration> {
    let text = said.answer.headers.get("ratelimit-reset")?.to_str().ok()?.trim();
    let seconds = text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    seconds.filter(|&seconds| seconds > 0).map(Duration::from_secs)
}

/// Whether the key is one. A key that can only send may not list the domains, and that says who it is.
pub(super) fn may_send(said: &Said<'_>) -> Result<(), DeliveryError> {
    if said.json["name"] == "restricted_api_key" {
        return Ok(());
    }
    match judge(said) {
        _ if said.is_success() && said.json.is_object() => Ok(()),
        _ if said.is_success() => Err(said.strange()),
        judged => judged.map(drop),
    }
}
