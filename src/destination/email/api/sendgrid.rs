//! SendGrid: the mail as JSON under a key, 202 with no body for a mail that was taken, and a list of errors
//! otherwise.
//!
//! It has no idempotency key. A repeat carries the same `Message-ID`, and the delivery among the custom
//! arguments.

use std::time::Duration;

use serde_json::{Value, json};

use super::Single;
use super::said::Said;
use crate::clock::{Timestamp, until};
use crate::delivery::DeliveryError;

/// The wait where it takes fewer requests than we make, and does not say for how long.
const RATE: Duration = Duration::from_secs(30);

/// The wait for new credits, to begin with.
const CREDITS: Duration = Duration::from_secs(60 * 60);

/// What `POST /v3/mail/send` takes: the text stands before the HTML.
pub(super) fn body(single: &Single<'_>) -> Value {
    let texts = &single.letter.texts;
    let mut from = json!({ "email": single.mail.from.email.to_string() });
    if let Some(name) = &single.mail.from.name {
        from["name"] = json!(name);
    }
    let mut body = json!({
        "personalizations": [{ "to": [{ "email": single.to.to_string() }] }],
        "from": from,
        "subject": texts.subject,
        "content": [
            { "type": "text/plain", "value": texts.text },
            { "type": "text/html", "value": texts.html },
        ],
        "headers": { "Auto-Submitted": "auto-generated", "Message-ID": single.message_id },
        "custom_args": { "delivery": single.event },
        "tracking_settings": {
            "click_tracking": { "enable": false, "enable_text": false },
            "open_tracking": { "enable": false },
        },
    });
    if let Some(address) = &single.letter.reply_to {
        body["reply_to"] = json!({ "email": address.to_string() });
    }
    body
}

/// Whether it took the mail. A 200 is what its sandbox says, which sends nothing.
pub(super) fn judge(said: &Said<'_>) -> Result<String, DeliveryError> {
    if said.is_success() {
        let id = said.answer.headers.get("x-message-id").and_then(|id| id.to_str().ok());
        let is_taken = said.status() == 202 && !said.is_page();
        return if is_taken { Ok(id.unwrap_or_default().to_owned()) } else { Err(said.unclear()) };
    }
    let wait = said.answer.retry_after(said.now);
    let is_about_sender =
        said.json["errors"].as_array().into_iter().flatten().any(|it| it["field"] == "from")
            || said.says("verified Sender Identity");
    Err(match said.status() {
        401 if said.says("Maximum credits exceeded") => said.limited(
            "credits_exceeded",
            wait.unwrap_or_default().max(CREDITS),
            "The credits are used up; mails wait. Raise the plan to send them sooner.",
        ),
        403 if is_about_sender => said.blocked(
            "sender_not_verified",
            "It does not let us send from this address. Verify the sender or domain of EMAIL_FROM at SendGrid.",
        ),
        429 => said.limited(
            "429",
            wait.or_else(|| reset(said)).unwrap_or(RATE),
            "It takes fewer requests than we make; mails wait for a moment.",
        ),
        _ => said.by_status(),
    })
}

/// `X-RateLimit-Reset`: the moment, in seconds of Unix time, by the answer's own clock.
fn reset(said: &Said<'_>) -> Option<Duration> {
    let text = said.answer.headers.get("x-ratelimit-reset")?.to_str().ok()?;
    let moment = Timestamp::from_second(text.trim().parse().ok()?).ok()?;
    Some(until(said.answer.date().unwrap_or(said.now), moment)).filter(|wait| !wait.is_zero())
}

/// Whether the key is one that may send.
pub(super) fn may_send(said: &Said<'_>) -> Result<(), DeliveryError> {
    if !said.is_success() {
        return judge(said).map(drop);
    }
    let Some(scopes) = said.json["scopes"].as_array() else { return Err(said.strange()) };
    if scopes.iter().any(|scope| scope == "mail.send") {
        return Ok(());
    }
    Err(said
        .blocked("no_mail_send", &format!("The key may not send mails: {}.", said.vendor.where_keys_are())))
}
