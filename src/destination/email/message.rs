//! From a lead to the bytes of a mail. The same delivery gives the same bytes on every attempt.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, MultiPartKind, SinglePart};

use super::settings::Mail;
use super::templates::Texts;
use crate::destination::Parcel;
use lettre::Address;

/// `Auto-Submitted: auto-generated` (RFC 3834 section 5): no robot should answer.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// A mail before it takes the shape that its way asks for.
pub(super) struct Letter {
    /// Who gets it: addresses alone, for a name that a visitor typed never stands in a header.
    pub(super) to: Vec<Address>,
    /// Who gets the answers.
    pub(super) reply_to: Option<Address>,
    /// What it says.
    pub(super) texts: Texts,
}

/// The `Message-ID`, which is the same on every attempt.
pub(super) fn id(mail: &Mail, parcel: &Parcel<'_>) -> String {
    format!("<{}@{}>", parcel.delivery.event_id(), mail.from.email.domain())
}

/// Writes the mail.
pub(super) fn write(
    mail: &Mail,
    letter: &Letter,
    parcel: &Parcel<'_>,
) -> Result<Vec<u8>, lettre::error::Error> {
    let Letter { to, reply_to, texts } = letter;
    let sent = u64::try_from(parcel.lead.received_at.as_second()).unwrap_or(0);
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(texts.subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(sent))
        .message_id(Some(id(mail, parcel)))
        .header(AutoSubmitted);
    for address in to {
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    if let Some(address) = reply_to {
        builder = builder.reply_to(Mailbox::new(None, address.clone()));
    }
    let body = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        // At most 70 characters (RFC 2046 section 5.1.1), however long the destination's name is.
        .boundary(format!("part_{}", parcel.lead.id))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(texts.text.clone()))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(texts.html.clone()));
    Ok(builder.multipart(body)?.formatted())
}
