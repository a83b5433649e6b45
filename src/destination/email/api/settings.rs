//! What a mail API takes in the configuration: parts of `[mail]`.

use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{Api, Vendor};
use crate::net::parse_endpoint;
use crate::secret::Secret;
use crate::units::SettingProblem;

impl Vendor {
    /// The vendor's public address.
    fn address(self) -> &'static str {
        match self {
            Self::Resend => "https://api.resend.com",
            Self::Postmark => "https://api.postmarkapp.com",
            Self::SendGrid => "https://api.sendgrid.com",
        }
    }

    /// Where an operator finds the key.
    pub(super) fn where_keys_are(self) -> &'static str {
        match self {
            Self::Resend => "make a key with sending access at Resend (API Keys)",
            Self::Postmark => "take the server's token at Postmark (Servers, API Tokens)",
            Self::SendGrid => "make a key with the permission Mail Send at SendGrid (Settings, API Keys)",
        }
    }
}

impl Api {
    /// Believes the settings.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(in super::super) fn parse(
        vendor: Vendor,
        key: Option<&Secret>,
        base_url: Option<&str>,
        allow_http: bool,
    ) -> Result<Self, Vec<SettingProblem>> {
        let mut problems = Vec::new();
        let key = key.map(|key| key.expose().trim()).unwrap_or_default();
        let token = match vendor {
            Vendor::Postmark => {
                (HeaderName::from_static("x-postmark-server-token"), HeaderValue::try_from(key))
            }
            Vendor::Resend | Vendor::SendGrid => {
                (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}")))
            }
        };
        let token = match token {
            _ if key.is_empty() => {
                let hint = format!(
                    "{}, and set it in the file or by LEAD_INTAKE__MAIL__API_KEY",
                    vendor.where_keys_are()
                );
                problems.push(SettingProblem::new("api_key", "`api_key` is missing", hint));
                None
            }
            (name, Ok(mut value)) if key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                value.set_sensitive(true);
                Some((name, value))
            }
            _ => {
                let message = format!("this cannot be a key of {}'s: a key is one plain word", vendor.name());
                problems.push(SettingProblem::new("api_key", message, vendor.where_keys_are()));
                None
            }
        };
        let base = parse_endpoint(base_url.unwrap_or(vendor.address()), allow_http).map_err(|message| {
            let hint = format!("leave it out to call {}", vendor.name());
            problems.push(SettingProblem::new("base_url", message, hint));
        });
        match (token, base) {
            (Some(token), Ok(base)) => Ok(Self { vendor, base, key: Secret::new(key), token }),
            _ => Err(problems),
        }
    }
}
