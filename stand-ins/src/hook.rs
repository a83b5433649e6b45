//! A webhook receiver: any URL that takes leads, a Zapier catch hook, a Make hook.
//!
//! It keeps everything that it took, apart from what it answered, so that a test can tell a lead that
//! arrived twice from an answer that was lost once.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

use crate::script::Script;
use crate::serve::{Dropped, Server, StalledBody, serve};

/// How far a signature's time may be from ours, in seconds (the libraries of Standard Webhooks).
const TOLERANCE: i64 = 300;

/// What a request meets instead of 200.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer; the lead is not taken.
    Answer {
        /// The status.
        status: u16,
        /// Headers, such as `Retry-After`.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// The lead is taken, and then this status comes all the same.
    TakeThenAnswer(u16),
    /// The connection is closed before anything is taken.
    Drop,
    /// Nothing is taken and no answer comes.
    Hang,
    /// The lead is taken and the connection closed without an answer.
    TakeThenDrop,
    /// The lead is taken and the answer never comes.
    TakeThenHang,
    /// 200, with a body that ends in the middle.
    CutBody,
    /// 200, with a body that never ends.
    EndlessBody,
    /// The lead is taken, and the body of the 200 stops in the middle and never ends.
    TakeThenStall,
    /// 200, after this long.
    Slow(Duration),
    /// The lead is taken, and the 200 waits for [`Hook::go_on`].
    Wait,
}

impl Fault {
    /// A bare status.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: String::new() }
    }

    /// A status with `Retry-After`.
    pub fn retry_after(status: u16, wait: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("retry-after".to_owned(), wait.to_owned())],
            body: String::new(),
        }
    }

    /// make.com's full queue.
    pub fn make_queue_full() -> Self {
        Self::Answer { status: 400, headers: Vec::new(), body: "Queue is full.".to_owned() }
    }

    /// make.com's hook without a scenario.
    pub fn make_gone() -> Self {
        let body = "There is no scenario listening for this webhook.".to_owned();
        Self::Answer { status: 410, headers: Vec::new(), body }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The path and query.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub raw: Vec<u8>,
    /// The body as JSON; null where it is none.
    pub body: Value,
    /// Whether the lead was taken.
    pub taken: bool,
    /// What was answered; `None` where no answer went out.
    pub answered: Option<u16>,
    /// What the signature is: `None` where no secret is set.
    pub signature: Option<Result<(), String>>,
}

impl Call {
    /// The `webhook-id` header.
    pub fn id(&self) -> &str {
        self.headers.get("webhook-id").map_or("", String::as_str)
    }
}

/// The receiver. Stops when dropped.
pub struct Hook {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    script: Script<Fault>,
    secret: Mutex<Option<String>>,
    calls: watch::Sender<Vec<Call>>,
    let_go: Semaphore,
}

impl Hook {
    /// A receiver on a free port.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            script: Script::new(),
            secret: Mutex::new(None),
            calls: watch::Sender::new(Vec::new()),
            let_go: Semaphore::new(0),
        });
        let handler = Arc::clone(&shared);
        let server = serve(listener, move |request| answer(Arc::clone(&handler), request));
        Self { address, shared, _server: server }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What the next requests meet.
    pub fn script(&self) -> &Script<Fault> {
        &self.shared.script
    }

    /// Lets one call go that met a [`Fault::Wait`], or is going to.
    pub fn go_on(&self) {
        self.shared.let_go.add_permits(1);
    }

    /// From now on every signature is checked against this `whsec_…`.
    pub fn expect_signature(&self, secret: &str) {
        *self.shared.secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.to_owned());
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// How often each `webhook-id` was taken.
    pub fn taken(&self) -> HashMap<String, usize> {
        let mut taken = HashMap::new();
        for call in self.shared.calls.borrow().iter().filter(|call| call.taken) {
            *taken.entry(call.id().to_owned()).or_default() += 1;
        }
        taken
    }

    /// Waits until the requests so far fit.
    pub async fn until(&self, fits: impl FnMut(&Vec<Call>) -> bool) -> Vec<Call> {
        let mut calls = self.shared.calls.subscribe();
        let calls = calls.wait_for(fits).await.expect("the receiver lives");
        calls.clone()
    }

    /// Forgets what was received.
    pub fn forget(&self) {
        self.shared.calls.send_replace(Vec::new());
    }
}

