//! From a lead to the bytes of a mail. The same delivery gives the same bytes on every attempt.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, MultiPartKind, SinglePart};

use super::settings::{Audience, Mail};
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

/// Writes the mail.
pub(super) fn write(
    mail: &Mail,
    audience: Audience,
    to: &[Address],
    visitor: &Address,
    texts: Texts,
    parcel: &Parcel<'_>,
) -> Result<Vec<u8>, lettre::error::Error> {
    let event = parcel.delivery.event_id();
    let sent = u64::try_from(parcel.lead.received_at.as_second()).unwrap_or(0);
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(texts.subject)
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(sent))
        .message_id(Some(format!("<{event}@{}>", mail.from.email.domain())))
        .header(AutoSubmitted);
    for address in to {
        // An address alone: a name that a visitor typed never stands in a header.
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    if audience == Audience::Team {
        builder = builder.reply_to(Mailbox::new(None, visitor.clone()));
    }
    let body = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        // At most 70 characters (RFC 2046 section 5.1.1), however long the destination's name is.
        .boundary(format!("part_{}", parcel.lead.id))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(texts.text))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(texts.html));
    Ok(builder.multipart(body)?.formatted())
}
