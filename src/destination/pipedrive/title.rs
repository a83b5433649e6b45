//! The title of a lead or deal: a text with the lead's fields in braces. Pure.

use serde_json::Value;

use super::field::Field;

/// The longest title, in characters: that of Pipedrive's text fields.
const LONGEST: usize = 255;

/// A title that is filled in for each lead.
#[derive(Clone, Debug)]
pub(super) struct Title(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Field(Field),
}

impl Title {
    /// `{name} ({form_name})`
    ///
    /// # Errors
    /// What is wrong and what to do.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let unpaired = || {
            let hint = "write fields as {name}, such as \"{name} ({form_name})\"";
            ("a brace in it has no partner".to_owned(), hint.to_owned())
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or_else(unpaired)?;
            parts.extend([Part::Text(before.to_owned()), Part::Field(Field::parse(name)?)]);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(['{', '}']))) {
            return Err(unpaired());
        }
        if text.trim().is_empty() {
            return Err(("a title cannot be empty".to_owned(), "write \"{name} ({form_name})\"".to_owned()));
        }
        Ok(Self(parts))
    }

    /// The title of this lead (its JSON): one line, never empty, the same on every attempt.
    pub(super) fn fill(&self, lead: &Value) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => field.text(lead),
        });
        let whole = line(&parts.collect::<String>());
        if whole.is_empty() { line(&super::field::text(&lead["email"])) } else { whole }
    }
}

fn line(text: &str) -> String {
    let plain: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect();
    let joined = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if joined.chars().count() <= LONGEST {
        return joined;
    }
    joined.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_filled_in_and_what_is_no_field_is_told() {
        let lead = json!({"name": "Ada\nLovelace", "email": "a@b.c", "form_data": {"n": 3}});
        let fill = |text: &str| Title::parse(text).unwrap().fill(&lead);
        assert_eq!(fill("New: {name}, {form_data.n} {phone}"), "New: Ada Lovelace, 3");
        assert_eq!(fill("{phone}"), "a@b.c", "a title is never empty");
        assert_eq!(fill(&"x".repeat(300)).chars().count(), 255);
        for wrong in ["", " ", "{name", "name}", "{nam}", "{}", "{{name}}"] {
            assert!(Title::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Title::parse("{nam}").unwrap_err().0.contains("no field `nam`"));
    }
}
