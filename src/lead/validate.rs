//! From a submission to a lead: all field errors at once.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use rlibphonenumber::Region;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use validator::ValidateUrl;

use super::field::{Email, Phone, is_direction, is_joiner, is_visible};
use super::submission::Submission;
use super::{NewLead, Source};
use crate::clock::Timestamp;
use crate::id::FormName;
use crate::units::SettingProblem;

/// What a form asks of its submissions: `[forms.NAME]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormRules {
    /// The region that phone numbers without a country code are of (ISO 3166, such as `GB`).
    #[serde(default)]
    pub region: Option<String>,
    /// The page that a plain form post is sent on to.
    #[serde(default)]
    pub thank_you: Option<String>,
}

impl FormRules {
    /// Rules that fit their types and yet cannot be used.
    pub fn problems(&self) -> Vec<SettingProblem> {
        let mut problems = Vec::new();
        if self.region.as_deref().is_some_and(|region| region.parse::<Region>().is_err()) {
            let hint = "write the two letters of ISO 3166 in capitals, such as \"GB\"";
            problems.push(SettingProblem::new("region", "this is no region of phone numbers", hint));
        }
        let fits = |page: &str| page.starts_with('/') || is_of_the_web(page);
        if self.thank_you.as_deref().is_some_and(|page| !fits(page)) {
            let hint = "write a full address, such as \"https://example.com/thank-you\"";
            problems.push(SettingProblem::new("thank_you", "this is no address of a page", hint));
        }
        problems
    }
}

/// Everything that is wrong with a submission, as the client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldErrors {
    /// What is wrong with the whole.
    pub form_errors: Vec<String>,
    /// What is wrong with each field, by its path.
    pub field_errors: BTreeMap<String, Vec<String>>,
}

impl FieldErrors {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.field_errors.entry(path.into()).or_default().push(message.into());
    }

    fn is_empty(&self) -> bool {
        self.form_errors.is_empty() && self.field_errors.is_empty()
    }
}

/// Believes a submission, or says everything that is wrong with it. `rules` gives a form's rules, and
/// the default form's for one that is not configured.
///
/// # Errors
/// Every field that is wrong, each with a sentence for the visitor.
pub fn validate<'r>(
    submission: &Submission,
    rules: impl FnOnce(&FormName) -> &'r FormRules,
) -> Result<NewLead, FieldErrors> {
    let mut fields = Fields { fields: &submission.0, prefix: "", errors: FieldErrors::default() };
    let form_name = fields.required("form_name").and_then(|typed| fields.check("form_name", typed.parse()));
    let region = form_name.as_ref().and_then(|form| rules(form).region.as_deref());
    let email = fields.required("email").and_then(|typed| fields.check("email", Email::parse(typed)));
    let name = fields.required("name").and_then(|typed| fields.check("name", person(typed)));
    let phone = fields.text("phone").filter(|typed| !typed.trim().is_empty());
    let phone = phone.and_then(|typed| fields.check("phone", Phone::parse(typed, region)));
    let zone_name = fields.text("timezone").filter(|zone| !zone.is_empty()).unwrap_or("UTC");
    let zone = fields.check(
        "timezone",
        TimeZone::get(zone_name).map_err(|_| "Use an IANA time zone, such as Europe/London."),
    );
    let zone = zone.unwrap_or(TimeZone::UTC);
    let submitted_at = fields.time("submitted_at", &zone);
    let consent_timestamp = fields.time("consent_timestamp", &zone);
    let consent_given = match submission.0.get("consent_given") {
        Some(Value::Bool(given)) => *given,
        Some(_) => fields.wrong("consent_given", "Use true or false."),
        None => fields.wrong("consent_given", "This field is required."),
    };
    let form_data = match submission.0.get("form_data") {
        Some(Value::Object(data)) => data.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(_) => {
            fields.errors.add("form_data", "Use an object.");
            Map::new()
        }
    };
    let source = match submission.0.get("source") {
        Some(Value::Object(source)) => validated_source(source, &mut fields.errors),
        Some(_) => {
            fields.errors.add("source", "Use an object with at least `url`.");
            None
        }
        None => {
            fields.errors.add("source.url", "This field is required.");
            None
        }
    };
    let errors = fields.errors;
    match (email, name, source, form_name) {
        (Some(email), Some(name), Some(source), Some(form_name)) if errors.is_empty() => Ok(NewLead {
            email,
            name,
            phone,
            source,
            submitted_at,
            timezone: zone_name.to_owned(),
            form_name,
            form_data,
            consent_given,
            consent_timestamp,
        }),
        _ => Err(errors),
    }
}

