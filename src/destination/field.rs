//! A field of a lead by its name, as mappings in the configuration give it, and its value as text.

use serde_json::Value;

use crate::lead::Lead;

/// What to write, for whoever wrote something else.
pub const HINT: &str = "write first_name, last_name, name, email, phone, form_name, timezone, id, submitted_at, received_at, source.NAME or form_data.NAME";

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The first word of the name.
    FirstName,
    /// All of the name but its first word.
    LastName,
    /// A field at the top of a lead's JSON.
    Own(String),
    /// A key of `source`.
    Source(String),
    /// A key of `form_data`.
    Form(String),
}

impl Field {
    /// Reads a field's name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const OWN: [&str; 10] = [
            "id",
            "email",
            "name",
            "phone",
            "form_name",
            "timezone",
            "submitted_at",
            "received_at",
            "consent_given",
            "consent_timestamp",
        ];
        match (text, text.split_once('.')) {
            ("first_name", _) => Ok(Self::FirstName),
            ("last_name", _) => Ok(Self::LastName),
            (_, Some(("source", name))) if !name.is_empty() => Ok(Self::Source(name.to_owned())),
            (_, Some(("form_data", name))) if !name.is_empty() => Ok(Self::Form(name.to_owned())),
            (own, None) if OWN.contains(&own) => Ok(Self::Own(own.to_owned())),
            _ => Err(format!("there is no field `{text}` in a lead")),
        }
    }

    /// Its value as text: lists with `;` between their items, objects as JSON. `None` where it is absent
    /// or empty.
    pub fn of(&self, lead: &Lead) -> Option<String> {
        let submitted = &lead.submitted;
        match self {
            Self::FirstName => Some(split(&submitted.name).0.to_owned()),
            Self::LastName => Some(split(&submitted.name).1.to_owned()),
            Self::Form(name) => submitted.form_data.get(name).map(text),
            Self::Own(name) => serde_json::to_value(lead).ok()?.get(name).map(text),
            Self::Source(name) => serde_json::to_value(&submitted.source).ok()?.get(name).map(text),
        }
        .filter(|value| !value.is_empty())
    }
}

/// A name as first and last: the first word, and the rest.
pub fn split(name: &str) -> (&str, &str) {
    let name = name.trim();
    let (first, last) = name.split_once(char::is_whitespace).unwrap_or((name, ""));
    (first, last.trim())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.trim().to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(";"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_first_word_and_the_rest() {
        assert_eq!(split("Ada"), ("Ada", ""));
        assert_eq!(split(" Ada King  Lovelace "), ("Ada", "King  Lovelace"));
    }

    #[test]
    fn a_field_that_no_lead_has_is_refused() {
        for wrong in ["", "ip_hash", "source", "source.", "form_data", "data.x", "mail"] {
            assert!(Field::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Field::parse("form_data.a.b"), Ok(Field::Form("a.b".to_owned())));
    }

    #[test]
    fn values_become_text() {
        assert_eq!(text(&serde_json::json!(["a", 1, true])), "a;1;true");
        assert_eq!(text(&serde_json::json!({"a": 1})), "{\"a\":1}");
        assert_eq!(text(&Value::Null), "");
    }
}
