//! What a session that failed means for the mail, and what a person reads of it.

use super::lost::SETTLE;
use super::transport::{Class, Failure, Stage};
use crate::delivery::{DeliveryError, Fault};

/// The failure as an error.
pub(super) fn error(failure: &Failure) -> DeliveryError {
    let Failure { stage, class, code, text } = failure;
    let word = stage.word();
    let name = code.map_or_else(|| format!("smtp_{word}"), |code| format!("smtp_{word}_{code}"));
    let said = if code.is_some() { format!("It said: {text}") } else { format!("({text})") };
    let because = |what: &str| format!("{what} {said}");
    match class {
        Class::Transient => DeliveryError::transient(name, because(not_yet(*stage, *code))),
        Class::Rejected => DeliveryError::rejected(name, because(never(*stage))),
        Class::Blocked => DeliveryError::blocked(name, because(to_be_mended(*stage, *code))),
        Class::Unknown => DeliveryError::new(
            Fault::Unknown { look_after: SETTLE },
            name,
            "The whole mail was sent and the answer lost; it may have arrived.",
        ),
    }
}

fn not_yet(stage: Stage, code: Option<u16>) -> &'static str {
    match (stage, code) {
        (Stage::Connect, None) => {
            "No connection to the mail server: check host and port in SMTP_URL, and whether something on the way blocks them. It is tried again."
        }
        (Stage::Recipient, Some(450..=452 | 552)) => {
            "The mail server takes nothing for the recipient at the moment; it is tried again."
        }
        (_, Some(_)) => "The mail server did not take it yet; it is tried again.",
        (_, None) => "The connection ended before the mail server had the mail; it is tried again.",
    }
}

fn never(stage: Stage) -> &'static str {
    match stage {
        Stage::Recipient => {
            "The mail server refuses the recipient. Should the address be right after all, replay it; otherwise cancel it."
        }
        _ => "The mail server refuses this mail.",
    }
}

fn to_be_mended(stage: Stage, code: Option<u16>) -> &'static str {
    match (stage, code) {
        (Stage::Auth, _) | (_, Some(530 | 534 | 535 | 538)) => {
            "The mail server refuses the login, or asks for one. Check user and password in SMTP_URL."
        }
        (Stage::Sender, _) => "The mail server does not let us send from this address. Check EMAIL_FROM.",
        (Stage::StartTls, _) => {
            "The mail server offers no STARTTLS, and mail is not sent without TLS. Use smtps://, or check the port."
        }
        _ => "The mail server refuses us. Check SMTP_URL.",
    }
}
