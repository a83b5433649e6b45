//! Mails, over SMTP or a mail API: the team's notification and the customer's confirmation.
//!
//! SMTP has no idempotency key. A repeat carries the same `Message-ID` and the same bytes, so that a
//! mailbox can tell; an answer that was lost after the whole mail is repeated twice at most. What the mail
//! APIs have is said in `api`.

mod api;
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
use tokio::time::Instant;

use self::loops::Lately;
use self::lost::Repeat;
use self::message::{Letter, Sending};
use self::server::Server;
use self::settings::Way;
use super::{Destination, Parcel};
use crate::clock::Clock;
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::id::DeliveryId;
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
    lately: Lately,
}

impl Email {
    /// This mail; mail APIs are called through `net`.
    pub fn new(parsed: Parsed, net: Net) -> Self {
        Self { parsed, net, lately: Lately::default() }
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

    fn letter(&self, parcel: &Parcel<'_>) -> Result<Letter, DeliveryError> {
        let Parsed { audience, to, template, mail, .. } = &self.parsed;
        let submitted = &parcel.lead.submitted;
        let visitor = settings::address_of(submitted.email.as_str()).map_err(|_| {
            DeliveryError::rejected("no_address", "The lead's address cannot stand in an envelope.")
        })?;
        let (to, reply_to) = match audience {
            Audience::Team => (to.clone(), Some(visitor)),
            Audience::Visitor => {
                self.is_wanted(&visitor, parcel.delivery)?;
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
    let taken = transport::send(mail, server, &letter.to, &bytes, sending.deadline)
        .await
        .map_err(|failure| fault::error(&failure))?;
    let refused: Vec<_> =
        taken.refused.iter().map(|(address, failure)| format!("{address}: {}", failure.text)).collect();
    let note = (!refused.is_empty()).then(|| format!("Refused for {}", refused.join("; ")));
    Ok(Receipt { remote_id: Some(taken.answer), note })
}

#[async_trait]
impl Destination for Email {
    async fn deliver(&self, parcel: Parcel<'_>) -> Result<Receipt, DeliveryError> {
        let letter = self.letter(&parcel)?;
        let mail = &self.parsed.mail;
        let repeat = match &mail.way {
            Way::Smtp(_) => Repeat::Doubles,
            Way::Api(api) => api.repeat(),
        };
        let sent = post(mail, &self.net, &letter, &Sending::of(&parcel)).await;
        sent.map_err(|error| {
            if !matches!(error.fault, Fault::Unknown { .. }) {
                self.lately.forget(parcel.delivery);
            }
            lost::bound(error, repeat, parcel.earlier, parcel.now)
        })
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
