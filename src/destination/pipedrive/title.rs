//! The title of a lead or deal: a text with the lead's fields in braces. Pure.

use crate::destination::field::{Field, HINT};
use crate::lead::Lead;

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
            let field = Field::parse(name).map_err(|message| (message, HINT.to_owned()))?;
            parts.extend([Part::Text(before.to_owned()), Part::Field(field)]);
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

    /// The title of this lead: one line, never empty, the same on every attempt.
    pub(super) fn fill(&self, lead: &Lead) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => field.of(lead).unwrap_or_default(),
        });
        let whole = line(&parts.collect::<String>());
        if whole.is_empty() { line(lead.submitted.email.as_str()) } else { whole }
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

    #[test]
    fn what_is_no_field_is_told() {
        for fine in ["{name} ({form_name})", "New lead", "{form_data.a.b}: {source.utm_source}"] {
            assert!(Title::parse(fine).is_ok(), "{fine}");
        }
        for wrong in ["", " ", "{name", "name}", "{nam}", "{}", "{{name}}", "}{"] {
            assert!(Title::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Title::parse("{nam}").unwrap_err().0.contains("no field `nam`"));
    }

    #[test]
    fn a_title_is_one_line_of_a_length_that_fits() {
        assert_eq!(line(" Ada\n\tLovelace "), "Ada Lovelace");
        assert_eq!(line(&"x".repeat(300)).chars().count(), LONGEST);
    }
}
