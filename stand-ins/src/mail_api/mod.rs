//! The mail APIs of Resend, Postmark and SendGrid behind one address; the path says whose call it is.
//!
//! It keeps every mail that it took, apart from what it answered, so that a test can tell a mail that was
//! taken twice from an answer that was lost once. As at Resend, a repeat under the same key is no mail.

mod read;
mod vendor;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::script::Script;
use crate::serve::{Dropped, Server, serve};
pub use read::Mail;
pub use vendor::{Reply, Vendor};

/// How long Resend remembers a key.
const KEY_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// What a request meets instead of the ordinary.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer; no mail is taken.
    Answer(Reply),
    /// The mail is taken, and then this comes all the same.
    TakeThenAnswer(Reply),
    /// The connection is closed before anything is taken.
    Drop,
    /// Nothing is taken and no answer comes.
    Hang,
    /// The mail is taken and the connection closed without an answer.
    TakeThenDrop,
    /// The mail is taken and the answer never comes.
    TakeThenHang,
    /// The mail is taken, and the answer that says so ends in the middle.
    TakeThenCut,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as it came.
    pub raw: Vec<u8>,
    /// What was answered; `None` where no answer went out.
    pub answered: Option<u16>,
    /// What the vendor would not like about its shape.
    pub wrong: Option<String>,
}

/// The stand-in. Stops when dropped.
pub struct MailApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    script: Script<Fault>,
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
}

/// What it was asked, and what it did.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every request.
    pub calls: Vec<Call>,
    /// Every mail that was taken.
    pub mails: Vec<Mail>,
}

#[derive(Default)]
struct State {
    /// Resend's keys: the body, the id, and when it was.
    keys: HashMap<String, (Vec<u8>, String, Duration)>,
    in_flight: HashSet<String>,
    /// What the clock shows.
    now: Duration,
    suppressed: Vec<String>,
    can_only_send: bool,
    scopes: Option<Vec<String>>,
}

