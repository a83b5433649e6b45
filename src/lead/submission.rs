//! What a client sent; untrusted. A JSON body and a form body become the same thing here.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::numbers::with_long_ones_as_text;

/// The deepest that objects and arrays may nest.
pub const DEEPEST: usize = 16;

/// The fields of a lead that stand at the top of the body.
const FIELDS: [&str; 9] = [
    "email",
    "name",
    "phone",
    "submitted_at",
    "timezone",
    "form_name",
    "consent_given",
    "consent_timestamp",
    "submission_id",
];

/// The fields of a form body that belong to the source.
const SOURCE_FIELDS: [&str; 7] =
    ["url", "referrer", "utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term"];

/// What the server sets itself; a client's word for it is dropped.
const OURS: [&str; 2] = ["ip_address", "user_agent"];

/// What a client sent, as one JSON object, not yet believed.
#[derive(Clone, PartialEq)]
pub struct Submission(pub(super) Map<String, Value>);

/// Why a body is no submission at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is not JSON, or no object.
    #[error("The body must be one JSON object: {0}.")]
    NotAnObject(String),
    /// It nests too deep.
    #[error("The body nests deeper than {DEEPEST} levels.")]
    TooDeep,
}

impl Submission {
    /// From a JSON body. Unknown fields at the top go into `form_data`, beside what that has under their names, so that
    /// nothing is lost.
    ///
    /// # Errors
    /// The body is no JSON object, or nests too deep.
    pub fn from_json(body: &[u8]) -> Result<Self, Malformed> {
        let parse = |body: &[u8]| -> Result<Map<String, Value>, Malformed> {
            serde_json::from_slice(body).map_err(|error| Malformed::NotAnObject(error.to_string()))
        };
        let mut fields = parse(body)?;
        if let Cow::Owned(body) = with_long_ones_as_text(body) {
            fields = parse(&body)?;
        }
        if fields.values().any(|value| depth(value) >= DEEPEST) {
            return Err(Malformed::TooDeep);
        }
        let mut known = Map::new();
        let mut others = Map::new();
        for (name, value) in fields {
            if OURS.contains(&name.as_str()) {
                continue;
            }
            let is_known = FIELDS.contains(&name.as_str()) || name == "source" || name == "form_data";
            if is_known { &mut known } else { &mut others }.insert(name, value);
        }
        if !others.is_empty() {
            let data = known.entry("form_data").or_insert(Value::Null);
            if data.is_null() {
                *data = Value::Object(Map::new());
            }
            // Anything else is refused whole.
            if let Value::Object(data) = data {
                for (name, value) in others {
                    if data.get(&name) != Some(&value) {
                        add(data, name, value);
                    }
                }
            }
        }
        Ok(Self(known))
    }

    /// From the pairs of a urlencoded or multipart body. `utm_*`, `url` and `referrer` fall into the
    /// source, known names into their fields, every other into `form_data`; a name that comes twice
    /// is a list; a consent box that is absent was not ticked; of what may be absent, empty is absent.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let (mut fields, mut source, mut data) = (Map::new(), Map::new(), Map::new());
        for (name, value) in pairs {
            let value = match name.as_str() {
                "consent_given" => Value::Bool(is_ticked(&value)),
                "phone" | "submitted_at" | "timezone" | "consent_timestamp" | "submission_id" | "url"
                    if value.trim().is_empty() =>
                {
                    continue;
                }
                _ => Value::String(value),
            };
            match name.as_str() {
                name if OURS.contains(&name) => {}
                name if FIELDS.contains(&name) => put(&mut fields, name, value),
                name if SOURCE_FIELDS.contains(&name) || name.starts_with("utm_") => {
                    put(&mut source, name, value);
                }
                _ => add(&mut data, name, value),
            }
        }
        fields.entry("consent_given").or_insert(Value::Bool(false));
        fields.insert("source".to_owned(), Value::Object(source));
        fields.insert("form_data".to_owned(), Value::Object(data));
        Self(fields)
    }

    /// Gives a plain form post the page it came from: the `Referer`, where the body named no `url`.
    pub fn set_page(&mut self, referer: &str) {
        if let Some(Value::Object(source)) = self.0.get_mut("source") {
            source.entry("url").or_insert_with(|| Value::String(referer.to_owned()));
        }
    }

    /// The key that the body itself brings, not yet checked.
    pub fn submission_id(&self) -> Option<&Value> {
        self.0.get("submission_id")
    }
}

/// The last one that says something: a box is ticked though a hidden field beside it says no for those who leave it, and
/// a second field that is empty takes nothing from the first.
fn put(fields: &mut Map<String, Value>, name: &str, value: Value) {
    let says_nothing = match &value {
        Value::Bool(ticked) => !ticked,
        Value::String(text) => text.trim().is_empty(),
        _ => false,
    };
    if !says_nothing || !fields.contains_key(name) {
        fields.insert(name.to_owned(), value);
    }
}

fn is_ticked(value: &str) -> bool {
    ["on", "true", "yes", "1"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}

fn add(data: &mut Map<String, Value>, name: String, value: Value) {
    match data.get_mut(&name) {
        None => {
            data.insert(name, value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

// A submission is personal data.
impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Submission(…)")
    }
}
