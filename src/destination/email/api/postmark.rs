//! Postmark: the mail as JSON under a server's token, and errors that have a number of their own.
//!
//! It has no idempotency key. A repeat carries the same `Message-ID`, which `X-PM-KeepID` asks it to leave
//! alone, and the delivery in the metadata.

use std::time::Duration;

use serde_json::{Value, json};

use super::Single;
use super::said::Said;
use crate::delivery::DeliveryError;

/// The least wait where it takes fewer requests than we make; it never says for how long.
const RATE: Duration = Duration::from_secs(30);

/// What `POST /email` takes.
pub(super) fn body(single: &Single<'_>) -> Value {
    let texts = &single.letter.texts;
    let header = |name: &str, value: &str| json!({ "Name": name, "Value": value });
    let mut body = json!({
        "From": single.mail.from.to_string(),
        "To": single.to.to_string(),
        "Subject": texts.subject,
        "TextBody": texts.text,
        "HtmlBody": texts.html,
        "MessageStream": "outbound",
        "Headers": [
            header("Auto-Submitted", "auto-generated"),
            header("Message-ID", &single.message_id),
            header("X-PM-KeepID", "true"),
        ],
        "Metadata": { "delivery": single.event },
        "TrackOpens": false,
        "TrackLinks": "None",
    });
    if let Some(address) = &single.letter.reply_to {
        body["ReplyTo"] = json!(address.to_string());
    }
    body
}

/// Whether it took the mail: `ErrorCode` 0 and nothing else says so.
pub(super) fn judge(said: &Said<'_>) -> Result<String, DeliveryError> {
    let number = said.json["ErrorCode"].as_u64();
    if said.is_success() {
        let id = said.json["MessageID"].as_str().unwrap_or_default();
        return if number == Some(0) { Ok(id.to_owned()) } else { Err(said.unclear()) };
    }
    let wait = said.answer.retry_after(said.now);
    let code = number.map_or_else(|| format!("http_{}", said.status()), |number| number.to_string());
    Err(match (said.status(), number) {
        (_, Some(10)) | (401, Some(_)) => said.unauthorized(&code),
        (429, _) => said.limited(
            "http_429",
            wait.unwrap_or_default().max(RATE),
            "It takes fewer requests than we make; mails wait for a moment.",
        ),
        (422, Some(number)) => by_number(said, number, &code),
        // The answer was cut: the next one can be read.
        (422, None) => said.transient(&code, wait, "Its reason could not be read; the mail is tried again."),
        _ => said.by_status(),
    })
}

/// What `ErrorCode` says of a mail that it refused.
fn by_number(said: &Said<'_>, number: u64, code: &str) -> DeliveryError {
    match number {
        406 => said.rejected(
            code,
            "It sends nothing to this recipient, after a bounce, a complaint or by hand. Reactivate the address at Postmark, then replay.",
        ),
        100 => said.transient(code, None, "It is being maintained; the mail is tried again."),
        400 | 401 => said.blocked(
            code,
            "It does not let us send from this address. Confirm the sender signature or domain of EMAIL_FROM at Postmark.",
        ),
        405 | 412 | 413 => {
            said.blocked(code, "It does not let this account send. See what Postmark asks for in the account.")
        }
        402 | 403 | 409 | 410 => {
            said.blocked(code, "It cannot read the request. Check `mail.base_url` and what stands between.")
        }
        _ => said.rejected(code, "It refuses this mail."),
    }
}

/// Whether the token is one.
pub(super) fn may_send(said: &Said<'_>) -> Result<(), DeliveryError> {
    match judge(said) {
        _ if said.is_success() && said.json.is_object() => Ok(()),
        _ if said.is_success() => Err(said.strange()),
        judged => judged.map(drop),
    }
}
