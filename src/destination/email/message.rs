//! From a lead to the bytes of a mail. The same delivery gives the same bytes on every attempt.

use std::time::{Duration, SystemTime};

use lettre::Message;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, MultiPartKind, SinglePart};
use ring::digest::{Context, SHA256};

use super::settings::Mail;
use super::templates::Texts;
use crate::clock::Timestamp;
use crate::delivery::Attempt;
use crate::destination::Parcel;
use lettre::Address;
use tokio::time::Instant;

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

/// One attempt at sending a letter.
pub(super) struct Sending<'a> {
    /// What the letter is about, as one word: the same on every attempt.
    pub(super) event: String,
    /// Its date.
    pub(super) written_at: Timestamp,
    /// The attempts before this one.
    pub(super) earlier: &'a [Attempt],
    /// When this one must be over.
    pub(super) deadline: Instant,
    /// The wall clock.
    pub(super) now: Timestamp,
}

impl<'a> Sending<'a> {
    /// An attempt at a lead's delivery.
    pub(super) fn of(parcel: &Parcel<'a>) -> Self {
        Self {
            event: parcel.delivery.event_id(),
            written_at: parcel.lead.received_at,
            earlier: parcel.earlier,
            deadline: parcel.deadline,
            now: parcel.now,
        }
    }
}

/// The `Message-ID`, which is the same on every attempt.
pub(super) fn id(mail: &Mail, sending: &Sending<'_>) -> String {
    format!("<{}@{}>", sending.event, mail.from.email.domain())
}

/// Writes the mail.
pub(super) fn write(
    mail: &Mail,
    letter: &Letter,
    sending: &Sending<'_>,
) -> Result<Vec<u8>, lettre::error::Error> {
    let Letter { to, reply_to, texts } = letter;
    let sent = u64::try_from(sending.written_at.as_second()).unwrap_or(0);
    let mut builder = Message::builder()
        .from(mail.from.clone())
        .subject(texts.subject.clone())
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(sent))
        .message_id(Some(id(mail, sending)))
        .header(AutoSubmitted);
    for address in to {
        builder = builder.to(Mailbox::new(None, address.clone()));
    }
    if let Some(address) = reply_to {
        builder = builder.reply_to(Mailbox::new(None, address.clone()));
    }
    let body = MultiPart::builder()
        .kind(MultiPartKind::Alternative)
        .boundary(boundary(texts))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(texts.text.clone()))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(texts.html.clone()));
    Ok(builder.multipart(body)?.formatted())
}

/// What stands between the parts: 45 of at most 70 characters (RFC 2046 section 5.1.1), the same on every attempt. It is made
/// of what the mail says: no visitor can write a text that holds it, and so no part of their own.
fn boundary(texts: &Texts) -> String {
    let mut hash = Context::new(&SHA256);
    for text in [&texts.subject, &texts.text, &texts.html] {
        hash.update(text.as_bytes());
        hash.update(&[0]);
    }
    let digest = hash.finish();
    let hex = digest.as_ref().iter().take(20).map(|byte| format!("{byte:02x}"));
    std::iter::once("part_".to_owned()).chain(hex).collect()
}
