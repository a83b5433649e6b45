//! What HubSpot's answers mean. Every field of an error may be missing, and a gateway's page may stand in
//! its place.

use std::time::Duration;

use serde_json::Value;

use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Fault};
use crate::destination::api::Reply;

/// How long everybody waits after the ten-second limit was hit, for each attempt so far.
const BURST: Duration = Duration::from_secs(10);

/// How long everybody waits where HubSpot does not say: the daily limit, an account on the move.
pub(super) const HOUR: Duration = Duration::from_secs(60 * 60);

/// How much of HubSpot's own words is kept, in characters.
const LONGEST_SAID: usize = 300;

/// How often a conflict is met with another try.
const CONFLICTS: usize = 3;

/// The word that failures of this status are stored and logged under.
pub(super) fn code(reply: &Reply) -> String {
    format!("hubspot_{}", reply.status.as_u16())
}

/// A property that HubSpot refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadProperty {
    pub(super) name: String,
    pub(super) code: String,
}

/// The properties that a 400 complains of: from `errors`, or from the list that the message ends with.
pub(super) fn bad_properties(reply: &Reply) -> Vec<BadProperty> {
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for error in reply.json["errors"].as_array().into_iter().flatten() {
        for name in error["context"]["propertyName"].as_array().into_iter().flatten() {
            found.push(BadProperty {
                name: name.as_str().unwrap_or_default().to_owned(),
                code: word(error, "code"),
            });
        }
    }
    if found.is_empty() {
        let message = reply.json["message"].as_str().unwrap_or_default();
        let list = message.find('[').and_then(|at| serde_json::from_str::<Value>(&message[at..]).ok());
        for error in list.as_ref().and_then(Value::as_array).into_iter().flatten() {
            found.push(BadProperty { name: word(error, "name"), code: word(error, "error") });
        }
    }
    found.retain(|bad| !bad.name.is_empty());
    found.dedup();
    found
}

/// The contact that a conflict names; it stands in the text alone.
pub(super) fn existing(reply: &Reply) -> Option<String> {
    let message = reply.json["message"].as_str()?;
    let id: String =
        message.split_once("Existing ID:")?.1.trim_start().chars().take_while(char::is_ascii_digit).collect();
    (!id.is_empty()).then_some(id)
}

/// Which limit a 429 speaks of.
pub(super) fn is_daily(reply: &Reply) -> bool {
    reply.status.as_u16() == 429 && reply.json["policyName"].as_str() == Some("DAILY")
}

