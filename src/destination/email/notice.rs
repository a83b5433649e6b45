//! A mail of our own to the operators, the way the leads' mails go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use tokio::time::Instant;

use super::message::{Letter, Sending};
use super::settings::{Mail, address_of};
use super::templates::Texts;
use super::{Parsed, post};
use crate::clock::Clock;
use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Fault};
use crate::destination::{Messenger, News, SettingProblem};
use crate::net::Net;

/// How long a notice may take, if the mail's own waits do not take longer.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Whom notices go to, and how.
pub struct Notice {
    mail: Arc<Mail>,
    to: Vec<Address>,
}

impl Notice {
    /// Notices to these addresses; with none, to those that the team's mails go to. `None`: there is nobody.
    ///
    /// # Errors
    /// What is wrong with the addresses.
    pub fn parse<'a>(
        mail_to: &[String],
        mail: Arc<Mail>,
        mails: impl Iterator<Item = &'a Parsed>,
    ) -> Result<Option<Self>, SettingProblem> {
        let given = mail_to.iter().flat_map(|text| text.split(',')).filter(|text| !text.trim().is_empty());
        let given: Result<Vec<_>, _> = given.map(address_of).collect();
        let mut to = given.map_err(|message| {
            SettingProblem::new("mail_to", message, "write addresses with commas between them")
        })?;
        if to.is_empty() {
            to = mails.flat_map(|mail| mail.ours.iter().cloned()).collect();
        }
        to.sort();
        to.dedup();
        Ok((!to.is_empty()).then_some(Self { mail, to }))
    }

    /// Ready to tell, through `net` where it is a mail API.
    pub fn build(self, net: Net, clock: Clock) -> Arc<dyn Messenger> {
        Arc::new(Post { notice: self, net, clock })
    }
}

struct Post {
    notice: Notice,
    net: Net,
    clock: Clock,
}

#[async_trait]
impl Messenger for Post {
    async fn tell(&self, news: News<'_>) -> Result<(), DeliveryError> {
        let News { id, subject, text, at, earlier } = news;
        let texts =
            Texts { subject: format!("lead-intake: {subject}"), text: format!("{text}\n"), html: html(text) };
        let letter = Letter { to: self.notice.to.clone(), reply_to: None, texts };
        let mail = &self.notice.mail;
        let sending = Sending {
            event: id.to_owned(),
            written_at: at,
            earlier,
            deadline: Instant::now() + TIMEOUT.max(mail.least_timeout()),
            now: self.clock.now(),
        };
        match post(mail, &self.net, &letter, &sending).await {
            // It is sent no more, and one of the tries may well have arrived.
            Err(error) if error.fault == Fault::Rejected && may_have_arrived(earlier) => Ok(()),
            sent => sent.map(|_| ()),
        }
    }
}

fn may_have_arrived(earlier: &[Attempt]) -> bool {
    earlier.iter().any(|attempt| attempt.outcome == AttemptOutcome::Unknown)
}

fn html(text: &str) -> String {
    let safe = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let paragraphs: Vec<_> = safe.split("\n\n").map(|text| format!("<p>{text}</p>")).collect();
    format!(
        "<!doctype html><html><body style=\"font:15px/1.5 sans-serif;color:#16202e;max-width:40em\">{}</body></html>",
        paragraphs.concat()
    )
}
