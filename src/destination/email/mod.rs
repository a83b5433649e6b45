//! Mails over SMTP: the team's notification and the customer's confirmation.
//!
//! SMTP has no idempotency key. A repeat carries the same `Message-ID` and the same bytes, so that a
//! mailbox can tell; an answer that was lost after the whole mail is repeated twice at most.

mod loops;
mod message;
pub mod settings;
mod templates;
mod transport;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use self::loops::Lately;
use self::transport::{Class, Failure, Stage};
use super::{Destination, Parcel};
use crate::delivery::{Attempt, AttemptOutcome, DeliveryError, Fault, Receipt};
use crate::id::DeliveryId;
pub use settings::introduce;
pub use settings::{Audience, Mail, MailSettings, Parsed, Settings};

/// How long a server is given to settle before a mail whose answer was lost is sent again.
const SETTLE: Duration = Duration::from_secs(60);

/// How many lost answers are followed by another try.
const REPEATS: usize = 2;

/// How long a check may take.
const CHECK: Duration = Duration::from_secs(20);

/// A mail that each lead sends off.
pub struct Email {
    parsed: Parsed,
    lately: Lately,
}

impl Email {
    /// This mail.
    pub fn new(parsed: Parsed) -> Self {
        Self { parsed, lately: Lately::default() }
    }

    /// No confirmation goes to a robot, to ourselves, or to an address that had its share today.
    fn is_wanted(&self, visitor: &lettre::Address, delivery: &DeliveryId) -> Result<(), DeliveryError> {
        let Parsed { ours, mail, per_day, .. } = &self.parsed;
        if loops::is_robot(visitor) {
            let why =
                "A robot's address gets no confirmation, for two robots would write to each other for ever.";
            return Err(DeliveryError::needless("robot", why));
        }
        if ours.iter().chain([&mail.from.email]).any(|address| loops::is_same(address, visitor)) {
            let why = "The address is one that our own mails come from or go to: no confirmation is sent to ourselves.";
            return Err(DeliveryError::needless("our_own_address", why));
        }
        if *per_day > 0 && !self.lately.admits(visitor, delivery, *per_day) {
            let why = "This address had its confirmations for a day (`per_day`), so that a form cannot be used to fill a mailbox.";
            return Err(DeliveryError::needless("enough_for_a_day", why));
        }
        Ok(())
    }

    fn bytes(&self, parcel: &Parcel<'_>) -> Result<(Vec<lettre::Address>, Vec<u8>), DeliveryError> {
        let Parsed { audience, to, template, mail, .. } = &self.parsed;
        let submitted = &parcel.lead.submitted;
        let visitor = settings::address_of(submitted.email.as_str()).map_err(|_| {
            DeliveryError::rejected("no_address", "The lead's address cannot stand in an envelope.")
        })?;
        let to = match audience {
            Audience::Team => to.clone(),
            Audience::Visitor => {
                self.is_wanted(&visitor, parcel.delivery)?;
                vec![visitor.clone()]
            }
        };
        let sender = mail.from.name.clone().unwrap_or_else(|| mail.from.email.domain().to_owned());
        let broken = |code: &str, what: &str, error: Box<dyn std::error::Error + Send + Sync>| {
            DeliveryError::blocked(code, what).with_source(error)
        };
        let texts = mail.templates.fill(template, parcel.lead, &sender).map_err(|error| {
            broken("template", "A template of this mail fails; correct it and restart.", error.into())
        })?;
        let bytes = message::write(mail, *audience, &to, &visitor, texts, parcel).map_err(|error| {
            broken("message", "The mail cannot be written; check `mail.from`.", error.into())
        })?;
        if bytes.len() > mail.max_size {
            return Err(DeliveryError::rejected(
                "too_large",
                "The mail would be larger than `mail.max_size`.",
            ));
        }
        Ok((to, bytes))
    }
}

#[async_trait]
impl Destination for Email {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let (to, bytes) = self.bytes(&parcel)?;
        match transport::send(&self.parsed.mail, &to, &bytes, parcel.deadline).await {
            Ok(taken) => {
                let refused: Vec<_> = taken
                    .refused
                    .iter()
                    .map(|(address, failure)| format!("{address}: {}", failure.text))
                    .collect();
                let note = (!refused.is_empty()).then(|| format!("Refused for {}", refused.join("; ")));
                Ok(Receipt { remote_id: Some(taken.answer), note })
            }
            Err(failure) => {
                if failure.class != Class::Unknown {
                    self.lately.forget(parcel.delivery);
                }
                Err(error(&failure, lost_before(parcel.earlier)))
            }
        }
    }

    /// Connects, makes it safe and logs in.
    async fn check(&self) -> Result<(), DeliveryError> {
        let session = transport::open(&self.parsed.mail, Instant::now() + CHECK).await;
        transport::goodbye(session.map_err(|failure| error(&failure, 0))?).await;
        Ok(())
    }
}

/// How many of the newest attempts lost the answer to the whole mail. A dead letter that was replayed
/// begins anew: whoever replays it knows that the mail had not arrived.
fn lost_before(earlier: &[Attempt]) -> usize {
    let since_replay = earlier.iter().rev().take_while(|it| it.outcome != AttemptOutcome::Rejected);
    let lost = |it: &&Attempt| it.outcome == AttemptOutcome::Unknown && it.code.starts_with("smtp_body");
    since_replay.filter(lost).count()
}

fn error(failure: &Failure, lost_before: usize) -> DeliveryError {
    let Failure { stage, class, code, text } = failure;
    let word = stage.word();
    let code = code.map_or_else(|| format!("smtp_{word}"), |code| format!("smtp_{word}_{code}"));
    let said = format!("It said: {text}");
    match class {
        Class::Transient => DeliveryError::transient(
            code,
            format!("The mail server did not take it yet; it is tried again. {said}"),
        ),
        Class::Rejected => {
            DeliveryError::rejected(code, format!("The mail server refuses this mail. {said}"))
        }
        Class::Blocked => {
            let what = match stage {
                Stage::Auth => "The mail server refuses the login. Check user and password in SMTP_URL.",
                Stage::Sender => "The mail server does not let us send from this address. Check EMAIL_FROM.",
                Stage::StartTls => {
                    "The mail server offers no STARTTLS, and mail is not sent without TLS. Use smtps://, or check the port."
                }
                _ => "The mail server refuses us. Check SMTP_URL.",
            };
            DeliveryError::blocked(code, format!("{what} {said}"))
        }
        Class::Unknown if lost_before >= REPEATS => DeliveryError::rejected(
            code,
            "The mail server took the whole mail and lost its answer, three times in a row. It has most likely arrived; replay it only if it has not.",
        ),
        Class::Unknown => {
            let fault = Fault::Unknown { look_after: SETTLE };
            DeliveryError::new(
                fault,
                code,
                "The whole mail was sent and the answer lost; it may have arrived. It is sent once more, with the same Message-ID.",
            )
        }
    }
}
