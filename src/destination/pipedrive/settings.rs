//! What Pipedrive takes in the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use super::custom::{Custom, is_key, is_uuid};
use super::title::Title;
use crate::destination::SettingProblem;
use crate::destination::field::HINT;
use crate::net::parse_endpoint;
use crate::secret::Secret;
use crate::units;

/// Where every company's own address ends.
const VENDOR: &str = ".pipedrive.com";

/// A lease holds it, and no lease may come near the time after which one is a clock's lie.
const LONGEST_SETTLE: Duration = Duration::from_secs(60 * 60);

/// `[destinations.NAME]` of the type `pipedrive`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The token of the user that lead-intake acts as.
    pub api_token: Secret,
    /// The company's name in its address, or the whole address.
    #[serde(default)]
    pub domain: Option<String>,
    /// What stands before the API's own path, instead of the company's address.
    #[serde(default)]
    pub base_url: Option<String>,
    /// Whether plain http is fine beyond the loopback.
    pub allow_http: bool,
    /// What is made beside the person.
    pub create: Create,
    /// The title of the lead or deal, with `{field}`s.
    pub title: String,
    /// What the lead or deal is worth.
    #[serde(default)]
    pub value: Option<f64>,
    /// In which currency.
    #[serde(default)]
    pub currency: Option<String>,
    /// The deal's pipeline.
    #[serde(default)]
    pub pipeline_id: Option<u64>,
    /// The deal's stage.
    #[serde(default)]
    pub stage_id: Option<u64>,
    /// The user who gets the person, lead and deal.
    #[serde(default)]
    pub owner_id: Option<u64>,
    /// The labels of the lead.
    pub label_ids: Vec<String>,
    /// Who may see them: a visibility group of Pipedrive's.
    #[serde(default)]
    pub visible_to: Option<u8>,
    /// Whether a note with what the form said is added.
    pub note: bool,
    /// Custom fields of a new person: the field's key, and the lead's field.
    pub person_fields: BTreeMap<String, String>,
    /// Custom fields of a new lead or deal.
    pub deal_fields: BTreeMap<String, String>,
    /// How long something that may have been created is given to become visible.
    #[serde(with = "units::duration")]
    pub settle: Duration,
}

/// What is made beside the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Create {
    /// Nothing.
    Person,
    /// A deal.
    Deal,
    /// A lead in the leads inbox.
    Lead,
}

/// The settings, believed.
pub struct Parsed {
    pub(super) token: Secret,
    /// The company's name in Pipedrive, where it is configured.
    pub(super) company: Option<String>,
    pub(super) base_url: Url,
    pub(super) create: Create,
    pub(super) title: Title,
    pub(super) value: Option<f64>,
    pub(super) currency: Option<String>,
    pub(super) pipeline_id: Option<u64>,
    pub(super) stage_id: Option<u64>,
    pub(super) owner_id: Option<u64>,
    pub(super) label_ids: Vec<String>,
    pub(super) visible_to: Option<u8>,
    pub(super) note: bool,
    pub(super) person_fields: BTreeMap<String, Custom>,
    pub(super) deal_fields: BTreeMap<String, Custom>,
    pub(super) settle: Duration,
}

