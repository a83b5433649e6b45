//! What an answer means for the delivery.
//!
//! Source of the rules: Pipedrive's "HTTP status codes" and "Rate limiting" pages; what they leave open is
//! said beside each rule.

use std::time::Duration;

use serde_json::Value;

use super::settings::Parsed;
use crate::delivery::{DeliveryError, Fault};
use crate::destination::api::Reply;

/// How long Pipedrive's gatekeeper is left alone after it has shut us out.
const SHUT_OUT: Duration = Duration::from_secs(15 * 60);

/// How much of Pipedrive's own words is kept, in characters.
const LONGEST_SAID: usize = 200;

/// What a call was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// Nothing is changed there.
    Question,
    /// Something is created; it is not looked for before `settle` is over.
    Creation {
        /// How long until what was created can be seen.
        settle: Duration,
    },
}

impl Asked {
    /// Nobody knows whether it was done; a question just comes again.
    pub(super) fn unsure(
        self,
        code: impl Into<String>,
        detail: impl Into<String>,
        at_least: Duration,
    ) -> DeliveryError {
        let fault = match self {
            Self::Question => Fault::Transient { retry_after: (!at_least.is_zero()).then_some(at_least) },
            Self::Creation { settle } => Fault::Unknown { look_after: settle.max(at_least) },
        };
        DeliveryError::new(fault, code, detail)
    }

    fn what_now(self) -> &'static str {
        match self {
            Self::Question => "It is asked again.",
            Self::Creation { .. } => "What was to be created is looked for, and created if it is not there.",
        }
    }
}

/// What of the settings an answer may speak of: the key, the word that Pipedrive says, and the value.
#[derive(Debug)]
pub(super) struct Named(Vec<(&'static str, &'static str, String)>);

impl Named {
    /// Those that are set.
    pub(super) fn of(parsed: &Parsed) -> Self {
        let id = |id: Option<u64>| id.map(|id| id.to_string());
        let labels = (!parsed.label_ids.is_empty()).then(|| parsed.label_ids.join(", "));
        let all = [
            ("pipeline_id", "pipeline", id(parsed.pipeline_id)),
            ("stage_id", "stage", id(parsed.stage_id)),
            ("owner_id", "owner", id(parsed.owner_id)),
            ("label_ids", "label", labels),
            ("currency", "currency", parsed.currency.clone()),
            ("visible_to", "visible_to", id(parsed.visible_to.map(u64::from))),
        ];
        let set = all.into_iter().filter_map(|(key, word, value)| Some((key, word, value?)));
        let keys = |key, fields: Vec<String>| fields.into_iter().map(move |code| (key, "", code));
        let person = keys("person_fields", parsed.person_fields.keys().cloned().collect());
        let deal = keys("deal_fields", parsed.deal_fields.keys().cloned().collect());
        Self(set.chain(person).chain(deal).collect())
    }

    /// The setting that these words of Pipedrive's speak of.
    fn spoken_of(&self, said: &str) -> Option<(&'static str, &str)> {
        let said = said.to_lowercase();
        let spoken = |key: &str, word: &str, value: &str| match word {
            "" => said.contains(value),
            word => said.contains(word) || said.contains(key),
        };
        let found = self.0.iter().find(|(key, word, value)| spoken(key, word, value));
        found.map(|(key, _, value)| (*key, value.as_str()))
    }
}

/// The status that an answer speaks of: its own, or with a 200 that takes itself back, the one in the body.
pub(super) fn status(reply: &Reply) -> u16 {
    let own = reply.status.as_u16();
    let inner = reply.json["errorCode"].as_u64().and_then(|code| u16::try_from(code).ok());
    match inner {
        Some(inner @ 400..=599) if reply.status.is_success() && reply.json["success"] == false => inner,
        _ => own,
    }
}

/// Whether it asks for fewer calls.
pub(super) fn says_too_many(reply: &Reply) -> bool {
    status(reply) == 429
}