/// Whether a text is a full address of a page.
fn is_of_the_web(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https")) && text.validate_url()
}

fn validated_source(fields: &Map<String, Value>, errors: &mut FieldErrors) -> Option<Source> {
    let mut source = Fields { fields, prefix: "source.", errors: FieldErrors::default() };
    let url = source.required("url").and_then(|typed| {
        let fits = is_of_the_web(typed);
        source.check(
            "url",
            fits.then(|| typed.to_owned()).ok_or("Use a full address, such as https://example.com/."),
        )
    });
    // As long as the body may be: campaigns write long addresses, and no visitor can mend one.
    let mut optional = |name| source.text(name).map(str::to_owned);
    let known = Source {
        url: url.unwrap_or_default(),
        referrer: optional("referrer"),
        utm_source: optional("utm_source"),
        utm_medium: optional("utm_medium"),
        utm_campaign: optional("utm_campaign"),
        utm_content: optional("utm_content"),
        utm_term: optional("utm_term"),
        more: Map::new(),
    };
    let is_known = |name: &str| {
        matches!(name, "url" | "referrer")
            || ["source", "medium", "campaign", "content", "term"]
                .iter()
                .any(|part| name.strip_prefix("utm_") == Some(part))
    };
    let more =
        fields.iter().filter(|(name, _)| !is_known(name)).map(|(name, value)| (name.clone(), value.clone()));
    let source_is_fine = source.errors.is_empty();
    errors.field_errors.extend(source.errors.field_errors);
    source_is_fine.then(|| Source { more: more.collect(), ..known })
}

/// A name. What nobody sees, and address books and editors leave between its letters, is taken out.
fn person(typed: &str) -> Result<String, &'static str> {
    let seen = typed.chars().filter(|it| !is_direction(*it) && !matches!(it, '\u{200b}' | '\u{feff}'));
    let seen: String = seen.map(|it| if it.is_whitespace() { ' ' } else { it }).collect();
    let name = seen.trim();
    let fits = (1..=200).contains(&name.chars().count())
        && name.chars().all(|it| is_visible(it) || is_joiner(it))
        && !name.chars().all(is_joiner);
    fits.then(|| name.to_owned()).ok_or("Enter a name of 1 to 200 characters.")
}

/// The fields of one object, with what is wrong with them so far.
struct Fields<'a> {
    fields: &'a Map<String, Value>,
    prefix: &'static str,
    errors: FieldErrors,
}

impl<'a> Fields<'a> {
    fn wrong(&mut self, name: &str, message: impl Into<String>) -> bool {
        self.errors.add(format!("{}{name}", self.prefix), message);
        false
    }

    fn check<T, E: ToString>(&mut self, name: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|message| self.wrong(name, message.to_string())).ok()
    }

    fn text(&mut self, name: &str) -> Option<&'a str> {
        match self.fields.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.wrong(name, "Use text.");
                None
            }
        }
    }

    fn required(&mut self, name: &str) -> Option<&'a str> {
        match self.fields.get(name) {
            None | Some(Value::Null) => {
                self.wrong(name, "This field is required.");
                None
            }
            Some(_) => self.text(name),
        }
    }

    /// ISO 8601; a time without an offset is the visitor's own.
    fn time(&mut self, name: &str, zone: &TimeZone) -> Option<Timestamp> {
        let text = self.text(name)?.trim();
        let parsed = text
            .parse::<Timestamp>()
            .or_else(|_| text.parse::<DateTime>().and_then(|local| zone.to_timestamp(local)));
        self.check(name, parsed.map_err(|_| "Use an ISO 8601 time, such as 2026-11-24T09:30:00Z."))
    }
}
