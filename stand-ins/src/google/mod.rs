//! Google: the token endpoint and the Sheets v4 methods that lead-intake uses, on one port. Rows land
//! where Google would put them, quotas answer Google's 429, and a test can play the person who sorts,
//! renames and deletes.

mod calls;
mod grid;
mod token;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use self::calls::{Book, Call, Refusal, refusal};
use crate::script::Script;
use crate::serve::{Dropped, Server, serve};
pub use calls::Kind;
pub use grid::Tab;
pub use token::TokenFault;

/// The window of a quota.
const MINUTE: Duration = Duration::from_secs(60);

/// What a call meets.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with Google's body for it; nothing is done.
    Status(u16),
    /// 403 with this message.
    Forbidden(&'static str),
    /// A status with a page of HTML, as a proxy gives it; nothing is done.
    Html(u16),
    /// 429 with Google's quota body; nothing is done.
    Quota,
    /// The connection is closed and nothing is done.
    Drop,
    /// Nothing is done and no answer comes.
    Hang,
    /// Done, and then this status.
    ApplyThenStatus(u16),
    /// Done, and the connection closed without an answer.
    ApplyThenDrop,
    /// Done, and no answer comes.
    ApplyThenHang,
    /// Done, and a 200 whose body is cut.
    ApplyThenCut,
    /// Done, and a 200 with `{}`.
    ApplyThenEmpty,
    /// The connection is closed, and the work is done when [`Google::apply_late`] says so.
    Late,
    /// 200, but one row fewer was written than was sent, as under a filter.
    LoseRow,
    /// A person turns the rows below the header of every tab upside down, and then it is done.
    TurnFirst,
    /// Answered after this long.
    Slow(Duration),
}

/// A call that was made.
#[derive(Clone, Debug)]
pub struct Logged {
    /// What it was.
    pub kind: Kind,
    /// The path and query as they came.
    pub path: String,
    /// How many rows it appended.
    pub rows: usize,
    /// What was answered; `None` where no answer went out.
    pub status: Option<u16>,
}

/// What tests watch.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every Sheets call.
    pub calls: Vec<Logged>,
    /// How many tokens were asked for.
    pub token_requests: usize,
}

impl Seen {
    /// How many calls of a kind were made.
    pub fn count(&self, kind: Kind) -> usize {
        self.calls.iter().filter(|call| call.kind == kind).count()
    }
}

/// The stand-in. Stops when dropped.
pub struct Google {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Server,
}

struct Shared {
    faults: Script<(On, Fault)>,
    token_faults: Script<TokenFault>,
    state: Mutex<State>,
    seen: watch::Sender<Seen>,
}

struct State {
    book: Book,
    late: Vec<Call>,
    tokens: HashMap<String, Instant>,
    issued: usize,
    quota: Option<(usize, usize)>,
    reads: VecDeque<Instant>,
    writes: VecDeque<Instant>,
    is_shared: bool,
    is_writable: bool,
    latency: Duration,
    names: Vec<String>,
}

/// Which calls a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Reads.
    Reads,
    /// `values.append`.
    Appends,
    /// Every other write.
    Writes,
    /// Any call.
    Any,
}

impl On {
    fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Reads => kind == Kind::Read,
            Self::Appends => kind == Kind::Append,
            Self::Writes => kind == Kind::Write,
            Self::Any => true,
        }
    }
}

