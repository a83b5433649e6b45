//! What came in: a [`Submission`] is untrusted, a [`NewLead`] passed validation, a [`Lead`] has an id.
//!
//! Nothing here does I/O, and nothing here knows of destinations. After [`validate`]
//! nobody checks a field again.

pub mod field;
mod numbers;
pub mod submission;
pub mod validate;

use std::fmt;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::id::{FormName, IdempotencyKey, LeadId};
pub use field::{Email, Phone};
pub use submission::Submission;

/// A submission that passed validation. Its serde form is the JSON body of the wire.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct NewLead {
    /// Where answers go.
    pub email: Email,
    /// The person's name: 1–200 characters, trimmed, no controls.
    pub name: String,
    /// The phone number, E.164 where the form's region is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<Phone>,
    /// The page and campaign that the visitor came from.
    pub source: Source,
    /// When the visitor's browser says that it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_at: Option<Timestamp>,
    /// The visitor's IANA time zone.
    pub timezone: String,
    /// The form that it came through.
    pub form_name: FormName,
    /// The form's own fields, in the order in which they came.
    #[serde(default)]
    pub form_data: Map<String, Value>,
    /// Whether the person consented to be contacted and passed on.
    pub consent_given: bool,
    /// When the consent was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent_timestamp: Option<Timestamp>,
}

/// The page and campaign that a visitor came from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The page that the form stands on.
    pub url: String,
    /// The page before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub referrer: Option<String>,
    /// Campaign source, such as `google`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_source: Option<String>,
    /// Campaign medium, such as `cpc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_medium: Option<String>,
    /// Campaign name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_campaign: Option<String>,
    /// Which advertisement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_content: Option<String>,
    /// Which search term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_term: Option<String>,
    /// Further keys, such as click ids.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What the server itself knows of the visitor. Never taken from the body.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Visitor {
    /// A keyed hash of the address, in hexadecimal; the address itself is kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_hash: Option<String>,
    /// The browser's `User-Agent`, cut at 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

/// A submission that passed validation and is, or is about to be, stored. Its serde form is the flat
/// body that a webhook gets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Lead {
    /// The lead's id.
    pub id: LeadId,
    /// When the server took it: the time that counts.
    pub received_at: Timestamp,
    /// What was submitted; `submitted_at` and, with consent, `consent_timestamp` are always set.
    #[serde(flatten)]
    pub submitted: NewLead,
    /// What the server knows of the visitor.
    #[serde(flatten)]
    pub visitor: Visitor,
}

impl Lead {
    /// Gives a validated submission its id and the server's time.
    pub fn new(
        mut submitted: NewLead,
        key: Option<&IdempotencyKey>,
        received_at: Timestamp,
        visitor: Visitor,
    ) -> Self {
        let id = key.map_or_else(LeadId::fresh, |key| LeadId::of_key(&submitted.form_name, key));
        submitted.submitted_at.get_or_insert(received_at);
        if submitted.consent_given {
            submitted.consent_timestamp.get_or_insert(received_at);
        }
        Self { id, received_at, submitted, visitor }
    }
}

impl Lead {
    /// The digest of the submission that the lead came from: without the times that the server set where
    /// the client had given none. Without a key nobody can send the same lead again: it is its id then.
    pub fn digest(&self) -> Digest {
        if !self.id.is_of_key() {
            return self.id.twice();
        }
        let mut submitted = self.submitted.clone();
        submitted.submitted_at = submitted.submitted_at.filter(|at| *at != self.received_at);
        submitted.consent_timestamp = submitted.consent_timestamp.filter(|at| *at != self.received_at);
        submitted.digest()
    }
}

/// SHA-256 over a submission's parsed fields: two bodies are the same when their digests are. Fields
/// that the server sets are not part of it, and the order of an object's keys does not count.
pub type Digest = [u8; 32];

impl NewLead {
    /// The digest that tells a repeat from another submission under the same key.
    pub fn digest(&self) -> Digest {
        let Self {
            email,
            name,
            phone,
            source,
            submitted_at,
            timezone,
            form_name,
            form_data,
            consent_given,
            consent_timestamp,
        } = self;
        let Source { url, referrer, utm_source, utm_medium, utm_campaign, utm_content, utm_term, more } =
            source;
        // All of it first: the hash takes one long piece faster than sixty short ones.
        let mut hashed = Vec::with_capacity(1_024);
        let texts = [
            Some(email.as_str()),
            Some(name),
            phone.as_ref().map(Phone::as_str),
            Some(url),
            referrer.as_deref(),
            utm_source.as_deref(),
            utm_medium.as_deref(),
            utm_campaign.as_deref(),
            utm_content.as_deref(),
            utm_term.as_deref(),
            Some(timezone),
            Some(form_name.as_str()),
        ];
        for text in texts {
            match text {
                Some(text) => part(&mut hashed, b's', text.as_bytes()),
                None => part(&mut hashed, b'0', &[]),
            }
        }
        for time in [submitted_at, consent_timestamp] {
            match time {
                Some(time) => part(&mut hashed, b't', &time.as_nanosecond().to_be_bytes()),
                None => part(&mut hashed, b'0', &[]),
            }
        }
        part(&mut hashed, b'b', &[u8::from(*consent_given)]);
        fold_object(more, &mut hashed);
        fold_object(form_data, &mut hashed);
        let mut sum = [0; 32];
        sum.copy_from_slice(digest(&SHA256, &hashed).as_ref());
        sum
    }
}

/// Adds one part to what is hashed, its kind and length before it.
fn part(hashed: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    hashed.push(kind);
    hashed.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    hashed.extend_from_slice(bytes);
}

/// Adds a value to what is hashed; the order of an object's keys does not count.
fn fold(value: &Value, hashed: &mut Vec<u8>) {
    match value {
        Value::Null => part(hashed, b'0', &[]),
        Value::Bool(it) => part(hashed, b'b', &[u8::from(*it)]),
        Value::Number(it) => part(hashed, b'n', it.to_string().as_bytes()),
        Value::String(it) => part(hashed, b's', it.as_bytes()),
        Value::Array(items) => {
            part(hashed, b'a', &(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| fold(item, hashed));
        }
        Value::Object(fields) => fold_object(fields, hashed),
    }
}

fn fold_object(fields: &Map<String, Value>, hashed: &mut Vec<u8>) {
    part(hashed, b'o', &(fields.len() as u64).to_be_bytes());
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in fields {
        part(hashed, b's', key.as_bytes());
        fold(value, hashed);
    }
}

// A lead is personal data: its `Debug` shows the id alone, so that no log line can hold more.
impl fmt::Debug for Lead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lead({})", self.id)
    }
}

impl fmt::Debug for NewLead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewLead(form {})", self.form_name)
    }
}

impl fmt::Debug for Visitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Visitor(…)")
    }
}
