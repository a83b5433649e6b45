//! What a webhook takes in the configuration.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::signature::Key;
use crate::destination::SettingProblem;
use crate::net::parse_endpoint;
use crate::secret::Secret;

/// A shorter part of a URL, or of a header, is no secret, and may be any word.
const SECRET: usize = 6;

/// The headers that a request sets itself.
const OURS: [&str; 8] = [
    "content-type",
    "content-length",
    "host",
    "transfer-encoding",
    "connection",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// `[destinations.NAME]` of the type `webhook`.
#[derive(Debug, Deserialize)]
pub struct Settings {
    /// Where leads are posted to. A secret: whoever knows a Zapier or Make URL can post to it.
    pub url: Secret,
    /// The Standard Webhooks secret, `whsec_…`.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// The secret before it, while they are rotated.
    #[serde(default)]
    pub previous_secret: Option<Secret>,
    /// Further headers.
    pub headers: BTreeMap<String, Secret>,
    /// Whether the body gets `timestamp`.
    pub timestamp: bool,
    /// Whose answers they are.
    pub flavour: Flavour,
    /// Whether plain http is fine beyond the loopback.
    pub allow_http: bool,
}

/// Whose ways a webhook has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Any receiver.
    Plain,
    /// make.com: its one 400 that passes is tried again.
    Make,
}

/// The settings, believed.
pub struct Parsed {
    pub(super) url: Url,
    pub(super) keys: Vec<Key>,
    pub(super) headers: HeaderMap,
    pub(super) timestamp: bool,
    pub(super) flavour: Flavour,
}

impl Settings {
    /// Believes the settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn parse(self) -> Result<Parsed, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let url = parse_endpoint(self.url.expose(), self.allow_http).map_err(|message| {
            problems.push(SettingProblem::new(
                "url",
                message,
                "give the whole address, such as https://example.com/hook",
            ));
        });
        let mut keys = Vec::new();
        for (name, secret) in [("secret", &self.secret), ("previous_secret", &self.previous_secret)] {
            match secret.as_ref().map(|secret| Key::parse(secret.expose())) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(message)) => problems.push(SettingProblem::new(
                    name,
                    message,
                    "make one with: echo whsec_$(head -c 32 /dev/urandom | base64)",
                )),
                None => {}
            }
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let parsed = (name.parse::<HeaderName>(), HeaderValue::try_from(value.expose()));
            match parsed {
                (Ok(name), Ok(mut value)) if !OURS.contains(&name.as_str()) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                (Ok(name), Ok(_)) => problems.push(SettingProblem::new(
                    "headers",
                    format!("`{name}` is set by lead-intake itself"),
                    "take it out",
                )),
                _ => problems.push(SettingProblem::new(
                    "headers",
                    format!("{name:?} or its value cannot stand in an HTTP header"),
                    "use letters, digits and dashes in the name, and printable ASCII in the value",
                )),
            }
        }
        match url {
            Ok(mut url) if problems.is_empty() => {
                if let Some(value) = basic(&mut url) {
                    headers.entry(AUTHORIZATION).or_insert(value);
                }
                Ok(Parsed { url, keys, headers, timestamp: self.timestamp, flavour: self.flavour })
            }
            _ => Err(problems),
        }
    }
}

impl Parsed {
    /// What a receiver said, without what only it and we may know: it may quote its own path, or our headers.
    pub(super) fn without_secrets(&self, said: String) -> String {
        let parts = self.url.path_segments().into_iter().flatten().chain(self.url.query());
        let values = self.headers.values().filter_map(|value| value.to_str().ok());
        let words = values.flat_map(|value| std::iter::once(value).chain(value.rsplit(' ').take(1)));
        let mut secrets: Vec<_> = parts.chain(words).filter(|text| text.len() >= SECRET).collect();
        // The longest first, for a shorter one may be a part of it.
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        secrets.into_iter().fold(said, |said, secret| said.replace(secret, "…"))
    }
}

/// Takes user and password out of a URL: as a header (RFC 7617), for nobody else sends them.
fn basic(url: &mut Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut text: Vec<u8> = percent_decode_str(url.username()).collect();
    text.push(b':');
    text.extend(percent_decode_str(url.password().unwrap_or_default()));
    // A URL with a host takes both.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text))).ok()?;
    value.set_sensitive(true);
    Some(value)
}
