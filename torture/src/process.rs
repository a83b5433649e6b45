//! The service as a process: started, listened to, killed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::base::Limit;

/// How a service is started.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Where it stands.
    pub(crate) folder: PathBuf,
    /// Its whole environment.
    pub(crate) variables: BTreeMap<String, String>,
    /// What a running service has beyond: a wall clock that can be moved.
    pub(crate) clock: BTreeMap<String, String>,
    /// What a running service lives under where no disk of its own can be filled.
    pub(crate) limit: Option<Limit>,
}

impl Recipe {
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir(&self.folder).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn spawn(&self) -> std::io::Result<Child> {
        match &self.limit {
            None => self.command(&self.binary).envs(&self.clock).spawn(),
            Some(limit) => {
                let spawn = |script| {
                    let mut shell = self.command(Path::new("/bin/sh"));
                    shell.args(["-c", script]).arg(&self.binary).envs(&self.clock).spawn()
                };
                limit.start(spawn, Child::id)
            }
        }
    }

    /// Runs a command of it to its end: whether it succeeded, its output, and what it said beside.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        match self.command(&self.binary).args(arguments).output().await {
            Ok(ended) => (
                ended.status.success(),
                String::from_utf8_lossy(&ended.stdout).into_owned(),
                String::from_utf8_lossy(&ended.stderr).into_owned(),
            ),
            Err(error) => (false, String::new(), error.to_string()),
        }
    }

    /// Starts it.
    pub(crate) fn start(&self) -> std::io::Result<Process> {
        let mut child = self.spawn()?;
        let (lines, heard) = (Arc::new(Mutex::new(Vec::new())), watch::Sender::new(0));
        let (log, counted) = (Arc::clone(&lines), heard.subscribe());
        let stderr = child.stderr.take();
        #[expect(clippy::disallowed_methods, reason = "it ends with what it listens to")]
        let listener = tokio::spawn(async move {
            let Some(stderr) = stderr else { return };
            let mut read = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = read.next_line().await {
                locked(&log).push(line);
                heard.send_modify(|count| *count += 1);
            }
        });
        Ok(Process { child, lines, counted, listener, limit: self.limit.clone() })
    }
}

/// A running service.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    counted: watch::Receiver<usize>,
    listener: JoinHandle<()>,
    limit: Option<Limit>,
}

impl Process {
    /// The address that it listens on; `None`: it ended before.
    pub(crate) async fn listening(&self) -> Option<SocketAddr> {
        let line = self.said("listening", 1, 0).await?;
        line["address"].as_str()?.parse().ok()
    }

    /// Waits for the `nth` line after the first `from` ones whose message begins so; `None`: it ended before.
    pub(crate) async fn said(&self, message: &str, mut nth: u32, mut from: usize) -> Option<Value> {
        let mut counted = self.counted.clone();
        // A line holds its message in this form, so most lines need not be parsed.
        let mark = format!("\"message\":\"{message}");
        loop {
            {
                let lines = locked(&self.lines);
                for line in lines.get(from..).unwrap_or_default() {
                    from += 1;
                    if line.contains(&mark) {
                        nth = nth.saturating_sub(1);
                        if nth == 0 {
                            return serde_json::from_str(line).ok();
                        }
                    }
                }
            }
            counted.changed().await.ok()?;
        }
    }

    /// How many lines it has logged.
    pub(crate) fn count(&self) -> usize {
        locked(&self.lines).len()
    }

    /// SIGTERM.
    pub(crate) async fn ask_to_stop(&self) {
        if let Some(id) = self.child.id() {
            let _ = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
        }
    }

    /// Whether it has ended by itself; then how.
    pub(crate) fn has_ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// SIGKILL, if it still runs; what it logged.
    pub(crate) async fn kill(mut self) -> Vec<String> {
        // Its number may be another process's from its death on.
        if let Some(limit) = &self.limit {
            limit.ended();
        }
        let _ = self.child.kill().await;
        let _ = self.listener.await;
        std::mem::take(&mut *locked(&self.lines))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
