//! A custom field: its key in Pipedrive, and what of the lead fills it. Pure.

use serde_json::{Number, Value};

use crate::destination::field::Field;
use crate::lead::Lead;

/// What makes a number of a text: forms send texts, and Pipedrive's numeric fields take numbers alone.
const AS_NUMBER: &str = " as number";

/// The longest text that a text field takes, in characters.
const LONGEST: usize = 255;

/// What a custom field is filled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Custom {
    field: Field,
    number: bool,
}

impl Custom {
    /// `source.utm_source`, `form_data.budget as number`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, number) =
            text.strip_suffix(AS_NUMBER).map_or((text, false), |name| (name.trim_end(), true));
        Field::parse(name).map(|field| Self { field, number })
    }

    /// Whether it is the lead's id.
    pub(super) fn is_id(&self) -> bool {
        self.field == Field::Own("id".to_owned())
    }

    /// What it holds for a lead; `None` where there is nothing, or no number where one is due.
    pub(super) fn value(&self, lead: &Lead) -> Option<Value> {
        let text = self.field.of(lead)?;
        if self.number {
            return text.trim().parse().ok().and_then(Number::from_f64).map(Value::Number);
        }
        Some(Value::String(text.chars().take(LONGEST).collect()))
    }
}

/// The key of a custom field: 40 hexadecimal digits.
pub(super) fn is_key(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it has a UUID's form, as the ids of leads' labels have.
pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<_> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|it| it.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_ids_are_told_from_words() {
        assert!(is_key(&"0a".repeat(20)) && !is_key(&"0A".repeat(20)) && !is_key("notes"));
        assert!(is_uuid("f08b42a0-4e75-11ea-9643-03698ef1cfd6") && !is_uuid("red") && !is_uuid("----"));
        assert!(Custom::parse("id").unwrap().is_id() && !Custom::parse("email").unwrap().is_id());
        assert_eq!(Custom::parse("form_data.a as number").unwrap().field, Field::Form("a".to_owned()));
        assert!(Custom::parse("mail").is_err() && Custom::parse("as number").is_err());
    }
}
