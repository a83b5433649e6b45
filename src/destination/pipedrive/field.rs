//! A field of the lead, named by its path: what titles and custom fields are filled from. Pure.

use serde_json::Value;

/// The fields that every lead has or may have.
const OWN: [&str; 10] = [
    "id",
    "received_at",
    "submitted_at",
    "name",
    "email",
    "phone",
    "form_name",
    "timezone",
    "consent_given",
    "consent_timestamp",
];

/// The fields that hold further ones.
const WITHIN: [&str; 2] = ["source", "form_data"];

/// What makes a number of a text: forms send texts, and Pipedrive's numeric fields take numbers alone.
const AS_NUMBER: &str = " as number";

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    path: String,
    number: bool,
}

impl Field {
    /// `email`, `source.utm_source`, `form_data.budget as number`.
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let text = text.trim();
        let (path, number) = match text.strip_suffix(AS_NUMBER) {
            Some(path) => (path.trim_end(), true),
            None => (text, false),
        };
        let within =
            path.split_once('.').is_some_and(|(first, rest)| WITHIN.contains(&first) && !rest.is_empty());
        if within || OWN.contains(&path) {
            return Ok(Self { path: path.to_owned(), number });
        }
        let hint = format!("a lead has {}, source.NAME and form_data.NAME", OWN.join(", "));
        Err((format!("a lead has no field `{path}`"), hint))
    }

    /// Whether it is the lead's id.
    pub(super) fn is_id(&self) -> bool {
        self.path == "id"
    }

    /// What it holds in a lead (its JSON), as one value; `None` where there is nothing to say.
    pub(super) fn value(&self, lead: &Value) -> Option<Value> {
        let found = at(lead, &self.path)?;
        if self.number {
            let number = match found {
                Value::Number(number) => number.as_f64()?,
                other => text(other).trim().parse().ok().filter(|it: &f64| it.is_finite())?,
            };
            return serde_json::Number::from_f64(number).map(Value::Number);
        }
        match found {
            Value::Number(number) => Some(Value::Number(number.clone())),
            other => Some(text(other)).filter(|text| !text.trim().is_empty()).map(Value::String),
        }
    }

    /// The same as text; empty where there is nothing.
    pub(super) fn text(&self, lead: &Value) -> String {
        at(lead, &self.path).map(text).unwrap_or_default()
    }
}

/// A name with a dot in it wins over a path.
fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    at(value.get(first)?, rest)
}

/// A value as a person would write it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(yes) => if *yes { "Yes" } else { "No" }.to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// The key of a custom field: 40 hexadecimal digits.
pub(super) fn is_custom_key(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it has a UUID's form.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|it| it.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_finds_what_the_lead_holds() {
        let lead = json!({"email": "a@b.c", "consent_given": true, "source": {"url": "u"},
            "form_data": {"a.b": 1, "c": {"d": ["x", 2]}, "size": " 12.5 ", "none": "", "word": "much"}});
        let value = |path: &str| Field::parse(path).unwrap().value(&lead);
        assert_eq!(value("email"), Some(json!("a@b.c")));
        assert_eq!(value("form_data.a.b"), Some(json!(1)));
        assert_eq!(value("form_data.c.d"), Some(json!("x, 2")));
        assert_eq!(value("form_data.size as number"), Some(json!(12.5)));
        assert_eq!(value("consent_given"), Some(json!("Yes")));
        for nothing in ["form_data.none", "form_data.absent", "phone", "form_data.word as number"] {
            assert_eq!(value(nothing), None, "{nothing}");
        }
        for wrong in ["", "mail", "form_data", "form_data.", "source", "emails.x"] {
            assert!(Field::parse(wrong).is_err(), "{wrong}");
        }
    }
}
