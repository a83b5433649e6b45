//! Mails, over SMTP or a mail API: the team's notification and the customer's confirmation.
//!
//! SMTP has no idempotency key. A repeat carries the same `Message-ID` and the same bytes, so that a
//! mailbox can tell; an answer that was lost after the whole mail is repeated twice at most. What the mail
//! APIs have is said in `api`.

mod api;
mod fates;
mod fault;
mod loops;
mod lost;
mod message;
mod notice;
mod server;
pub mod settings;
mod templates;
mod transport;

use std::time::Duration;

use async_trait::async_trait;
use lettre::Address;
use tokio::time::Instant;

use self::fates::Fates;
use self::loops::Share;
use self::lost::Repeat;
use self::message::{Letter, Sending};
use self::server::Server;
use self::settings::Way;
use self::transport::Class;
use super::commons::Ours;
use super::{Destination, Parcel};
use crate::clock::Clock;
use crate::delivery::{AttemptOutcome, DeliveryError, Fault, Receipt};
use crate::net::Net;
pub use notice::Notice;
pub use settings::introduce;
pub use settings::{Audience, Mail, MailSettings, Parsed, Settings, Transport};

/// How long a check may take.
const CHECK: Duration = Duration::from_secs(20);

/// A mail that each lead sends off.
pub struct Email {
    parsed: Parsed,
    net: Net,
    share: Share,
}

impl Email {
    /// This mail; mail APIs are called through `net`, and what an address gets is counted by `ours`.
    pub fn new(parsed: Parsed, net: Net, ours: Ours) -> Self {
        let share = Share::new(ours, parsed.per_day);
        Self { parsed, net, share }
    }

    /// No confirmation goes to a robot, to ourselves, or to an address that had its share today.
    async fn is_wanted(&self, visitor: &lettre::Address, parcel: &Parcel<'_>) -> Result<(), DeliveryError> {
        let Parsed { ours, mail, .. } = &self.parsed;
        if loops::is_robot(visitor) {
            let why =
                "A robot's address gets no confirmation, for two robots would write to each other for ever.";
            return Err(DeliveryError::needless("robot", why));
        }
        if ours.iter().chain([&mail.from.email]).any(|address| loops::is_same(address, visitor)) {
            let why = "The address is one that our own mails come from or go to: no confirmation is sent to ourselves.";
            return Err(DeliveryError::needless("our_own_address", why));
        }
        match self.share.admits(&parcel.lead.submitted.email, parcel.delivery, parcel.attempt).await {
            Some(true) => Ok(()),
            Some(false) => {
                let why = "This address had its confirmations for a day (`per_day`), so that a form cannot be used to fill a mailbox.";
                Err(DeliveryError::needless("enough_for_a_day", why))
            }
            None => {
                let why = "The store could not say how many confirmations this address had today; it is asked again.";
                Err(DeliveryError::transient("store_away", why))
            }
        }
    }

    async fn letter(&self, parcel: &Parcel<'_>) -> Result<Letter, DeliveryError> {
        let Parsed { audience, to, template, mail, .. } = &self.parsed;
        let submitted = &parcel.lead.submitted;
        let visitor = settings::address_of(submitted.email.as_str());
        let (to, reply_to) = match audience {
            // The team hears of the lead also where its address can stand in no header.
            Audience::Team => (to.clone(), visitor.ok()),
            Audience::Visitor => {
                let visitor = visitor.map_err(|_| {
                    DeliveryError::rejected("no_address", "The lead's address cannot stand in an envelope.")
                })?;
                self.is_wanted(&visitor, parcel).await?;
                (vec![visitor], None)
            }
        };
        let sender = mail.from.name.clone().unwrap_or_else(|| mail.from.email.domain().to_owned());
        let texts = mail.templates.fill(template, parcel.lead, &sender).map_err(|error| {
            DeliveryError::blocked("template", "A template of this mail fails; correct it and restart.")
                .with_source(error)
        })?;
        Ok(Letter { to, reply_to, texts })
    }
}

