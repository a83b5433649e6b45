//! What the sheet takes in the configuration.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use yup_oauth2::ServiceAccountKey;

use crate::destination::SettingProblem;
use crate::net::parse_endpoint;
use crate::secret::Secret;
use crate::units;

/// `[destinations.NAME]` of the type `google_sheets`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// The spreadsheet's id: what stands in its address between `/d/` and `/edit`.
    pub spreadsheet_id: String,
    /// The path of the service account's key file.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// The key itself.
    #[serde(default)]
    pub credentials_json: Option<Secret>,
    /// What stands before the API's own path.
    pub base_url: String,
    /// Whether plain http is fine beyond the loopback.
    pub allow_http: bool,
    /// The tab that leads go to.
    pub tab: String,
    /// The tab of deliveries that fail.
    pub failed_tab: String,
    /// How many columns may be added for form fields.
    pub max_columns: usize,
    /// How many writes may be made in any minute.
    pub writes_per_minute: u32,
    /// How many reads may be made in any minute.
    pub reads_per_minute: u32,
    /// How long Google may still apply a write whose answer was lost.
    #[serde(with = "units::duration")]
    pub look_after: Duration,
    /// How often the column `action` of the tab of failing deliveries is read.
    #[serde(with = "units::duration")]
    pub listen_every: Duration,
    /// How long an attempt may take: no call is given longer, for nobody would wait for it.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How large one append may be, in bytes.
    #[serde(with = "units::size")]
    pub append_size: usize,
}

/// A lease holds it, and no lease may come near the time after which one is a clock's lie.
const LONGEST_LOOK_AFTER: Duration = Duration::from_secs(60 * 60);

/// The settings, believed.
pub struct Parsed {
    pub(super) spreadsheet_id: String,
    pub(super) key: ServiceAccountKey,
    pub(super) base_url: String,
    pub(super) tab: String,
    pub(super) failed_tab: String,
    pub(super) max_columns: usize,
    pub(super) writes_per_minute: u32,
    pub(super) reads_per_minute: u32,
    pub(super) look_after: Duration,
    pub(super) listen_every: Duration,
    pub(super) timeout: Duration,
    pub(super) append_size: usize,
}

impl Settings {
    /// Believes the settings; reads the key file.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(self) -> Result<Parsed, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let mut wrong =
            |key: &str, message: String, hint: &str| problems.push(SettingProblem::new(key, message, hint));
        let plain = |it: char| it.is_ascii_alphanumeric() || "-_".contains(it);
        if self.spreadsheet_id.is_empty() || !self.spreadsheet_id.chars().all(plain) {
            let hint = "take what stands between /d/ and /edit in the sheet's address";
            wrong("spreadsheet_id", "this is no spreadsheet's id".to_owned(), hint);
        }
        for (key, name, hint) in [
            ("tab", &self.tab, "write \"Leads\""),
            ("failed_tab", &self.failed_tab, "write \"Failed Integrations\""),
        ] {
            if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
                wrong(key, "a tab's name is 1 to 100 characters".to_owned(), hint);
            }
        }
        if self.tab == self.failed_tab {
            let hint = "give the tab of failing deliveries a name of its own";
            wrong("failed_tab", "this is the tab that leads go to".to_owned(), hint);
        }
        for (key, value) in
            [("writes_per_minute", self.writes_per_minute), ("reads_per_minute", self.reads_per_minute)]
        {
            if value < 6 {
                wrong(key, "fewer than 6 a minute is too slow to work with".to_owned(), "Google allows 60");
            }
        }
        if self.look_after > LONGEST_LOOK_AFTER {
            let hint = "leave it out: Google ends a write after 180 s";
            wrong("look_after", "an hour is the most that is waited for what may be there".to_owned(), hint);
        }
        if !(10_000..=2_000_000).contains(&self.append_size) {
            wrong("append_size", "an append is 10 KB to 2 MB".to_owned(), "write \"1500KB\"");
        }
        let base_url = parse_endpoint(&self.base_url, self.allow_http)
            .map_err(|message| wrong("base_url", message, "leave it out to call Google"));
        let key = self.key().map_err(|(key, message, hint)| wrong(key, message, hint));
        match (base_url, key) {
            (Ok(base_url), Ok(key)) if problems.is_empty() => Ok(Parsed {
                spreadsheet_id: self.spreadsheet_id,
                key,
                base_url: format!("{}/", base_url.as_str().trim_end_matches('/')),
                tab: self.tab,
                failed_tab: self.failed_tab,
                max_columns: self.max_columns,
                writes_per_minute: self.writes_per_minute,
                reads_per_minute: self.reads_per_minute,
                look_after: self.look_after,
                listen_every: self.listen_every,
                timeout: self.timeout,
                append_size: self.append_size,
            }),
            _ => Err(problems),
        }
    }

    fn key(&self) -> Result<ServiceAccountKey, (&'static str, String, &'static str)> {
        const MAKE: &str =
            "make a JSON key for a service account in Google Cloud (IAM, Service accounts, Keys)";
        let (name, text) = match (&self.credentials, &self.credentials_json) {
            (Some(_), Some(_)) => {
                let both = "`credentials` and `credentials_json` are both set".to_owned();
                return Err(("credentials", both, "keep one of them"));
            }
            (None, None) => {
                let hint = "set GOOGLE_APPLICATION_CREDENTIALS to the path of the service account's key file";
                return Err(("credentials", "the service account's key is missing".to_owned(), hint));
            }
            (Some(path), None) => {
                let text = std::fs::read_to_string(path);
                let unread = |error| {
                    (
                        "credentials",
                        format!("`{}` cannot be read: {error}", path.display()),
                        "give the path of the key file",
                    )
                };
                ("credentials", text.map_err(unread)?)
            }
            (None, Some(json)) => ("credentials_json", json.expose().to_owned()),
        };
        // The error of serde_json names lines and columns, never what stands there.
        let key: ServiceAccountKey = serde_json::from_str(&text).map_err(|error| {
            (
                name,
                format!("this is no service account's key: line {}, column {}", error.line(), error.column()),
                MAKE,
            )
        })?;
        let is_pem = key.private_key.contains("PRIVATE KEY");
        if !is_pem || !key.client_email.contains('@') {
            return Err((name, "the key has no private_key or no client_email".to_owned(), MAKE));
        }
        let uri = Url::parse(&key.token_uri)
            .ok()
            .and_then(|_| parse_endpoint(&key.token_uri, self.allow_http).ok());
        if uri.is_none() {
            return Err((name, "the key's token_uri is not an https address".to_owned(), MAKE));
        }
        Ok(key)
    }
}