type Reply = Response<BoxBody<Bytes, Dropped>>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Dropped> {
    let path = request.uri().to_string();
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let raw = request.into_body().collect().await.map_err(|_| Dropped)?.to_bytes().to_vec();
    let secret = shared.secret.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let signature = secret.map(|secret| verify(&secret, &headers, &raw));
    let fault = shared.script.take();
    let refused = signature.as_ref().is_some_and(Result::is_err);
    let mut call = Call {
        path,
        headers,
        body: serde_json::from_slice(&raw).unwrap_or_default(),
        raw,
        taken: !refused,
        answered: None,
        signature,
    };
    let reply = match fault {
        _ if refused => Some(plain(401, "The signature is wrong.")),
        None => Some(plain(200, "Accepted")),
        Some(Fault::Answer { status, headers, body }) => {
            call.taken = false;
            let mut reply = plain(status, &body);
            for (name, value) in headers {
                let name: hyper::header::HeaderName = name.parse().map_err(|_| Dropped)?;
                reply.headers_mut().insert(name, value.parse().map_err(|_| Dropped)?);
            }
            Some(reply)
        }
        Some(Fault::TakeThenAnswer(status)) => Some(plain(status, "")),
        Some(Fault::Drop) => {
            call.taken = false;
            None
        }
        Some(Fault::TakeThenDrop) => None,
        Some(fault @ (Fault::Hang | Fault::TakeThenHang)) => {
            call.taken = matches!(fault, Fault::TakeThenHang);
            record(&shared, call);
            std::future::pending::<()>().await;
            return Err(Dropped);
        }
        Some(Fault::CutBody) => Some(Response::new(Broken { endless: false, polls: 0 }.boxed())),
        Some(Fault::EndlessBody) => Some(Response::new(Broken { endless: true, polls: 0 }.boxed())),
        Some(Fault::TakeThenStall) => {
            Some(Response::new(StalledBody { text: "Accepted".into(), is_begun: false }.boxed()))
        }
        Some(Fault::Wait) => {
            record(&shared, call);
            let_go(&shared).await;
            return Ok(plain(200, "Accepted"));
        }
        Some(Fault::Slow(wait)) => {
            tokio::time::sleep(wait).await;
            Some(plain(200, "Accepted"))
        }
    };
    call.answered = reply.as_ref().map(|reply| reply.status().as_u16());
    record(&shared, call);
    reply.ok_or(Dropped)
}

async fn let_go(shared: &Shared) {
    if let Ok(permit) = shared.let_go.acquire().await {
        permit.forget();
    }
}

fn record(shared: &Shared, call: Call) {
    shared.calls.send_modify(|calls| calls.push(call));
}

fn plain(status: u16, body: &str) -> Reply {
    let body = Full::new(Bytes::from(body.to_owned())).map_err(|never: Infallible| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or_default();
    reply
}

/// Checks a signature as a receiver does: any `v1` entry will do, the time must be near.
fn verify(secret: &str, headers: &BTreeMap<String, String>, body: &[u8]) -> Result<(), String> {
    let header = |name: &str| headers.get(name).ok_or_else(|| format!("no {name}"));
    let (id, time, signatures) =
        (header("webhook-id")?, header("webhook-timestamp")?, header("webhook-signature")?);
    let seconds: i64 = time.parse().map_err(|_| "the time is no number".to_owned())?;
    let now = std::time::UNIX_EPOCH.elapsed().map_err(|error| error.to_string())?.as_secs();
    if (i64::try_from(now).unwrap_or(i64::MAX) - seconds).abs() > TOLERANCE {
        return Err("the time is not near".to_owned());
    }
    let key = STANDARD.decode(secret.trim_start_matches("whsec_")).map_err(|error| error.to_string())?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
    signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|tag| hmac::verify(&key, &signed, &tag).is_ok())
        .then_some(())
        .ok_or_else(|| "no signature fits".to_owned())
}

/// A body that promises more than it gives, or never ends.
struct Broken {
    endless: bool,
    polls: usize,
}

impl Body for Broken {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        self.polls += 1;
        match self.polls {
            2 => {
                // Time for what was written to leave before the connection breaks.
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            3 if !self.endless => std::task::Poll::Ready(Some(Err(Dropped))),
            _ => std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; 8 * 1024]))))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1 << 30)
    }
}