/// Sends a letter the way that the settings name.
async fn post(
    mail: &Mail,
    net: &Net,
    letter: &Letter,
    sending: &Sending<'_>,
) -> Result<Receipt, DeliveryError> {
    match &mail.way {
        Way::Smtp(server) => by_smtp(mail, server, letter, sending).await,
        Way::Api(api) => api.deliver(net, mail, letter, sending).await,
    }
}

async fn by_smtp(
    mail: &Mail,
    server: &Server,
    letter: &Letter,
    sending: &Sending<'_>,
) -> Result<Receipt, DeliveryError> {
    let bytes = message::write(mail, letter, sending).map_err(|error| {
        DeliveryError::blocked("message", "The mail cannot be written; check `mail.from`.").with_source(error)
    })?;
    if bytes.len() > mail.max_size {
        let why = "The mail would be larger than `mail.max_size`.";
        return Err(DeliveryError::rejected("too_large", why));
    }
    let mut fates = Fates::before(sending.earlier);
    let left: Vec<_> = letter.to.iter().filter(|address| !fates.has(address)).cloned().collect();
    let Some(first) = left.first() else { return Ok(Receipt::default()) };
    let sent = transport::send(mail, server, &left, &bytes, sending.deadline).await;
    let sent = sent.map_err(|failure| Repeat::Doubles.bound(fault::error(&failure), sending, first));
    let transport::Taken { answer, refused } = match sent {
        Ok(sent) => sent,
        // Nobody else is tried again, and the others have it.
        Err(error) if error.fault == Fault::Rejected && !fates.is_empty() => {
            return Ok(Receipt {
                remote_id: None,
                note: Some(refused_for([(first, error.detail.as_str())])),
            });
        }
        Err(error) => return Err(after(&fates, error)),
    };
    let is_refused = |address: &Address| refused.iter().any(|(refused, _)| refused == address);
    left.iter().filter(|address| !is_refused(address)).for_each(|address| fates.taken(address, ""));
    // Greylisted, or a mailbox that is full: those alone are tried again (RFC 5321 section 4.2.1).
    if let Some((_, failure)) = refused.iter().find(|(_, failure)| failure.class == Class::Transient) {
        return Err(after(&fates, fault::error(failure)));
    }
    let reasons = refused.iter().map(|(address, failure)| (address, failure.text.as_str()));
    let note = (!refused.is_empty()).then(|| refused_for(reasons));
    Ok(Receipt { remote_id: Some(answer), note })
}

/// Who does not get a mail that others have, and why.
fn refused_for<'a>(reasons: impl IntoIterator<Item = (&'a Address, &'a str)>) -> String {
    let reasons: Vec<_> = reasons.into_iter().map(|(address, why)| format!("{address}: {why}")).collect();
    format!("Refused for {}", reasons.join("; "))
}

/// What an error says, behind whom the mail has reached.
fn after(fates: &Fates, mut error: DeliveryError) -> DeliveryError {
    error.detail.insert_str(0, &fates.to_string());
    error
}

#[async_trait]
impl Destination for Email {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let letter = self.letter(&parcel).await?;
        let sent = post(&self.parsed.mail, &self.net, &letter, &Sending::of(&parcel)).await;
        if sent.as_ref().is_err_and(|error| !matches!(error.fault, Fault::Unknown { .. }))
            && !parcel.earlier.iter().any(|attempt| attempt.outcome == AttemptOutcome::Unknown)
        {
            // Surely nothing has arrived, by none of the attempts.
            self.share.give_back(&parcel.lead.submitted.email, parcel.delivery).await;
        }
        sent
    }

    /// Over SMTP connects, makes it safe and logs in; a mail API is asked what the key may do.
    async fn check(&self) -> Result<(), DeliveryError> {
        let deadline = Instant::now() + CHECK;
        match &self.parsed.mail.way {
            Way::Smtp(server) => {
                let session = transport::open(server, deadline).await;
                transport::goodbye(session.map_err(|failure| fault::error(&failure))?).await;
                Ok(())
            }
            Way::Api(api) => api.check(&self.net, Clock::system().now(), deadline).await,
        }
    }
}