impl Google {
    /// A fresh spreadsheet with one empty tab, `Sheet1`, shared with the account.
    ///
    /// # Panics
    /// When the loopback has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = State {
            book: Book::new("stand-in-spreadsheet"),
            late: Vec::new(),
            tokens: HashMap::new(),
            issued: 0,
            quota: None,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
            is_shared: true,
            is_writable: true,
            latency: Duration::ZERO,
            names: vec![format!("http://{address}")],
        };
        let shared = Arc::new(Shared {
            faults: Script::new(),
            token_faults: Script::new(),
            state: Mutex::new(state),
            seen: watch::Sender::new(Seen::default()),
        });
        let handler = Arc::clone(&shared);
        let server = serve(listener, move |request| answer(Arc::clone(&handler), request));
        Self { address, shared, _server: server }
    }

    /// What stands before the API's own path.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Something stands before it, and callers there know it by this address: keys for that are good, too.
    pub fn stand_behind(&self, url: &str) {
        self.state().names.push(url.to_owned());
    }

    /// The spreadsheet's id.
    pub fn spreadsheet_id(&self) -> String {
        self.state().book.id.clone()
    }

    /// The account's key file.
    pub fn credentials(&self) -> String {
        json!({
            "type": "service_account", "project_id": "stand-in", "private_key_id": "1", "private_key": token::KEY,
            "client_email": token::ACCOUNT, "client_id": "1", "token_uri": format!("{}/token", self.base_url()),
        })
        .to_string()
    }

    /// The next call of this sort meets `fault`.
    pub fn next(&self, on: On, fault: Fault) {
        self.shared.faults.next((on, fault));
    }

    /// Every call of this sort meets `fault`, until [`Google::mend`].
    pub fn always(&self, on: On, fault: Fault) {
        self.shared.faults.always((on, fault));
    }

    /// All is well again.
    pub fn mend(&self) {
        self.shared.faults.mend();
        self.shared.token_faults.mend();
        self.state().is_shared = true;
    }

    /// What the token endpoint meets.
    pub fn token_script(&self) -> &Script<TokenFault> {
        &self.shared.token_faults
    }

    /// Whether anything is planned to go wrong.
    pub fn is_broken(&self) -> bool {
        self.shared.faults.is_planned() || self.shared.token_faults.is_planned() || !self.state().is_shared
    }

    /// Does what [`Fault::Late`] held back; how many calls that were.
    pub fn apply_late(&self) -> usize {
        let mut state = self.state();
        let late = std::mem::take(&mut state.late);
        late.iter().filter(|call| state.book.apply(call).is_ok()).count()
    }

    /// Reads and writes allowed in any minute.
    pub fn set_quota(&self, reads: usize, writes: usize) {
        self.state().quota = Some((reads, writes));
    }

    /// How long every Sheets call takes.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Every token given out is worthless from now on.
    pub fn revoke_tokens(&self) {
        self.state().tokens.clear();
    }

    /// The owner takes the account off the sheet.
    pub fn unshare(&self) {
        self.state().is_shared = false;
    }

    /// The owner lets the account read the sheet, and no more.
    pub fn let_read_alone(&self) {
        self.state().is_writable = false;
    }

    /// A tab's cells as a person sees them, trailing emptiness left out.
    pub fn rows(&self, title: &str) -> Vec<Vec<String>> {
        let state = self.state();
        let Some(tab) = state.book.tabs.iter().find(|tab| tab.title == title) else { return Vec::new() };
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        tab.read(grid::Area::default(), false)
            .into_iter()
            .map(|row| row.into_iter().map(text).collect())
            .collect()
    }

    /// The rows below the header as maps from header to cell.
    pub fn records(&self, title: &str) -> Vec<HashMap<String, String>> {
        let rows = self.rows(title);
        let Some((head, rows)) = rows.split_first() else { return Vec::new() };
        let record = |row: &Vec<String>| {
            head.iter()
                .enumerate()
                .map(|(at, name)| (name.clone(), row.get(at).cloned().unwrap_or_default()))
                .collect()
        };
        rows.iter().filter(|row| !row.is_empty()).map(record).collect()
    }

    /// The tabs' names.
    pub fn tabs(&self) -> Vec<String> {
        self.state().book.tabs.iter().map(|tab| tab.title.clone()).collect()
    }

    /// A person's hands on a tab; it is made when it is not there.
    pub fn edit(&self, title: &str, hands: impl FnOnce(&mut Tab)) {
        let mut state = self.state();
        if !state.book.tabs.iter().any(|tab| tab.title == title) {
            let _ = state.book.apply(&Call::BatchUpdate {
                body: json!({"requests": [{"addSheet": {"properties": {"title": title}}}]}),
            });
        }
        if let Some(tab) = state.book.tabs.iter_mut().find(|tab| tab.title == title) {
            hands(tab);
        }
    }

    /// A person deletes a tab.
    pub fn delete_tab(&self, title: &str) {
        self.state().book.tabs.retain(|tab| tab.title != title);
    }

    /// Everything that was asked so far.
    pub fn seen(&self) -> Seen {
        self.shared.seen.borrow().clone()
    }

    /// Waits until what was asked fits.
    pub async fn until(&self, fits: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        let seen = seen.wait_for(fits).await.expect("the stand-in lives");
        seen.clone()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        self.shared.seen.send_replace(Seen::default());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Reply = Response<BoxBody<Bytes, Dropped>>;

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Reply, Dropped> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    if head.uri.path() == "/token" {
        return token(&shared, &body).await;
    }
    let authorization =
        head.headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let query = head.uri.query().map(form).unwrap_or_default();
    let spreadsheet = head.uri.path().strip_prefix("/v4/spreadsheets/");
    let parsed = spreadsheet.and_then(|rest| {
        let end = rest.find(['/', ':']).unwrap_or(rest.len());
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Some((rest[..end].to_owned(), Call::read(head.method.as_str(), &rest[end..], &query, body)?))
    });
    let Some((id, call)) = parsed else {
        return Ok(reply(
            404,
            "text/html",
            "<html><title>Error 404 (Not Found)!!1</title></html>".to_owned(),
        ));
    };
    let (kind, rows) = (call.kind(), call.rows());
    let fault = shared.faults.take_if(|(on, _)| on.fits(kind)).map(|(_, fault)| fault);
    let latency = shared.state().latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    if let Some(Fault::Slow(wait)) = &fault {
        tokio::time::sleep(*wait).await;
    }
    let reply = met(&shared, authorization.as_deref(), &id, call, fault.as_ref());
    let status = match &reply {
        Met::Reply(reply) => Some(reply.status().as_u16()),
        Met::Closed | Met::Silent => None,
    };
    shared.seen.send_modify(|seen| seen.calls.push(Logged { kind, path, rows, status }));
    match reply {
        Met::Reply(reply) => Ok(reply),
        Met::Closed => Err(Dropped),
        Met::Silent => std::future::pending().await,
    }
}

