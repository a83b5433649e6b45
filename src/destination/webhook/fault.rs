//! What a webhook's answer means for the delivery.

use std::time::Duration;

use reqwest::StatusCode;

use super::{Flavour, Parsed};
use crate::clock::Timestamp;
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::net::{Answer, Lost};

/// How long a full queue at make.com is given to drain.
const QUEUE_REST: Duration = Duration::from_secs(5 * 60);

/// How long a receiver is left alone that has had too many calls and does not say for how long: half of Make's
/// window, and many of Zapier's.
const BREATHER: Duration = Duration::from_secs(5);

/// Judges a whole answer.
pub(super) fn judge(answer: &Answer, parsed: &Parsed, now: Timestamp) -> Result<Receipt, DeliveryError> {
    let (status, flavour) = (answer.status, parsed.flavour);
    if status.is_success() {
        return Ok(Receipt::default());
    }
    let code = format!("http_{}", status.as_u16());
    let said = match parsed.without_secrets(answer.excerpt()) {
        said if said.is_empty() => String::new(),
        said => format!(" It said: {said}"),
    };
    let number = status.as_u16();
    if flavour == Flavour::Make && number == 400 && answer.excerpt().starts_with("Queue is full") {
        let fault = Fault::Transient { retry_after: Some(QUEUE_REST) };
        let detail =
            "The queue of the Make scenario is full. Process it, or raise the plan; it is tried again.";
        return Err(DeliveryError::new(fault, "queue_full", detail));
    }
    let error = match number {
        408 | 425 | 429 => {
            let retry_after = answer.retry_after(now);
            let detail = format!("The webhook answered {status}; it is tried again.{said}");
            let error = DeliveryError::new(Fault::Transient { retry_after }, code, detail);
            // Who comes too often is to come less often, whichever lead it is.
            if status == StatusCode::TOO_MANY_REQUESTS {
                hold(error, retry_after.or(Some(BREATHER)))
            } else {
                error
            }
        }
        503 if answer.retry_after(now).is_some() => {
            let retry_after = answer.retry_after(now);
            let detail = format!(
                "The webhook answered {status} and said for how long; it is tried again after that.{said}"
            );
            hold(DeliveryError::new(Fault::Transient { retry_after }, code, detail), retry_after)
        }
        500..=599 => {
            let mut detail =
                format!("The webhook answered {status}; it may have taken the lead. It is tried again.");
            detail.push_str(&said);
            // The later of the schedule and the receiver's own word.
            let look_after = answer.retry_after(now).unwrap_or_default();
            DeliveryError::new(Fault::Unknown { look_after }, code, detail)
        }
        300..=399 => DeliveryError::blocked(
            code,
            format!(
                "The webhook's URL answered {status}: it redirects, and redirects are not followed. Set `url` to where it leads."
            ),
        ),
        401 | 403 => DeliveryError::blocked(
            code,
            format!("The webhook answered {status}: check its secret and headers.{said}"),
        ),
        404 | 405 | 410 => DeliveryError::blocked(
            code,
            format!(
                "The webhook answered {status}: nobody listens there. Check `url`, or turn the receiver on.{said}"
            ),
        ),
        _ => DeliveryError::rejected(code, format!("The webhook refused this lead with {status}.{said}")),
    };
    Err(error)
}

fn hold(error: DeliveryError, retry_after: Option<Duration>) -> DeliveryError {
    match retry_after {
        Some(wait) => error.holding_lane(wait),
        None => error,
    }
}

/// Judges an answer that did not come.
pub(super) fn lost(lost: Lost) -> DeliveryError {
    match lost {
        Lost::Unsent(error) => DeliveryError::transient(
            "not_connected",
            "No connection to the webhook: check its host, its port and its certificate. It is tried again.",
        )
        .with_source(error),
        Lost::Midway(error) => DeliveryError::unknown(
            "connection_lost",
            "The connection to the webhook was lost before it answered; it may have taken the lead. It is tried again.",
        )
        .with_source(error),
        Lost::Late => DeliveryError::unknown(
            "timeout",
            "The webhook did not answer in time; it may have taken the lead. It is tried again.",
        ),
    }
}
