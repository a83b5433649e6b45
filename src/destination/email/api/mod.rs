//! Mails over a vendor's HTTP API: Resend, Postmark or SendGrid.
//!
//! One recipient a request, so that one who is refused says nothing of the others. What became of each stands
//! in the attempt's detail (`fates`): a retry leaves out who has it. What an answer means is each vendor's
//! own affair; what they have in common is in [`said`].

mod postmark;
mod resend;
mod said;
mod sendgrid;
mod settings;

use std::time::Duration;

use lettre::Address;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use tokio::time::Instant;

use self::said::Said;
use super::fates::Fates;
use super::lost::{self, Repeat};
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

    /// Sends the mail to everybody who does not have it yet; to those first whose answers were not lost, so that
    /// one for whom the vendor takes its time keeps it from nobody.
    pub(super) async fn deliver(
        &self,
        net: &Net,
        mail: &Mail,
        letter: &Letter,
        sending: &Sending<'_>,
    ) -> Result<Receipt, DeliveryError> {
        let mut fates = Fates::before(sending.earlier);
        let mut left: Vec<_> = letter.to.iter().filter(|to| !fates.has(to)).collect();
        left.sort_by_key(|to| lost::count(sending.earlier, to));
        let mut failures = Failures { left: left.len(), ..Failures::default() };
        for to in left {
            if let Some(error) = self.repeat().refuses(sending, to) {
                failures.add(to, error);
                continue;
            }
            let single = Single {
                mail,
                letter,
                to,
                event: sending.event.clone(),
                message_id: message::id(mail, sending),
            };
            match self.send(net, &single, sending).await {
                Ok(id) => fates.taken(to, &id),
                Err(error) => {
                    // The vendor speaks of the whole account: the others would hear the same.
                    let is_for_all = error.fault == Fault::Blocked || error.hold_lane.is_some();
                    if matches!(error.fault, Fault::Unknown { .. }) {
                        failures.lost.push(to);
                    }
                    failures.add(to, self.repeat().bound(error, sending, to));
                    if is_for_all {
                        break;
                    }
                }
            }
        }
        failures.judge(fates)
    }

    /// Sends one request; the vendor's id of the mail, which can be empty.
    async fn send(
        &self,
        net: &Net,
        single: &Single<'_>,
        sending: &Sending<'_>,
    ) -> Result<String, DeliveryError> {
        let word = self.vendor.word();
        // Cut short, the wait for an answer would only make a second mail.
        let deadline = Instant::now() + single.mail.final_timeout;
        if deadline > sending.deadline {
            let why = "There was too little time left for this recipient; it is tried again.";
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

/// What kept the mail from some recipients.
#[derive(Default)]
struct Failures<'a> {
    /// How many did not have it before.
    left: usize,
    /// Whose answer was lost.
    lost: Vec<&'a Address>,
    /// Who is not tried again.
    refused: Vec<(&'a Address, DeliveryError)>,
    /// What is said of those who are.
    error: Option<DeliveryError>,
}

impl<'a> Failures<'a> {
    fn add(&mut self, to: &'a Address, error: DeliveryError) {
        if error.fault == Fault::Rejected {
            return self.refused.push((to, error));
        }
        self.error = Some(match self.error.take() {
            None => error,
            Some(first) => graver(first, error),
        });
    }

    /// What the attempt brought.
    fn judge(mut self, mut fates: Fates) -> Result<Receipt, DeliveryError> {
        if let Some(mut error) = self.error {
            if self.lost.len() < self.left {
                fates.lost(self.lost);
            }
            error.detail.insert_str(0, &fates.to_string());
            return Err(error);
        }
        let reasons: Vec<_> =
            self.refused.iter().map(|(address, error)| format!("{address}: {}", error.detail)).collect();
        let reasons = reasons.join(" ");
        if fates.is_empty() && !self.refused.is_empty() {
            let is_single = self.refused.len() == 1;
            let (_, mut first) = self.refused.swap_remove(0);
            if !is_single {
                first.detail = reasons;
            }
            return Err(first);
        }
        let note = (!self.refused.is_empty()).then(|| format!("Refused for {reasons}"));
        Ok(Receipt { remote_id: fates.ids(), note })
    }
}

/// Which of two failures speaks for the attempt: settings that are wrong park the destination, and a lost
/// answer is to be remembered. The longer wait is kept to either way.
fn graver(first: DeliveryError, second: DeliveryError) -> DeliveryError {
    let weight = |error: &DeliveryError| match error.fault {
        Fault::Blocked => 2,
        Fault::Unknown { .. } => 1,
        Fault::Transient { .. } | Fault::Rejected | Fault::Needless => 0,
    };
    let wait = |error: &DeliveryError| match error.fault {
        Fault::Unknown { look_after } => Some(look_after),
        Fault::Transient { retry_after } => retry_after,
        Fault::Blocked | Fault::Rejected | Fault::Needless => None,
    };
    let hold = first.hold_lane.max(second.hold_lane);
    let longer = wait(&first).max(wait(&second));
    let mut graver = if weight(&second) > weight(&first) { second } else { first };
    match &mut graver.fault {
        Fault::Unknown { look_after } => *look_after = longer.unwrap_or(*look_after),
        Fault::Transient { retry_after } => *retry_after = longer,
        Fault::Blocked | Fault::Rejected | Fault::Needless => {}
    }
    graver.hold_lane = hold;
    graver
}
