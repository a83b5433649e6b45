//! Mails over a vendor's HTTP API: Resend, Postmark or SendGrid.
//!
//! One recipient a request, so that one who is refused says nothing of the others. Who was taken stands
//! in the attempt's detail ([`taken`]): a retry leaves them out. What an answer means is each vendor's
//! own affair; what they have in common is in [`said`].

mod postmark;
mod resend;
mod said;
mod sendgrid;
mod settings;
pub(super) mod taken;

use std::time::Duration;

use lettre::Address;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use tokio::time::Instant;

use self::said::Said;
use self::taken::Taken;
use super::lost::Repeat;
use super::message::{self, Letter, Sending};
use super::settings::Mail;
use crate::clock::Timestamp;
use crate::delivery::{DeliveryError, Fault, Receipt};
use crate::net::Net;
use crate::secret::Secret;

/// How long a repeat under the same key is trusted to be none: Resend remembers a key for 24 hours, and
/// some of them go by before the next attempt.
const KEY_TRUSTED: Duration = Duration::from_secs(20 * 60 * 60);

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    Resend,
    Postmark,
    SendGrid,
}

impl Vendor {
    /// As it writes itself.
    fn name(self) -> &'static str {
        match self {
            Self::Resend => "Resend",
            Self::Postmark => "Postmark",
            Self::SendGrid => "SendGrid",
        }
    }

    /// How its codes begin.
    fn word(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Postmark => "postmark",
            Self::SendGrid => "sendgrid",
        }
    }
}

/// A vendor's API, and what it knows us by.
pub(super) struct Api {
    vendor: Vendor,
    base: Url,
    key: Secret,
    /// The header that carries the key.
    token: (HeaderName, HeaderValue),
}

/// The mail to one recipient.
struct Single<'a> {
    mail: &'a Mail,
    letter: &'a Letter,
    to: &'a Address,
    /// The delivery as one word, the same on every attempt.
    event: String,
    message_id: String,
}

impl Api {
    /// What a repeat does where the mail was taken after all.
    pub(super) fn repeat(&self) -> Repeat {
        match self.vendor {
            Vendor::Resend => Repeat::HarmlessFor(KEY_TRUSTED),
            Vendor::Postmark | Vendor::SendGrid => Repeat::Doubles,
        }
    }

    /// Sends the mail to everybody who was not taken yet.
    pub(super) async fn deliver(
        &self,
        net: &Net,
        mail: &Mail,
        letter: &Letter,
        sending: &Sending<'_>,
    ) -> Result<Receipt, DeliveryError> {
        let mut taken = Taken::before(sending.earlier);
        let mut refused = Vec::new();
        let mut failed: Option<DeliveryError> = None;
        for to in letter.to.iter().filter(|&to| !taken.has(to)).collect::<Vec<_>>() {
            let single = Single {
                mail,
                letter,
                to,
                event: sending.event.clone(),
                message_id: message::id(mail, sending),
            };
            match self.send(net, &single, sending).await {
                Ok(id) => taken.add(to, &id),
                Err(error) if error.fault == Fault::Rejected => refused.push((to, error)),
                Err(error) => {
                    // The vendor speaks of the whole account: the others would hear the same.
                    let is_for_all = error.fault == Fault::Blocked || error.hold_lane.is_some();
                    failed = Some(match failed {
                        None => error,
                        Some(first) => graver(first, error),
                    });
                    if is_for_all {
                        break;
                    }
                }
            }
        }
        if let Some(mut error) = failed {
            error.detail.insert_str(0, &taken.to_string());
            return Err(error);
        }
        let reasons: Vec<_> =
            refused.iter().map(|(address, error)| format!("{address}: {}", error.detail)).collect();
        let reasons = reasons.join(" ");
        if taken.is_empty() && !refused.is_empty() {
            let is_single = refused.len() == 1;
            let (_, mut first) = refused.swap_remove(0);
            if !is_single {
                first.detail = reasons;
            }
            return Err(first);
        }
        let note = (!refused.is_empty()).then(|| format!("Refused for {reasons}"));
        Ok(Receipt { remote_id: taken.ids(), note })
    }

    /// Sends one request; the vendor's id of the mail, which can be empty.
    async fn send(
        &self,
        net: &Net,
        single: &Single<'_>,
        sending: &Sending<'_>,
    ) -> Result<String, DeliveryError> {
        let word = self.vendor.word();
        if Instant::now() >= sending.deadline {
            let why = "There was no time left for this recipient; it is tried again.";
            return Err(DeliveryError::transient(format!("{word}_no_time_left"), why));
        }
        let (path, body) = match self.vendor {
            Vendor::Resend => ("/emails", resend::body(single)),
            Vendor::Postmark => ("/email", postmark::body(single)),
            Vendor::SendGrid => ("/v3/mail/send", sendgrid::body(single)),
        };
        let body = body.to_string();
        if body.len() > single.mail.max_size {
            let why = "The mail would be larger than `mail.max_size`.";
            return Err(DeliveryError::rejected("too_large", why));
        }
        let mut request = self.request(Method::POST, path);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.vendor == Vendor::Resend {
            let key = HeaderValue::try_from(resend::key(single)).expect("an id and digits are plain ASCII");
            request.headers_mut().insert("idempotency-key", key);
        }
        *request.body_mut() = Some(body.into());
        let deadline = sending.deadline.min(Instant::now() + single.mail.final_timeout);
        let answer =
            net.send(request, deadline).await.map_err(|lost| said::lost(self.vendor, self.repeat(), lost))?;
        let said = Said::of(self, &answer, sending.now);
        match self.vendor {
            Vendor::Resend => resend::judge(&said),
            Vendor::Postmark => postmark::judge(&said),
            Vendor::SendGrid => sendgrid::judge(&said),
        }
    }

    /// Asks for something that the key alone decides; no mail is sent.
    pub(super) async fn check(
        &self,
        net: &Net,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<(), DeliveryError> {
        let path = match self.vendor {
            Vendor::Resend => "/domains",
            Vendor::Postmark => "/server",
            Vendor::SendGrid => "/v3/scopes",
        };
        let answer = net.send(self.request(Method::GET, path), deadline).await;
        let answer = answer.map_err(|lost| said::lost(self.vendor, self.repeat(), lost))?;
        let said = Said::of(self, &answer, now);
        match self.vendor {
            Vendor::Resend => resend::may_send(&said),
            Vendor::Postmark => postmark::may_send(&said),
            Vendor::SendGrid => sendgrid::may_send(&said),
        }
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let mut request = Request::new(method, url);
        let (name, token) = self.token.clone();
        request.headers_mut().insert(name, token);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        request
    }
}

/// Which of two failures speaks for the attempt: settings that are wrong park the destination, and a lost
/// answer is to be remembered. A wait that the vendor asked for is kept to either way.
fn graver(first: DeliveryError, second: DeliveryError) -> DeliveryError {
    let weight = |error: &DeliveryError| match error.fault {
        Fault::Blocked => 2,
        Fault::Unknown { .. } => 1,
        Fault::Transient { .. } | Fault::Rejected | Fault::Needless => 0,
    };
    let hold = first.hold_lane.max(second.hold_lane);
    let mut graver = if weight(&second) > weight(&first) { second } else { first };
    graver.hold_lane = hold;
    graver
}
