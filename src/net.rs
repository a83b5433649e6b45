//! The one outbound HTTP client of our own: no redirects, no proxy, capped bodies, and a clear word for
//! whether anything was sent.

use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, Response, StatusCode, Url};
use tokio::time::{Instant, timeout_at};

use crate::clock::{Timestamp, until};

/// How long a connection may take to be made, TLS included.
const CONNECT: Duration = Duration::from_secs(5);

/// The most of an answer that is read, unless more is asked for; the rest is left.
const LONGEST_ANSWER: usize = 64 * 1024;

/// The longest wait that is believed, be it ever so politely asked for: more than this is somebody's slip.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What comes back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, or as much of it as is read: 64 KiB unless [`Net::reading`] says otherwise.
    pub body: Vec<u8>,
}

/// Why no whole answer came back.
#[derive(Debug)]
pub enum Lost {
    /// Nothing was sent: no connection.
    Unsent(reqwest::Error),
    /// It may have arrived: the connection ended, or the answer made no sense.
    Midway(reqwest::Error),
    /// It may have arrived: no answer in time.
    Late,
}

/// A client for everybody who calls an HTTP API.
#[derive(Clone, Debug)]
pub struct Net {
    client: Client,
    longest_answer: usize,
}

impl Net {
    /// A client with connections of its own.
    ///
    /// # Panics
    /// When the platform has no TLS roots to trust at all: nothing could be called.
    pub fn new() -> Self {
        let client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(concat!("lead-intake/", env!("CARGO_PKG_VERSION")))
            .build()
            .expect("the platform's certificate roots can be read");
        Self { client, longest_answer: LONGEST_ANSWER }
    }

    /// The same client, reading at most so many bytes of an answer.
    pub fn reading(self, longest_answer: usize) -> Self {
        Self { longest_answer, ..self }
    }

    /// Asks for a page of a service of our own.
    ///
    /// # Errors
    /// A sentence for the operator: it is no URL, or nobody answered.
    pub async fn get(&self, url: &str, deadline: Instant) -> Result<Answer, String> {
        let parsed = Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let sent = self.send(Request::new(reqwest::Method::GET, parsed), deadline).await;
        sent.map_err(|_| format!("no answer from {url}; is the service running?"))
    }

    /// Sends a request and reads the answer by `deadline`.
    ///
    /// # Errors
    /// No whole status line and headers came back. A body that is cut is no error: the status says
    /// what happened.
    pub async fn send(&self, request: Request, deadline: Instant) -> Result<Answer, Lost> {
        let mut response = match timeout_at(deadline, self.client.execute(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Err(Lost::Unsent(error.without_url())),
            Ok(Err(error)) => return Err(Lost::Midway(error.without_url())),
            Err(_) => return Err(Lost::Late),
        };
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = timeout_at(deadline, body(&mut response, self.longest_answer)).await.unwrap_or_default();
        Ok(Answer { status, headers, body })
    }
}

impl Default for Net {
    fn default() -> Self {
        Self::new()
    }
}

async fn body(response: &mut Response, longest: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = longest - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == longest {
            break;
        }
    }
    body
}

impl Answer {
    /// How long the other side asks us to wait; see [`retry_after`].
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(&self.headers, now)
    }

    /// When it was made, by the other side's clock.
    pub fn date(&self) -> Option<Timestamp> {
        date_of(&self.headers)
    }

    /// The beginning of the body as text, for a person.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let plain: String = text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(300).collect();
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// How long the other side asks us to wait, a day at most: seconds, or a date (RFC 9110 section 10.2.3) that is
/// measured by the answer's own `Date` where it has one. `None` for nothing, garbage and the past.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let wanted = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !wanted.is_empty() && wanted.bytes().all(|digit| digit.is_ascii_digit()) {
        // So many digits that they do not fit are a very long time.
        Duration::from_secs(wanted.parse().unwrap_or(u64::MAX))
    } else {
        until(date_of(headers).unwrap_or(now), date(wanted)?)
    };
    Some(wait.min(LONGEST_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

fn date_of(headers: &HeaderMap) -> Option<Timestamp> {
    date(headers.get(DATE)?.to_str().ok()?.trim())
}

/// A moment as HTTP writes it (RFC 9110 section 5.6.7).
fn date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok().and_then(|date| Timestamp::try_from(date).ok())
}

/// Reads an address that leads or tokens may be sent to: https, or http to the loopback or where the
/// operator allows it.
///
/// # Errors
/// A sentence for the operator that does not show the address, for it may be a secret.
pub fn parse_endpoint(text: &str, allow_http: bool) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("this is no URL: {error}"))?;
    let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
        return Err("this URL names no host".to_owned());
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_loopback(host) => Ok(url),
        "http" => {
            Err("plain http is accepted to loopback addresses only, for anybody on the way could read \
                       the lead; use https, or set `allow_http = true`"
                .to_owned())
        }
        other => Err(format!("`{other}` is not https")),
    }
}

/// Whether a host is this machine itself.
pub fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn wait(retry_after: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_str(date).unwrap());
        }
        let answer = Answer { status: StatusCode::OK, headers, body: Vec::new() };
        answer.retry_after(Timestamp::from_second(0).unwrap()).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_a_day_at_most_and_nothing_else() {
        assert_eq!(wait("120", None), Some(120));
        for ages in ["86401", "99999999999999999999999", "Fri, 01 Jan 2100 00:00:00 GMT"] {
            assert_eq!(wait(ages, None), Some(86_400), "{ages}: no clock overflows");
        }
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:00 GMT", None), Some(60));
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:00 GMT", Some("Thu, 01 Jan 1970 00:00:50 GMT")), Some(10));
        for nonsense in ["", "0", "+5", "-1", "soon", "1.5", "Thu, 01 Jan 1970 00:01:00 +0000"] {
            assert_eq!(wait(nonsense, None), None, "{nonsense:?}");
        }
        assert_eq!(wait("Thu, 01 Jan 1970 00:01:00 GMT", Some("Thu, 01 Jan 1970 00:02:00 GMT")), None);
    }

    #[test]
    fn plain_http_goes_to_the_loopback_alone() {
        for fine in ["https://a.test/x", "http://127.0.0.1:9/x", "http://[::1]/", "http://localhost:80"] {
            assert!(parse_endpoint(fine, false).is_ok(), "{fine}");
        }
        for wrong in ["http://a.test/", "ftp://a.test/", "a.test", "http://localhost.a.test/", ""] {
            assert!(parse_endpoint(wrong, false).is_err(), "{wrong}");
        }
        assert!(parse_endpoint("http://a.test/", true).is_ok());
    }
}
