//! What a mail API's answer means as long as the vendor has no word of its own for it.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::{Api, Vendor};
use crate::clock::Timestamp;
use crate::delivery::{DeliveryError, Fault};
use crate::destination::email::lost::{Repeat, SETTLE};
use crate::net::{Answer, Lost};

/// The most that is quoted of a vendor, in characters.
const LONGEST_QUOTE: usize = 300;

/// An answer, read.
pub(super) struct Said<'a> {
    pub(super) answer: &'a Answer,
    pub(super) vendor: Vendor,
    pub(super) now: Timestamp,
    /// The body; null where it is no JSON.
    pub(super) json: Value,
    repeat: Repeat,
    /// What it says to a person, without our key.
    quote: String,
}

impl<'a> Said<'a> {
    /// Reads an answer.
    pub(super) fn of(api: &Api, answer: &'a Answer, now: Timestamp) -> Self {
        let json: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let several = json["errors"].as_array().into_iter().flatten();
        let several: Vec<_> = several.filter_map(|error| error["message"].as_str()).collect();
        let message = json["message"].as_str().or(json["Message"].as_str()).map(str::to_owned);
        let message = message.or((!several.is_empty()).then(|| several.join(" ")));
        let quote = message.unwrap_or_else(|| answer.excerpt());
        // A vendor may quote the key that it refuses.
        let quote = quote.replace(api.key.expose(), "…");
        let quote = quote.chars().map(|it| if it.is_control() { ' ' } else { it });
        let quote = quote.take(LONGEST_QUOTE).collect();
        Self { answer, vendor: api.vendor, now, json, repeat: api.repeat(), quote }
    }

    pub(super) fn status(&self) -> u16 {
        self.answer.status.as_u16()
    }

    pub(super) fn is_success(&self) -> bool {
        self.answer.status.is_success()
    }

    /// Whether it says this, in capitals or not.
    pub(super) fn says(&self, words: &str) -> bool {
        self.quote.to_ascii_lowercase().contains(&words.to_ascii_lowercase())
    }

    /// A page where JSON is due: a proxy or firewall on the way answered.
    pub(super) fn is_page(&self) -> bool {
        let kind = self.answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_html = kind.is_some_and(|kind| kind.to_ascii_lowercase().contains("html"));
        self.json.is_null() && (is_html || self.answer.body.trim_ascii_start().starts_with(b"<"))
    }

    /// A code that begins with the vendor's word.
    pub(super) fn code(&self, rest: &str) -> String {
        format!("{}_{rest}", self.vendor.word())
    }

    fn detail(&self, what: &str) -> String {
        let (name, status) = (self.vendor.name(), self.answer.status);
        let said = if self.quote.is_empty() { String::new() } else { format!(" It said: {}", self.quote) };
        format!("{name} answered {status}. {what}{said}")
    }

    /// Surely not taken; later.
    pub(super) fn transient(&self, code: &str, wait: Option<Duration>, what: &str) -> DeliveryError {
        DeliveryError::new(Fault::Transient { retry_after: wait }, self.code(code), self.detail(what))
    }

    /// Surely not taken, and for now the vendor takes none of our mails.
    pub(super) fn limited(&self, code: &str, wait: Duration, what: &str) -> DeliveryError {
        self.transient(code, Some(wait), what).holding_lane(wait)
    }

    /// Never as it is.
    pub(super) fn rejected(&self, code: &str, what: &str) -> DeliveryError {
        DeliveryError::rejected(self.code(code), self.detail(what))
    }

    /// Our key or settings.
    pub(super) fn blocked(&self, code: &str, what: &str) -> DeliveryError {
        DeliveryError::blocked(self.code(code), self.detail(what))
    }

    /// The key is refused.
    pub(super) fn unauthorized(&self, code: &str) -> DeliveryError {
        self.blocked(
            code,
            &format!("It refuses the key. Check `mail.api_key`: {}.", self.vendor.where_keys_are()),
        )
    }

    /// A success that makes no sense: it may have been taken.
    pub(super) fn unclear(&self) -> DeliveryError {
        unknown(
            self.code("unclear_answer"),
            self.repeat,
            self.detail("That is not how it says that a mail was taken; it may have been."),
        )
    }

    /// A success that this vendor never gives to a question: somebody else answered.
    pub(super) fn strange(&self) -> DeliveryError {
        self.blocked("strange_answer", "That is not how it answers. Check `mail.base_url`.")
    }

    /// What the status alone says (RFC 9110 section 15).
    pub(super) fn by_status(&self) -> DeliveryError {
        let status = self.status();
        let code = match self.vendor {
            // Its own numbers look like a status and mean something else.
            Vendor::Postmark => format!("http_{status}"),
            Vendor::Resend | Vendor::SendGrid => status.to_string(),
        };
        let wait = self.answer.retry_after(self.now);
        match status {
            300..=399 => self.blocked(
                &code,
                "It redirects, and redirects are not followed. Set `mail.base_url` to where it leads.",
            ),
            413 => self.rejected(&code, "The mail is too large for it. Make the template shorter."),
            503 if wait.is_some() => self.limited(
                &code,
                wait.unwrap_or_default(),
                "It is unavailable and said for how long; the mail is tried again.",
            ),
            408 | 425 | 429 | 500..=599 => {
                self.transient(&code, wait, "It did not take the mail yet; the mail is tried again.")
            }
            400.. if self.is_page() => self.transient(
                &format!("page_{status}"),
                wait,
                "A page came where JSON is due: a proxy or firewall on the way may have answered. The mail is tried again.",
            ),
            401 | 403 => self.unauthorized(&code),
            404 | 405 | 410 => self.blocked(&code, "Nothing is there. Check `mail.base_url`."),
            400..=499 => self.rejected(&code, "It refuses this mail."),
            _ => self.unclear(),
        }
    }
}

/// Judges an answer that did not come.
pub(super) fn lost(vendor: Vendor, repeat: Repeat, lost: Lost) -> DeliveryError {
    let (word, name) = (vendor.word(), vendor.name());
    match lost {
        Lost::Unsent(error) => DeliveryError::transient(
            format!("{word}_not_connected"),
            format!("No connection to {name}: check the network and `mail.base_url`. It is tried again."),
        )
        .with_source(error),
        Lost::Midway(error) => unknown(
            format!("{word}_connection_lost"),
            repeat,
            format!("The connection to {name} was lost before it answered; the mail may have been taken."),
        )
        .with_source(error),
        Lost::Late => unknown(
            format!("{word}_timeout"),
            repeat,
            format!("{name} did not answer in time; the mail may have been taken."),
        ),
    }
}

fn unknown(code: String, repeat: Repeat, detail: String) -> DeliveryError {
    let look_after = match repeat {
        Repeat::Doubles => SETTLE,
        Repeat::HarmlessFor(_) => Duration::ZERO,
    };
    DeliveryError::new(Fault::Unknown { look_after }, code, detail)
}