/// Judges a whole answer that is not about the pace.
pub(super) fn judge(reply: Reply, asked: Asked, named: &Named) -> Result<Value, DeliveryError> {
    let number = status(&reply);
    let spoken = reply.json.is_object();
    let said = said(&reply);
    let code = code(&reply, number);
    let quoted = if said.is_empty() { String::new() } else { format!(" It said: {said}") };
    let wait = reply.retry_after.unwrap_or_default();
    let error = match number {
        200..=299 if !spoken => asked.unsure(
            "pipedrive_unreadable",
            format!("Pipedrive answered {number}, but the answer cannot be read. {}", asked.what_now()),
            Duration::ZERO,
        ),
        200..=299 if reply.json["success"] == false => asked.unsure(
            if code == format!("pipedrive_{number}") { "pipedrive_no_success".to_owned() } else { code },
            format!("Pipedrive answered {number} and, in the same breath, that it had no success. {}{quoted}", asked.what_now()),
            Duration::ZERO,
        ),
        200..=299 => return Ok(reply.json),
        300..=399 => DeliveryError::blocked(
            code,
            format!("Pipedrive's address answered {number}: it leads elsewhere, and that is not followed. Check `domain` and `base_url`."),
        ),
        401 => DeliveryError::blocked(
            code,
            format!("Pipedrive does not know the token: check `api_token` (Pipedrive: Personal preferences, API) and `domain`.{quoted}"),
        ),
        402 => DeliveryError::blocked(
            code,
            format!("The company's Pipedrive account is closed or not paid for. Put that right in Pipedrive's billing settings.{quoted}"),
        ),
        403 if !spoken => DeliveryError::new(
            Fault::Transient { retry_after: Some(wait.max(SHUT_OUT)) },
            "pipedrive_shut_out",
            "Pipedrive's gatekeeper (Cloudflare) shuts us out, as it does after too many calls. Everything rests for 15 minutes at least; make other integrations of this Pipedrive call less if it goes on.",
        )
        .holding_lane(wait.max(SHUT_OUT)),
        403 if code.contains("feature_capping") => DeliveryError::blocked(
            code,
            format!("The limit of the company's Pipedrive plan is reached. Delete what is not needed there, or raise the plan; the leads wait.{quoted}"),
        ),
        403 => DeliveryError::blocked(
            code,
            format!("The token's user may not do this in Pipedrive: give the user the permission, or take the token of another.{quoted}"),
        ),
        408 | 500 | 502..=599 => {
            let detail = format!("Pipedrive answered {number}. {}{quoted}", asked.what_now());
            let error = asked.unsure(code, detail, wait);
            // One that is unavailable and says for how long is so for every lead.
            if number == 503 && !wait.is_zero() { error.holding_lane(wait) } else { error }
        }
        _ if !spoken => asked.unsure(
            code,
            format!("Something other than Pipedrive's API answered {number}: check `domain` and `base_url`. {}", asked.what_now()),
            wait,
        ),
        _ => refused(code, number, &said, &quoted, named),
    };
    Err(error)
}

/// Pipedrive does not take it as it is: whose fault is it?
fn refused(code: String, number: u16, said: &str, quoted: &str, named: &Named) -> DeliveryError {
    match named.spoken_of(said) {
        // Every lead would be refused for it, so they wait until it is put right. Should others go in all the same,
        // then it is this lead (see dispatch/attempt.rs).
        Some((key, value)) if !key.ends_with("_fields") => DeliveryError::blocked(
            code,
            format!(
                "Pipedrive refuses `{key}` = {value}, which is configured: run `lead-intake check --online`, and put it right.{quoted}"
            ),
        ),
        // An unknown key, or a value that the field does not take.
        Some((key, value)) => DeliveryError::rejected(
            code,
            format!(
                "Pipedrive refuses the field {value}, which `{key}` fills: run `lead-intake check --online` to see whether it is there, check its type, then replay.{quoted}"
            ),
        ),
        None => DeliveryError::rejected(code, format!("Pipedrive refused this lead with {number}.{quoted}")),
    }
}

/// The code of an answer: Pipedrive's own word where it has one.
fn code(reply: &Reply, number: u16) -> String {
    let word = reply.json["code"].as_str().unwrap_or_default();
    let plain = word
        .chars()
        .take(60)
        .map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '_' });
    match plain.collect::<String>() {
        word if word.trim_matches('_').is_empty() => format!("pipedrive_{number}"),
        word => format!("pipedrive_{word}"),
    }
}

/// Pipedrive's own words, in one line.
fn said(reply: &Reply) -> String {
    let text = reply.json["error"].as_str().unwrap_or_default();
    let plain: String =
        text.chars().take(LONGEST_SAID).map(|it| if it.is_control() { ' ' } else { it }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}