impl MailApi {
    /// A server on a free port.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            script: Script::new(),
            state: Mutex::default(),
            seen: watch::Sender::new(Seen::default()),
        });
        let handler = Arc::clone(&shared);
        let server = serve(listener, move |request| answer(Arc::clone(&handler), request));
        Self { address, shared, _server: server }
    }

    /// What `mail.base_url` is to be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the next requests meet.
    pub fn script(&self) -> &Script<Fault> {
        &self.shared.script
    }

    /// From now on mails to these go nowhere: Postmark says so, the others take them all the same.
    pub fn suppress(&self, addresses: &[&str]) {
        self.shared.state().suppressed = addresses.iter().map(|&address| address.to_owned()).collect();
    }

    /// From now on Resend's key may send and nothing else.
    pub fn only_sending(&self) {
        self.shared.state().can_only_send = true;
    }

    /// From now on SendGrid's key has these scopes.
    pub fn scopes(&self, scopes: &[&str]) {
        self.shared.state().scopes = Some(scopes.iter().map(|&scope| scope.to_owned()).collect());
    }

    /// Lets time go by: Resend forgets a key after a day.
    pub fn advance(&self, by: Duration) {
        let mut state = self.shared.state();
        state.now += by;
        let now = state.now;
        state.keys.retain(|_, (_, _, at)| now - *at < KEY_KEPT);
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.seen.borrow().calls.clone()
    }

    /// Every mail that was taken so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.seen.borrow().mails.clone()
    }

    /// Waits until what was seen so far fits.
    pub async fn until(&self, fits: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let seen = seen.wait_for(fits).await.expect("the stand-in lives");
        seen.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer = Response<BoxBody<Bytes, Dropped>>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Dropped> {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let headers: BTreeMap<_, _> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let raw = request.into_body().collect().await.map_err(|_| Dropped)?.to_bytes().to_vec();
    let mut call = Call { method, path, headers, raw, answered: None, wrong: None };
    let fault = shared.script.take();
    let takes = !matches!(fault, Some(Fault::Answer(_) | Fault::Drop | Fault::Hang));
    let ordinary = if takes { ordinary(&shared, &mut call) } else { Reply::status(200) };
    let in_flight = InFlight::of(&shared, &call, matches!(fault, Some(Fault::TakeThenHang)));
    let is_refused = takes && !(200..300).contains(&ordinary.status);
    let cut = matches!(fault, Some(Fault::TakeThenCut)) && !is_refused;
    let reply = match fault {
        // A fault makes no mail of what was refused.
        _ if is_refused => Some(ordinary),
        None | Some(Fault::TakeThenCut) => Some(ordinary),
        Some(Fault::Answer(reply) | Fault::TakeThenAnswer(reply)) => Some(reply),
        Some(Fault::Drop | Fault::TakeThenDrop) => None,
        Some(Fault::Hang | Fault::TakeThenHang) => {
            record(&shared, call);
            std::future::pending::<()>().await;
            drop(in_flight);
            return Err(Dropped);
        }
    };
    call.answered = reply.as_ref().map(|reply| reply.status);
    record(&shared, call);
    written(reply.ok_or(Dropped)?, cut)
}

fn record(shared: &Shared, call: Call) {
    shared.seen.send_modify(|seen| seen.calls.push(call));
}

/// What the vendor does when nothing is the matter.
fn ordinary(shared: &Shared, call: &mut Call) -> Reply {
    let (vendor, sends) = match (call.method.as_str(), call.path.as_str()) {
        ("POST", "/emails") => (Vendor::Resend, true),
        ("GET", "/domains") => (Vendor::Resend, false),
        ("POST", "/email") => (Vendor::Postmark, true),
        ("GET", "/server") => (Vendor::Postmark, false),
        ("POST", "/v3/mail/send") => (Vendor::SendGrid, true),
        ("GET", "/v3/scopes") => (Vendor::SendGrid, false),
        _ => return Reply::json(404, &json!({ "message": "nothing is here" })),
    };
    if let Err(reply) = vendor.admits(&call.headers) {
        return reply;
    }
    if !sends {
        let state = shared.state();
        return vendor.looks(state.can_only_send, state.scopes.as_deref());
    }
    match read::mail(vendor, call) {
        Ok(mail) => take(shared, mail),
        Err(wrong) => {
            let reply = vendor.dislikes(&wrong);
            call.wrong = Some(wrong);
            reply
        }
    }
}

/// Takes a mail, unless it is a repeat, or Postmark knows that nobody would get it.
fn take(shared: &Shared, mut mail: Mail) -> Reply {
    let mut state = shared.state();
    let is_suppressed = state.suppressed.contains(&mail.to);
    if is_suppressed && mail.vendor == Vendor::Postmark {
        return Reply::postmark(422, 406, &format!("{} is inactive after a hard bounce.", mail.to));
    }
    mail.dropped = is_suppressed;
    let id = format!("00000000-0000-4000-8000-{:012}", shared.seen.borrow().mails.len() + 1);
    if let Some(key) = &mail.key {
        if state.in_flight.contains(key) {
            return Reply::resend(409, "concurrent_idempotent_requests", "This key is being worked on.");
        }
        match state.keys.get(key) {
            Some((body, id, _)) if *body == mail.raw => return mail.vendor.takes(id),
            Some(_) => {
                return Reply::resend(409, "invalid_idempotent_request", "This key had another body.");
            }
            None => {}
        }
        let now = state.now;
        state.keys.insert(key.clone(), (mail.raw.clone(), id.clone(), now));
    }
    let reply = mail.vendor.takes(&id);
    shared.seen.send_modify(|seen| seen.mails.push(mail));
    reply
}

/// A key whose request has not ended.
struct InFlight<'a>(&'a Shared, Option<String>);

impl<'a> InFlight<'a> {
    fn of(shared: &'a Shared, call: &Call, hangs: bool) -> Self {
        let key = call.headers.get("idempotency-key").filter(|_| hangs).cloned();
        shared.state().in_flight.extend(key.clone());
        Self(shared, key)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(key) = &self.1 {
            self.0.state().in_flight.remove(key);
        }
    }
}

fn written(reply: Reply, cut: bool) -> Result<Answer, Dropped> {
    let body = if cut {
        Cut(Some(reply.body)).boxed()
    } else {
        Full::new(Bytes::from(reply.body)).map_err(|never: Infallible| match never {}).boxed()
    };
    let mut answer = Response::new(body);
    *answer.status_mut() = hyper::StatusCode::from_u16(reply.status).unwrap_or_default();
    for (name, value) in reply.headers {
        let name: HeaderName = name.parse().map_err(|_| Dropped)?;
        answer.headers_mut().insert(name, HeaderValue::from_str(&value).map_err(|_| Dropped)?);
    }
    Ok(answer)
}

/// A body that promises more than it gives.
struct Cut(Option<String>);

impl Body for Cut {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        match self.0.take() {
            Some(text) if !text.is_empty() => {
                let half = Bytes::from(text.into_bytes()).split_to(3);
                self.0 = Some(String::new());
                std::task::Poll::Ready(Some(Ok(Frame::data(half))))
            }
            Some(_) => {
                // Time for what was written to leave before the connection breaks.
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            None => std::task::Poll::Ready(Some(Err(Dropped))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(1 << 10)
    }
}
