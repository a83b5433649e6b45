//! Google: the token endpoint and the Sheets v4 methods that lead-intake uses, on one port. Rows land
//! where Google would put them, quotas answer Google's 429, and a test can play the person who sorts,
//! renames and deletes.

mod answer;
mod calls;
mod fault;
mod grid;
mod token;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use self::calls::{Book, Call};
use crate::script::Script;
use crate::serve::{Server, serve};
pub use calls::Kind;
pub use fault::{Fault, On};
pub use grid::Tab;
pub use token::TokenFault;

/// The window of a quota.
const MINUTE: Duration = Duration::from_secs(60);

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
    /// How many calls have come to a [`Fault::Wait`].
    pub waited: usize,
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
    gate: Semaphore,
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
    /// The tabs that the account may not write to, and the status that says so.
    protected: Vec<(String, u16)>,
    /// Rows that hold one of these are refused, and every other row of the same call with them.
    refused: Vec<String>,
    latency: Duration,
    names: Vec<String>,
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
            protected: Vec::new(),
            refused: Vec::new(),
            latency: Duration::ZERO,
            names: vec![format!("http://{address}")],
        };
        let shared = Arc::new(Shared {
            faults: Script::new(),
            token_faults: Script::new(),
            state: Mutex::new(state),
            seen: watch::Sender::new(Seen::default()),
            gate: Semaphore::new(0),
        });
        let handler = Arc::clone(&shared);
        let server = serve(listener, move |request| answer::answer(Arc::clone(&handler), request));
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
        let mut state = self.state();
        (state.is_shared, state.is_writable) = (true, true);
        state.protected.clear();
        state.refused.clear();
    }

    /// One call that waits goes on.
    pub fn go_on(&self) {
        self.shared.gate.add_permits(1);
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

    /// The owner protects a tab against the account, which Google says with 400 or 403.
    pub fn protect(&self, title: &str, status: u16) {
        self.state().protected.push((title.to_owned(), status));
    }

    /// A row that holds this text is refused, and with it the whole call.
    pub fn refuse(&self, text: &str) {
        self.state().refused.push(text.to_owned());
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