impl Settings {
    /// Believes the settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(self) -> Result<Parsed, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        self.what_fits_nothing(&mut problems);
        let mut wrong = |key: &str, message: String, hint: &str| {
            problems.push(SettingProblem::new(key, message, hint));
        };
        if self.settle > LONGEST_SETTLE {
            wrong(
                "settle",
                "an hour is the most that is waited for what may be there".to_owned(),
                "write \"70s\"",
            );
        }
        let token = self.api_token.expose();
        if token.is_empty() || !token.bytes().all(|it| it.is_ascii_graphic()) {
            let hint = "take it from Pipedrive: Personal preferences, API";
            wrong("api_token", "this is no API token".to_owned(), hint);
        }
        let base_url = self.base_url().map_err(|(key, message, hint)| wrong(key, message, hint));
        let title = Title::parse(&self.title).map_err(|(message, hint)| wrong("title", message, &hint));
        let mut fields = |key: &str, fields: &BTreeMap<String, String>| {
            let mut parsed = BTreeMap::new();
            for (code, path) in fields {
                let at = format!("{key}.{code}");
                if !is_key(code) {
                    let hint = "take the field's key from Pipedrive: Company settings, Data fields";
                    wrong(
                        &at,
                        "a custom field's key is 40 hexadecimal digits in lower case".to_owned(),
                        hint,
                    );
                }
                match Custom::parse(path) {
                    Ok(custom) => _ = parsed.insert(code.clone(), custom),
                    Err(message) => wrong(&at, message, HINT),
                }
            }
            parsed
        };
        let person_fields = fields("person_fields", &self.person_fields);
        let deal_fields = fields("deal_fields", &self.deal_fields);
        match (base_url, title) {
            (Ok(base_url), Ok(title)) if problems.is_empty() => Ok(Parsed {
                company: self.domain.as_deref().and_then(|domain| company(domain).ok()),
                token: self.api_token,
                base_url,
                create: self.create,
                title,
                value: self.value,
                currency: self.currency,
                pipeline_id: self.pipeline_id,
                stage_id: self.stage_id,
                owner_id: self.owner_id,
                label_ids: self.label_ids,
                visible_to: self.visible_to,
                note: self.note,
                person_fields,
                deal_fields,
                settle: self.settle,
            }),
            _ => Err(problems),
        }
    }

    /// The company's address.
    fn base_url(&self) -> Result<Url, (&'static str, String, &'static str)> {
        let missing = || {
            let hint = "write \"example\" for example.pipedrive.com, or set PIPEDRIVE_DOMAIN";
            ("domain", "the company's name in Pipedrive is missing".to_owned(), hint)
        };
        let company = self.domain.as_deref().map(company).transpose()?;
        let text = match (&self.base_url, company) {
            (Some(base_url), _) => base_url.clone(),
            (None, Some(company)) => format!("https://{company}{VENDOR}"),
            (None, None) => return Err(missing()),
        };
        let hint = "leave it out to call the company's own address";
        parse_endpoint(&text, self.allow_http).map_err(|message| ("base_url", message, hint))
    }

    /// What no call would take, or what would be set for nothing.
    fn what_fits_nothing(&self, problems: &mut Vec<SettingProblem>) {
        let mut wrong = |key: &str, message: &str, hint: &str| {
            problems.push(SettingProblem::new(key, message, hint));
        };
        let (deal, lead) = (self.create == Create::Deal, self.create == Create::Lead);
        for (key, set) in [("pipeline_id", self.pipeline_id.is_some()), ("stage_id", self.stage_id.is_some())]
        {
            if set && !deal {
                wrong(
                    key,
                    "only a deal has a pipeline and a stage",
                    "write create = \"deal\", or take it out",
                );
            }
        }
        for (key, set) in [
            ("value", self.value.is_some()),
            ("currency", self.currency.is_some()),
            ("deal_fields", !self.deal_fields.is_empty()),
        ] {
            if set && !deal && !lead {
                let hint = "write create = \"lead\" or \"deal\", or take it out";
                wrong(key, "only a lead or a deal has this", hint);
            }
        }
        if !self.label_ids.is_empty() && !lead {
            wrong("label_ids", "these are labels of leads", "write create = \"lead\", or take it out");
        }
        if self.label_ids.iter().any(|id| !is_uuid(id)) {
            let hint = "a lead's label looks like f08b42a0-4e75-11ea-9643-03698ef1cfd6";
            wrong("label_ids", "this is no lead label's id", hint);
        }
        if self.value.is_some_and(|value| !value.is_finite() || value < 0.0) {
            wrong("value", "a value is a number from 0", "write 1500");
        }
        if self
            .currency
            .as_ref()
            .is_some_and(|it| it.len() != 3 || !it.bytes().all(|it| it.is_ascii_uppercase()))
        {
            wrong("currency", "a currency is three capital letters", "write \"EUR\"");
        }
        // The vendor takes a lead's value with both parts alone; a deal's value without a currency is the company's.
        match (self.value, &self.currency) {
            (Some(_), None) if lead => wrong("currency", "a lead's value needs a currency", "write \"EUR\""),
            (None, Some(_)) if lead || deal => wrong(
                "value",
                "a currency without a value says nothing",
                "write 1500, or take `currency` out",
            ),
            _ => {}
        }
        if self.visible_to.is_some_and(|it| ![1, 3, 5, 7].contains(&it)) {
            wrong(
                "visible_to",
                "there is no such visibility",
                "write 1, 3, 5 or 7: the owner alone, up to the whole company",
            );
        }
    }
}

/// `example`, out of itself or of its address.
fn company(text: &str) -> Result<String, (&'static str, String, &'static str)> {
    let lower = text.trim().to_ascii_lowercase();
    let host = lower.strip_prefix("https://").unwrap_or(&lower).trim_end_matches('/');
    let name = host.strip_suffix(VENDOR).unwrap_or(host);
    let fits = |it: char| it.is_ascii_alphanumeric() || it == '-';
    if !name.is_empty() && name.len() <= 63 && name.chars().all(fits) {
        return Ok(name.to_owned());
    }
    let hint = "write what stands before .pipedrive.com in the address of your Pipedrive";
    Err(("domain", "this is no company's name in Pipedrive".to_owned(), hint))
}
