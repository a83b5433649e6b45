//! What the stand-ins of JSON APIs have in common: they record every request, meet it with a planned fault
//! where there is one, and leave the rest to the vendor's own rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::script::Script;
use crate::serve::{CutBody, Dropped, Server, StalledBody, serve};

/// What a request meets instead of the vendor's own answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer; nothing is done.
    Answer(Reply),
    /// The request is done, and then this answer comes all the same.
    ApplyThenAnswer(Reply),
    /// The connection is closed before anything is done.
    Drop,
    /// Nothing is done and no answer comes.
    Hang,
    /// The request is done and the connection closed without an answer.
    ApplyThenDrop,
    /// The request is done and the answer never comes.
    ApplyThenHang,
    /// The request is done, and the answer's body ends in the middle.
    ApplyThenCut,
    /// The request is done, and the answer's body stops in the middle and never ends.
    ApplyThenStall,
    /// The request is done, and the answer takes so long.
    Slow(Duration),
}

impl Fault {
    /// This status with a JSON body.
    pub fn json(status: u16, body: Value) -> Self {
        Self::Answer(Reply::new(status, body))
    }

    /// A gateway's page.
    pub fn html(status: u16) -> Self {
        Self::Answer(Reply::html(status))
    }
}

/// A fault for the requests that it is meant for: those whose method and path begin with this, such as
/// `POST /v1/notes`; an empty text means all.
pub type Planned = (String, Fault);

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers beside the content type.
    pub headers: Vec<(String, String)>,
    /// The body; a string stands for a page of HTML, null for no body.
    pub body: Value,
}

impl Reply {
    /// A JSON answer.
    pub fn new(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// A page, as gateways answer.
    pub fn html(status: u16) -> Self {
        Self::new(status, json!(format!("<html><body><h1>{status}</h1>cloudflare</body></html>")))
    }

    /// With a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: String,
    /// The path as it was sent, encoded, without the query.
    pub path: String,
    /// The query, decoded, in order.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; null where it is none.
    pub body: Value,
    /// What was answered; `None` where no answer went out.
    pub answered: Option<u16>,
}

impl Call {
    /// The segments of the path, decoded.
    pub fn segments(&self) -> Vec<String> {
        let segments = self.path.split('/').filter(|segment| !segment.is_empty());
        segments.map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned()).collect()
    }

    /// The method and the path, such as `POST /v1/notes`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A vendor's rules.
pub trait Vendor: Send + 'static {
    /// Does what a request asks for and answers as the vendor would.
    fn handle(&mut self, call: &Call) -> Reply;
}

/// A vendor's API on a free port of the loopback. Stops when dropped.
pub struct Api<V> {
    address: SocketAddr,
    shared: Arc<Shared<V>>,
    _server: Server,
}

struct Shared<V> {
    vendor: Mutex<V>,
    script: Script<Planned>,
    calls: watch::Sender<Vec<Call>>,
}

impl<V: Vendor> Api<V> {
    /// Starts it with these rules.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start(vendor: V) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let calls = watch::Sender::new(Vec::new());
        let shared = Arc::new(Shared { vendor: Mutex::new(vendor), script: Script::new(), calls });
        let handler = Arc::clone(&shared);
        let server = serve(listener, move |request| answer(Arc::clone(&handler), request));
        Self { address, shared, _server: server }
    }

    /// What stands before the API's own path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The vendor's books, to look at or to change.
    pub fn vendor(&self) -> MutexGuard<'_, V> {
        self.shared.vendor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request whose method and path begin with `on` meets `fault`.
    pub fn next(&self, on: &str, fault: Fault) {
        self.shared.script.next((on.to_owned(), fault));
    }

    /// Every request meets `fault` until [`Api::mend`].
    pub fn always(&self, fault: Fault) {
        self.shared.script.always((String::new(), fault));
    }

    /// All is well again.
    pub fn mend(&self) {
        self.shared.script.mend();
    }

    /// Whether anything is planned to go wrong.
    pub fn is_broken(&self) -> bool {
        self.shared.script.is_planned()
    }

    /// Every request so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.borrow().clone()
    }

    /// Waits until the requests so far fit.
    pub async fn until(&self, fits: impl FnMut(&Vec<Call>) -> bool) -> Vec<Call> {
        let mut calls = self.shared.calls.subscribe();
        let calls = calls.wait_for(fits).await.expect("the stand-in lives");
        calls.clone()
    }
}

type Answer = Response<BoxBody<Bytes, Dropped>>;

async fn answer<V: Vendor>(shared: Arc<Shared<V>>, request: Request<Incoming>) -> Result<Answer, Dropped> {
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    let mut call = Call {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: query.collect(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: Value::Null,
        answered: None,
    };
    let raw = request.into_body().collect().await.map_err(|_| Dropped)?.to_bytes();
    call.body = serde_json::from_slice(&raw).unwrap_or_default();
    let line = call.line();
    let fault = shared.script.take_if(|(on, _)| line.starts_with(on.as_str())).map(|(_, fault)| fault);
    let apply = || shared.vendor.lock().unwrap_or_else(PoisonError::into_inner).handle(&call);
    let (reply, comes) = match fault {
        None => (Some(apply()), Comes::Whole),
        Some(Fault::Answer(reply)) => (Some(reply), Comes::Whole),
        Some(Fault::ApplyThenAnswer(reply)) => {
            apply();
            (Some(reply), Comes::Whole)
        }
        Some(Fault::Drop) => (None, Comes::Whole),
        Some(Fault::ApplyThenDrop) => {
            apply();
            (None, Comes::Whole)
        }
        Some(fault @ (Fault::Hang | Fault::ApplyThenHang)) => {
            if matches!(fault, Fault::ApplyThenHang) {
                apply();
            }
            shared.calls.send_modify(|calls| calls.push(call));
            std::future::pending::<()>().await;
            return Err(Dropped);
        }
        Some(Fault::ApplyThenCut) => (Some(apply()), Comes::Cut),
        Some(Fault::ApplyThenStall) => (Some(apply()), Comes::Stalled),
        Some(Fault::Slow(wait)) => {
            let reply = apply();
            tokio::time::sleep(wait).await;
            (Some(reply), Comes::Whole)
        }
    };
    call.answered = reply.as_ref().map(|reply| reply.status);
    shared.calls.send_modify(|calls| calls.push(call));
    write(reply.ok_or(Dropped)?, comes)
}

/// How a body comes.
#[derive(Clone, Copy)]
enum Comes {
    Whole,
    Cut,
    Stalled,
}

fn write(reply: Reply, comes: Comes) -> Result<Answer, Dropped> {
    let (kind, text) = match reply.body {
        Value::Null => ("text/plain", String::new()),
        Value::String(page) => ("text/html", page),
        body => ("application/json", body.to_string()),
    };
    let mut response = Response::builder().status(reply.status).header("content-type", kind);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    let body = match comes {
        Comes::Whole => Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed(),
        Comes::Cut => CutBody { text: text.into(), polls: 0 }.boxed(),
        Comes::Stalled => StalledBody { text: text.into(), is_begun: false }.boxed(),
    };
    response.body(body).map_err(|_| Dropped)
}