/// Judges an answer that is no success, and no conflict that can be resolved.
pub(super) fn judge(reply: &Reply, attempt: u32, earlier: &[Attempt]) -> DeliveryError {
    let code = code(reply);
    let said = said(reply);
    let is_page = reply.json.is_null();
    let transient = |wait: Option<Duration>, what: &str| {
        DeliveryError::new(Fault::Transient { retry_after: wait }, code.clone(), format!("{what}{said}"))
    };
    match reply.status.as_u16() {
        // What has no JSON is no word of HubSpot's API, unless it is about the request's size.
        400..=499
            if is_page
                && !matches!(
                    reply.status.as_u16(),
                    401 | 404 | 408 | 409 | 413 | 414 | 423 | 429 | 431 | 477
                ) =>
        {
            transient(reply.retry_after, "Something before HubSpot refused the call; it is tried again.")
        }
        400 => invalid(reply, code, &said),
        401 => DeliveryError::blocked(
            code,
            format!("HubSpot does not accept the token. Make a new one and set HUBSPOT_ACCESS_TOKEN.{said}"),
        ),
        403 => DeliveryError::blocked(
            code,
            format!(
                "The token lacks a permission{}. Give it crm.objects.contacts.write and .read.{said}",
                scopes(&reply.json)
            ),
        ),
        404 => DeliveryError::blocked(
            code,
            format!("HubSpot has nothing at this address: check `base_url` and `api_version`.{said}"),
        ),
        409 => {
            // A replay begins anew.
            let since_replay = earlier.iter().rev().take_while(|it| it.outcome != AttemptOutcome::Rejected);
            let conflicts = since_replay.filter(|attempt| attempt.code == code).count();
            if conflicts >= CONFLICTS {
                let what = "HubSpot says again and again that the contact exists, and cannot be brought to update it.";
                return DeliveryError::rejected(code, format!("{what}{said}"));
            }
            transient(
                Some(Duration::from_secs(5)),
                "HubSpot is changing the same contact; it is tried again.",
            )
        }
        423 => {
            let wait = reply.retry_after.unwrap_or_default().max(Duration::from_secs(2));
            transient(Some(wait), "The contact is locked for a moment; it is tried again.")
        }
        429 => {
            let wait = reply.retry_after.unwrap_or(match reply.json["policyName"].as_str() {
                Some("SECONDLY") => Duration::from_secs(1),
                Some("DAILY") => HOUR,
                _ => BURST * attempt.min(6),
            });
            let what = if is_daily(reply) {
                "The account has used up its calls for today; it goes on when HubSpot counts anew."
            } else {
                "HubSpot asks for a slower pace; it is tried again."
            };
            transient(Some(wait), what).holding_lane(wait)
        }
        477 => {
            let wait = reply.retry_after.unwrap_or(HOUR);
            let what = "HubSpot is moving this account to another data centre; it is tried again.";
            transient(Some(wait), what).holding_lane(wait)
        }
        408 => transient(None, "HubSpot did not read the request in time; it is tried again."),
        500..=599 => {
            let what = "HubSpot failed; it may have taken the lead, and a repeat cannot double it. It is tried again.";
            let look_after = reply.retry_after.unwrap_or_default();
            let error = DeliveryError::new(Fault::Unknown { look_after }, code, format!("{what}{said}"));
            // One that is unavailable and says for how long is so for every lead.
            match reply.retry_after {
                Some(wait) if reply.status.as_u16() == 503 => error.holding_lane(wait),
                _ => error,
            }
        }
        300..=399 => DeliveryError::blocked(
            code,
            format!("HubSpot's address redirects, and redirects are not followed: check `base_url`.{said}"),
        ),
        _ => DeliveryError::rejected(code, format!("HubSpot refuses this lead.{said}")),
    }
}

/// A 400: the lead's own values, or a property that is not there.
fn invalid(reply: &Reply, code: String, said: &str) -> DeliveryError {
    let bad = bad_properties(reply);
    if bad.is_empty() {
        return DeliveryError::rejected(code, format!("HubSpot refuses this lead.{said}"));
    }
    let list: Vec<_> = bad.iter().map(|bad| format!("`{}` ({})", bad.name, bad.code)).collect();
    let list = list.join(", ");
    let what = if bad.iter().any(|bad| bad.code == "INVALID_EMAIL") {
        "It does not take the visitor's address: reach the visitor by other means, and cancel the delivery."
    } else if bad.iter().all(is_unknown) {
        "Create the property in HubSpot, or take it out of `properties` (or set on_unknown_property = \"drop\"); then replay."
    } else {
        "Correct the mapping or the property's options in HubSpot, then replay."
    };
    DeliveryError::rejected(code, format!("HubSpot refuses the property {list}. {what}{said}"))
}

/// Whether the property is not there at all.
pub(super) fn is_unknown(bad: &BadProperty) -> bool {
    bad.code == "PROPERTY_DOESNT_EXIST"
}

/// The scopes that a 403 asks for, as ` (a, b)`.
fn scopes(json: &Value) -> String {
    let scopes = json["errors"][0]["context"]["requiredGranularScopes"].as_array();
    let names: Vec<_> = scopes.into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

/// HubSpot's own words and the id that its support asks for, as a sentence to add.
fn said(reply: &Reply) -> String {
    let mut message = reply.json["message"].as_str().unwrap_or(&reply.said).to_owned();
    // The forms API says what is wrong in the list alone.
    for more in reply.json["errors"].as_array().into_iter().flatten().filter_map(|it| it["message"].as_str())
    {
        if !message.contains(more) {
            message = format!("{message} {more}");
        }
    }
    let plain = message.chars().take(LONGEST_SAID).map(|it| if it.is_control() { ' ' } else { it });
    let message: String = plain.collect();
    match (message.trim(), reply.json["correlationId"].as_str()) {
        ("", None) => String::new(),
        ("", Some(id)) => format!(" Its correlation id is {id}."),
        (message, Some(id)) => format!(" It said: {message} (correlation id {id})"),
        (message, None) => format!(" It said: {message}"),
    }
}