/// What becomes of a call.
enum Met {
    Reply(Reply),
    Closed,
    Silent,
}

fn met(shared: &Shared, authorization: Option<&str>, id: &str, mut call: Call, fault: Option<&Fault>) -> Met {
    let mut state = shared.state();
    let refused = |(code, body): Refusal| Met::Reply(json_reply(code, &body));
    if let Err(refusal) = state.admit(authorization, id, call.kind()) {
        return refused(refusal);
    }
    match fault {
        Some(Fault::Status(code)) => return refused(refusal(*code, message(*code))),
        Some(Fault::Forbidden(why)) => return refused(refusal(403, why)),
        Some(Fault::Html(code)) => {
            return Met::Reply(reply(*code, "text/html", "<html><title>Error</title></html>".to_owned()));
        }
        Some(Fault::Quota) => return refused(quota(call.kind())),
        Some(Fault::Drop) => return Met::Closed,
        Some(Fault::Hang) => return Met::Silent,
        Some(Fault::Late) => {
            state.late.push(call);
            return Met::Closed;
        }
        _ => {}
    }
    if let (Some(Fault::LoseRow), Call::Append { body, .. }) = (fault, &mut call)
        && let Some(values) = body["values"].as_array_mut()
    {
        values.pop();
    }
    if let Some(Fault::TurnFirst) = fault {
        state.book.tabs.iter_mut().for_each(Tab::turn);
    }
    let done = match state.book.apply(&call) {
        Ok(done) => done,
        Err(refusal) => return refused(refusal),
    };
    match fault {
        Some(Fault::ApplyThenStatus(code)) => refused(refusal(*code, message(*code))),
        Some(Fault::ApplyThenDrop) => Met::Closed,
        Some(Fault::ApplyThenHang) => Met::Silent,
        Some(Fault::ApplyThenCut) => {
            Met::Reply(reply(200, "application/json", "{\"spreadsheetId\":\"st".to_owned()))
        }
        Some(Fault::ApplyThenEmpty) => Met::Reply(json_reply(200, &json!({}))),
        _ => Met::Reply(json_reply(200, &done)),
    }
}

