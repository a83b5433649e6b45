//! What the CRMs' HTTP APIs have in common: JSON below a base URL, a token in a header, and a pace that
//! the answers set.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request, StatusCode, Url};
use serde_json::Value;
use tokio::time::Instant;

use super::commons::Ours;
use crate::clock::Timestamp;
use crate::delivery::{DeliveryError, Fault};
use crate::net::{Answer, Lost, Net};
use crate::secret::Secret;

/// What stands unencoded in a segment of a path (RFC 3986 section 2.3); a `+` is some servers' space.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The most of an answer that is read: a list of all of a CRM's properties is long.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// One API, and the token for it.
#[derive(Debug)]
pub struct Api {
    net: Net,
    base: Url,
    token: (HeaderName, HeaderValue),
    /// The token itself: what nobody may read, should an answer quote it.
    secret: Secret,
    pace: Pace,
    ours: Ours,
}

/// One request.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path below the base URL, in segments; each is encoded.
    pub path: &'a [&'a str],
    /// The query.
    pub query: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Option<&'a Value>,
}

impl<'a> Call<'a> {
    /// Reads.
    pub fn get(path: &'a [&'a str]) -> Self {
        Self { method: Method::GET, path, query: &[], body: None }
    }

    /// Sends a body.
    pub fn send(method: Method, path: &'a [&'a str], body: &'a Value) -> Self {
        Self { method, path, query: &[], body: Some(body) }
    }

    /// With a query.
    pub fn with(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body; null where it is no JSON, such as a gateway's page.
    pub json: Value,
    /// The beginning of the body, for a person.
    pub said: String,
    /// `Retry-After`, where it makes sense.
    pub retry_after: Option<Duration>,
}

impl Reply {
    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// A header's number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

impl Api {
    /// An API below `base`. The token goes into the header `name`, and never into a URL or a log.
    ///
    /// # Errors
    /// The token cannot stand in a header.
    pub fn new(net: Net, base: Url, (name, token): (&'static str, &str), ours: Ours) -> Result<Self, String> {
        let mut value =
            HeaderValue::from_str(token).map_err(|_| "this is no token: it cannot stand in a header")?;
        value.set_sensitive(true);
        let net = net.reading(LONGEST_ANSWER);
        let secret = Secret::new(token.rsplit(' ').next().unwrap_or(token));
        let token = (HeaderName::from_static(name), value);
        Ok(Self { net, base, token, secret, pace: Pace::default(), ours })
    }

    /// The same, reading so many bytes of an answer.
    #[must_use]
    pub fn reading(self, longest_answer: usize) -> Self {
        Self { net: self.net.reading(longest_answer), ..self }
    }

    /// Makes a call and reads its answer by `deadline`, when the pace allows it.
    ///
    /// # Errors
    /// No whole answer, or no leave to call before the deadline.
    pub async fn call(&self, call: Call<'_>, now: Timestamp, deadline: Instant) -> Result<Reply, NoReply> {
        self.leave(deadline).await?;
        self.call_now(call, now, deadline).await
    }

    /// Waits until the pace allows a call: for a note of what is sent, which is true only once it is about to be.
    ///
    /// # Errors
    /// No leave to call before the deadline.
    pub async fn leave(&self, deadline: Instant) -> Result<(), NoReply> {
        self.pace.wait(deadline).await
    }

    /// Makes a call that has leave, and reads its answer by `deadline`.
    ///
    /// # Errors
    /// No whole answer.
    pub async fn call_now(
        &self,
        call: Call<'_>,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Reply, NoReply> {
        let mut request = Request::new(call.method, self.url(call.path, call.query));
        let headers = request.headers_mut();
        headers.insert(self.token.0.clone(), self.token.1.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(body) = call.body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Some(body.to_string().into());
        }
        let mut answer = self.net.send(request, deadline).await.map_err(NoReply::Lost)?;
        self.redact(&mut answer);
        Ok(reply(&answer, now))
    }

    /// Takes our token out of an answer that quotes it.
    fn redact(&self, answer: &mut Answer) {
        let secret = self.secret.expose();
        let quotes = |body: &[u8]| body.windows(secret.len()).any(|part| part == secret.as_bytes());
        if !secret.is_empty() && quotes(&answer.body) {
            answer.body = String::from_utf8_lossy(&answer.body).replace(secret, "…").into_bytes();
        }
    }

    /// This process does not call for so long.
    pub fn rest(&self, wait: Duration) {
        self.pace.rest(wait);
    }

    /// Nobody calls for so long: no delivery is begun meanwhile, by any process.
    pub fn rest_all(&self, wait: Duration) {
        self.rest(wait);
        self.ours.hold(wait);
    }

    fn url(&self, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        let below: Vec<_> =
            path.iter().map(|segment| utf8_percent_encode(segment, PLAIN).to_string()).collect();
        url.set_path(&format!("{}/{}", self.base.path().trim_end_matches('/'), below.join("/")));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }
}

fn reply(answer: &Answer, now: Timestamp) -> Reply {
    Reply {
        status: answer.status,
        json: serde_json::from_slice(&answer.body).unwrap_or_default(),
        said: answer.excerpt(),
        retry_after: answer.retry_after(now),
        headers: answer.headers.clone(),
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoReply {
    /// The call was made, or not, and no answer came.
    Lost(Lost),
    /// The call was not made: the API has asked for a rest that is longer than the attempt.
    Resting(Duration),
}

impl NoReply {
    /// The same as an error of a call that changes nothing there, or that may be made twice: `vendor` is
    /// the name that people read.
    pub fn into_error(self, vendor: &str) -> DeliveryError {
        match self {
            Self::Resting(wait) => DeliveryError::new(
                Fault::Transient { retry_after: Some(wait) },
                "resting",
                format!("{vendor} asked for a pause. It is tried again after it."),
            )
            .holding_lane(wait),
            Self::Lost(Lost::Unsent(error)) => DeliveryError::transient(
                "not_connected",
                format!("No connection to {vendor}: check `base_url`, the network and the certificates. It is tried again."),
            )
            .with_source(error),
            Self::Lost(Lost::Midway(error)) => DeliveryError::unknown(
                "connection_lost",
                format!("The connection to {vendor} was lost before it answered; it may have taken the lead. It is looked for, and tried again."),
            )
            .with_source(error),
            Self::Lost(Lost::Late) => DeliveryError::unknown(
                "timeout",
                format!("{vendor} did not answer in time; it may have taken the lead. It is looked for, and tried again."),
            ),
        }
    }
}

/// When the next call may be made.
#[derive(Debug, Default)]
struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn rest(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut not_before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = Some(not_before.map_or(until, |set| set.max(until)));
    }

    /// Waits for leave to call; a rest beyond the deadline is for the caller's schedule.
    async fn wait(&self, deadline: Instant) -> Result<(), NoReply> {
        let not_before = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match not_before {
            Some(then) if then >= deadline => {
                Err(NoReply::Resting(then.saturating_duration_since(Instant::now())))
            }
            Some(then) => {
                tokio::time::sleep_until(then).await;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
