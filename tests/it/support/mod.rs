//! The real binary, as an operator starts it, and a plain client before it.

pub(crate) mod postgres;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{Mutex as Gate, OwnedMutexGuard, watch};

/// Nothing here takes longer than this, unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits, but not for ever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it never came to that")
}

/// A command of the real binary with an empty environment.
pub(crate) fn binary(folder: &Path, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lead-intake"));
    command.env_clear().current_dir(folder).envs(variables.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A service under test, with its own folder and port.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: String,
    pub(crate) folder: Arc<tempfile::TempDir>,
    log: Arc<Mutex<Vec<String>>>,
    lines: watch::Receiver<usize>,
    reading: Arc<Gate<()>>,
    client: reqwest::Client,
    variables: BTreeMap<String, String>,
    /// Files that the configuration names; kept as long as the service.
    pub(crate) beside: Option<tempfile::TempDir>,
}

impl Service {
    /// Starts it with these variables, in a fresh folder.
    pub(crate) async fn start(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), variables.collect()).await
    }

    async fn start_in(folder: Arc<tempfile::TempDir>, variables: BTreeMap<String, String>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pairs: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut command = binary(folder.path(), &pairs);
        command.env("LEAD_INTAKE__LOG__FORMAT", "json");
        if !variables.contains_key("BIND") {
            command.env("BIND", "127.0.0.1:0");
        }
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (log, counted) = (Arc::new(Mutex::new(Vec::new())), watch::Sender::new(0));
        let (seen, lines_seen) = (Arc::clone(&log), counted.subscribe());
        let reading = Arc::new(Gate::new(()));
        let may_read = Arc::clone(&reading);
        #[expect(clippy::disallowed_methods, reason = "a test ends with its tasks")]
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _turn = may_read.lock().await;
                seen.lock().unwrap().push(line);
                counted.send_modify(|count| *count += 1);
            }
        });
        let mut service = Self {
            child,
            address: String::new(),
            folder,
            log,
            lines: lines_seen,
            reading,
            client: client(),
            variables,
            beside: None,
        };
        let line = service.until_logged("listening").await;
        service.address = line["address"].as_str().unwrap().to_owned();
        service
    }

    /// Waits for a log line with this message.
    pub(crate) async fn until_logged(&self, message: &str) -> Value {
        let mut lines = self.lines.clone();
        let found = || {
            let log = self.log.lock().unwrap();
            let parsed = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            parsed
                .into_iter()
                .find(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message)))
        };
        let wait = async {
            loop {
                if let Some(line) = found() {
                    return line;
                }
                if lines.changed().await.is_err() {
                    panic!("it ended without saying `{message}`:\n{}", self.log());
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("never logged {message}:\n{}", self.log()))
    }

    /// Everything that was logged so far; after [`Service::terminate`] every line.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// While what this gives is kept, nobody reads the log: the pipe fills.
    pub(crate) async fn leave_unread(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.reading).lock_owned().await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Posts a lead as JSON.
    pub(crate) async fn submit(&self, lead: &Value) -> (u16, Value) {
        self.submit_with(lead, &[]).await
    }

    pub(crate) async fn submit_with(&self, lead: &Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = self.client.post(self.url("/api/submit")).json(lead);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Posts a lead that must be taken; its id.
    pub(crate) async fn accepted(&self, lead: &Value) -> String {
        let (status, body) = self.submit(lead).await;
        assert_eq!(status, 200, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(self.url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub(crate) async fn health(&self) -> Value {
        serde_json::from_str(&self.get("/health").await.1).unwrap()
    }

    /// Runs another command on the same configuration and store.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> (i32, String) {
        self.cli_with(&[], arguments).await
    }

    /// Runs it with some variables changed.
    pub(crate) async fn cli_with(&self, changed: &[(&str, &str)], arguments: &[&str]) -> (i32, String) {
        let own = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs: Vec<_> = own.chain(changed.iter().copied()).collect();
        let ended = binary(self.folder.path(), &pairs).args(arguments).output().await.unwrap();
        let text = [ended.stdout, ended.stderr].concat();
        (ended.status.code().unwrap_or(-1), String::from_utf8(text).unwrap())
    }

    /// A lead's record, as `leads show --json` has it.
    pub(crate) async fn lead(&self, id: &str) -> Value {
        let (code, text) = self.cli(&["leads", "show", id, "--json"]).await;
        assert_eq!(code, 0, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// One delivery of a lead.
    pub(crate) async fn delivery(&self, id: &str, destination: &str) -> Value {
        let lead = self.lead(id).await;
        let name = format!("{id}/{destination}");
        let deliveries = lead["deliveries"].as_array().unwrap().clone();
        deliveries.into_iter().find(|delivery| delivery["id"] == json!(name)).unwrap()
    }

    /// Makes every delivery due, in the place of a wait.
    pub(crate) fn hasten(&self) {
        let store = rusqlite::Connection::open(self.folder.path().join("data/lead-intake.db")).unwrap();
        store.busy_timeout(PATIENCE).unwrap();
        // One that is under way is due when its lease ends.
        let due = "UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL";
        store.execute(due, []).unwrap();
    }

    /// Asks again and again until a delivery is in this state.
    pub(crate) async fn until_state(&self, id: &str, destination: &str, state: &str) -> Value {
        self.until_delivery(id, destination, |delivery| delivery["state"] == state).await
    }

    /// Asks again and again until a delivery fits.
    pub(crate) async fn until_delivery(
        &self,
        id: &str,
        destination: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Value {
        let wait = async {
            loop {
                // A lead that waits in the second home is not there yet.
                if self.cli(&["leads", "show", id]).await.0 != 0 {
                    continue;
                }
                let delivery = self.delivery(id, destination).await;
                if fits(&delivery) {
                    return delivery;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .unwrap_or_else(|_| panic!("{id}/{destination} never fits:\n{}", self.log()))
    }

    /// SIGTERM.
    pub(crate) async fn ask_to_end(&self) {
        let id = self.child.id().unwrap().to_string();
        Command::new("kill").args(["-TERM", &id]).status().await.unwrap();
    }

    /// SIGTERM, and the end of it and of its log.
    pub(crate) async fn terminate(&mut self) -> i32 {
        self.ask_to_end().await;
        let code = self.end().await;
        soon(async { while self.lines.changed().await.is_ok() {} }).await;
        code
    }

    /// Waits for the end.
    pub(crate) async fn end(&mut self) -> i32 {
        soon(self.child.wait()).await.unwrap().code().unwrap_or(-1)
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// The same configuration on the same folder, once more.
    pub(crate) async fn again(&self) -> Self {
        self.again_with(&[]).await
    }

    /// The same, with these variables changed.
    pub(crate) async fn again_with(&self, changed: &[(&str, &str)]) -> Self {
        let mut variables = self.variables.clone();
        variables.extend(changed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self::start_in(Arc::clone(&self.folder), variables).await
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

/// A submission with everything in it.
pub(crate) fn ada() -> Value {
    json!({
        "email": "ada@example.com", "name": "Ada Lovelace", "phone": "+44 20 7946 0018",
        "source": {"url": "https://example.com/contact?utm_source=news", "utm_source": "news", "gclid": "g-1"},
        "form_name": "contact", "consent_given": true, "timezone": "Europe/London",
        "form_data": {"message": "Hello", "budget": 5000, "topics": ["a", "b"]},
    })
}