impl State {
    /// Token, share, spreadsheet and quota.
    fn admit(&mut self, authorization: Option<&str>, id: &str, kind: Kind) -> Result<(), Refusal> {
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(refusal(
                403,
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API consumer identity to call this API.",
            ));
        };
        if self.tokens.get(token).is_none_or(|ends| *ends < Instant::now()) {
            return Err(refusal(401, message(401)));
        }
        if id != self.book.id {
            return Err(refusal(404, message(404)));
        }
        if !self.is_shared || (kind != Kind::Read && !self.is_writable) {
            return Err(refusal(403, message(403)));
        }
        let Some((reads, writes)) = self.quota else { return Ok(()) };
        let (times, limit) =
            if kind == Kind::Read { (&mut self.reads, reads) } else { (&mut self.writes, writes) };
        let now = Instant::now();
        while times.front().is_some_and(|time| now.duration_since(*time) >= MINUTE) {
            times.pop_front();
        }
        if times.len() >= limit {
            return Err(quota(kind));
        }
        times.push_back(now);
        Ok(())
    }
}

async fn token(shared: &Shared, body: &[u8]) -> Result<Reply, Dropped> {
    shared.seen.send_modify(|seen| seen.token_requests += 1);
    let fault = shared.token_faults.take();
    match fault {
        Some(TokenFault::Answer(code, body)) => return Ok(reply(code, "application/json", body)),
        Some(TokenFault::Hang) => return std::future::pending().await,
        Some(TokenFault::Drop) => return Err(Dropped),
        Some(TokenFault::NoExpiry) | None => {}
    }
    let audiences: Vec<_> = shared.state().names.iter().map(|name| format!("{name}/token")).collect();
    if let Err(error) = token::grant(body, &audiences) {
        return Ok(json_reply(400, &error));
    }
    let mut state = shared.state();
    state.issued += 1;
    let token = format!("ya29.stand-in-{}", state.issued);
    state.tokens.insert(token.clone(), Instant::now() + Duration::from_secs(3_600));
    let mut answer = json!({"access_token": token, "expires_in": 3_599, "token_type": "Bearer"});
    if let (Some(TokenFault::NoExpiry), Some(fields)) = (fault, answer.as_object_mut()) {
        fields.remove("expires_in");
    }
    Ok(json_reply(200, &answer))
}

fn message(code: u16) -> &'static str {
    match code {
        400 => "Invalid values[1][1]: list_value",
        401 => {
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
        }
        403 => "The caller does not have permission",
        404 => "Requested entity was not found.",
        503 => "The service is currently unavailable.",
        _ => "Internal error encountered.",
    }
}

fn quota(kind: Kind) -> Refusal {
    let (word, metric, limit) = match kind {
        Kind::Read => ("Read", "read_requests", "ReadRequestsPerMinutePerUser"),
        Kind::Append | Kind::Write => ("Write", "write_requests", "WriteRequestsPerMinutePerUser"),
    };
    let text = format!(
        "Quota exceeded for quota metric '{word} requests' and limit '{word} requests per minute per user' of service 'sheets.googleapis.com' for consumer 'project_number:1'."
    );
    let (code, mut body) = refusal(429, &text);
    body["error"]["details"] = json!([{
        "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED", "domain": "googleapis.com",
        "metadata": {"service": "sheets.googleapis.com", "consumer": "projects/1", "quota_limit": limit,
            "quota_metric": format!("sheets.googleapis.com/{metric}"), "quota_limit_value": "60"},
    }]);
    (code, body)
}

/// Form-decodes a query.
fn form(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
    };
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

fn json_reply(code: u16, body: &Value) -> Reply {
    reply(code, "application/json; charset=UTF-8", body.to_string())
}

fn reply(code: u16, kind: &'static str, body: String) -> Reply {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {});
    let mut reply = Response::new(body.boxed());
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or_default();
    reply.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    reply
}
