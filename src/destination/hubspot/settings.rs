//! What HubSpot takes in the configuration.

use std::collections::BTreeMap;

use reqwest::Url;
use serde::Deserialize;

use crate::destination::SettingProblem;
use crate::destination::field::Field;
use crate::net::parse_endpoint;
use crate::secret::Secret;

/// `[destinations.NAME]` of the type `hubspot`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// A service key or the token of a legacy private app, `pat-…`.
    pub access_token: Secret,
    /// What stands before the API's own path.
    pub base_url: String,
    /// Whether plain http is fine beyond the loopback.
    pub allow_http: bool,
    /// The version in the API's paths, such as `2026-09`; each is supported for 18 months.
    pub api_version: String,
    /// Which field of the lead each property gets; an empty text leaves a property alone.
    pub properties: BTreeMap<String, String>,
    /// What new contacts get beside that, and known ones never.
    pub new_contact: BTreeMap<String, String>,
    /// Those of `properties` that a known contact keeps as they are.
    pub keep_existing: Vec<String>,
    /// The value of `hs_legal_basis` that a new contact gets who gave consent.
    #[serde(default)]
    pub legal_basis: Option<String>,
    /// What to do about a property that HubSpot does not know.
    pub on_unknown_property: OnUnknown,
    /// The form that leads are also submitted to: a conversion, and a record of the consent.
    #[serde(default)]
    pub form: Option<FormSettings>,
}

/// What to do about a property that HubSpot does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// The lead is a dead letter that names it.
    Reject,
    /// The lead is sent without it, and the receipt says so.
    Drop,
}

/// `[destinations.NAME.form]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormSettings {
    /// The account's number.
    pub portal_id: String,
    /// The form's id.
    pub form_id: String,
    /// The words that the visitor consented to; without them no consent is recorded.
    #[serde(default)]
    pub consent_text: Option<String>,
    /// What stands before the forms API's own path.
    #[serde(default = "forms_host")]
    pub base_url: String,
}

fn forms_host() -> String {
    "https://api.hsforms.com".to_owned()
}

/// The settings, believed.
pub struct Parsed {
    pub(super) access_token: Secret,
    pub(super) base: Url,
    pub(super) version: String,
    pub(super) properties: BTreeMap<String, Field>,
    pub(super) new_contact: BTreeMap<String, String>,
    pub(super) keep_existing: Vec<String>,
    pub(super) legal_basis: Option<String>,
    pub(super) on_unknown: OnUnknown,
    pub(super) form: Option<Form>,
}

/// A form, believed.
pub(super) struct Form {
    pub(super) base: Url,
    pub(super) portal_id: String,
    pub(super) form_id: String,
    pub(super) consent_text: Option<String>,
}

impl Settings {
    /// Believes the settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(self) -> Result<Parsed, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, message: String, hint: &str| {
            problems.push(SettingProblem::new(key, message, hint));
        };
        if !is_token(self.access_token.expose()) {
            let hint = "paste the token alone: HubSpot, Settings, Integrations, Service Keys (or the legacy private app)";
            wrong("access_token", "this is no HubSpot token".to_owned(), hint);
        }
        let base = parse_endpoint(&self.base_url, self.allow_http).map_err(|message| {
            wrong("base_url", message, "leave it out for https://api.hubapi.com");
        });
        if self.api_version.is_empty()
            || !self.api_version.bytes().all(|it| it.is_ascii_digit() || it == b'-')
        {
            let message = format!("`{}` is no version of HubSpot's API", self.api_version);
            wrong("api_version", message, "write a year and a month, such as \"2026-09\"");
        }
        let mut properties = BTreeMap::new();
        for (name, path) in self.properties.iter().filter(|(_, path)| !path.is_empty()) {
            match Field::parse(path) {
                _ if name == "email" => {
                    let hint = "take it out";
                    wrong("properties", "`email` is always the lead's own".to_owned(), hint);
                }
                Ok(field) => {
                    properties.insert(name.clone(), field);
                }
                Err(message) => {
                    wrong("properties", format!("`{name}`: {message}"), crate::destination::field::HINT);
                }
            }
        }
        for name in self.keep_existing.iter().filter(|name| !properties.contains_key(*name)) {
            let message = format!("`{name}` is none of `properties`");
            wrong("keep_existing", message, "name properties that are mapped, or take it out");
        }
        let form = self.form.map(|form| {
            let base = parse_endpoint(&form.base_url, self.allow_http).map_err(|message| {
                wrong("form", message, "leave `base_url` out for https://api.hsforms.com");
            });
            if form.portal_id.is_empty() || !form.portal_id.bytes().all(|it| it.is_ascii_digit()) {
                let hint = "it stands in HubSpot's addresses and in the form's embed code";
                wrong("form", "`portal_id` is a number".to_owned(), hint);
            }
            if form.form_id.is_empty() {
                wrong("form", "`form_id` is missing".to_owned(), "it stands in the form's embed code");
            }
            base.map(|base| Form {
                base,
                portal_id: form.portal_id,
                form_id: form.form_id,
                consent_text: form.consent_text,
            })
        });
        match (base, form.transpose()) {
            (Ok(base), Ok(form)) if problems.is_empty() => Ok(Parsed {
                access_token: self.access_token,
                base,
                version: self.api_version,
                properties,
                new_contact: self.new_contact,
                keep_existing: self.keep_existing,
                legal_basis: self.legal_basis.filter(|basis| !basis.is_empty()),
                on_unknown: self.on_unknown_property,
                form,
            }),
            _ => Err(problems),
        }
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic())
}
