//! The real binary as a child: what it weighs, how soon it answers, and what it keeps in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{Row, load, median};

/// A running service with a folder of its own. Killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) address: SocketAddr,
    _folder: Option<tempfile::TempDir>,
}

impl Service {
    /// Starts it in `folder`, or in a fresh one, and waits until it answers.
    pub(crate) async fn start(folder: Option<&Path>, variables: &[(&str, &str)]) -> Self {
        let fresh = folder.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
        let home = folder.or(fresh.as_ref().map(tempfile::TempDir::path)).expect("one of the two");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
        let address = free.local_addr().expect("a listener has an address");
        drop(free);
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let child = Command::new(env!("CARGO_BIN_EXE_lead-intake"))
            .env_clear()
            .env("BIND", address.to_string())
            .envs(variables)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut service = Self { child, address, _folder: fresh };
        while !service.answers().await {
            let ended = service.child.try_wait().expect("it can be waited for");
            assert!(ended.is_none(), "it ended at once: {ended:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        service
    }

    async fn answers(&self) -> bool {
        let request = b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n";
        match tokio::net::TcpStream::connect(self.address).await {
            Ok(mut connection) => load::post(&mut connection, request).await,
            Err(_) => false,
        }
    }

    /// The processor time of the service and of this process so far.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(&self.child.id().to_string()) + processor_time("self")
    }

    /// The memory that it has now, in MB (`VmRSS`, proc(5)).
    pub(crate) fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kilobytes.unwrap_or(f64::NAN) / 1_024.0
    }
}

/// The processor time of a process so far (Linux: ticks of 10 ms, proc(5)).
pub(crate) fn processor_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What it is and how it starts: with a webhook, on SQLite.
pub(crate) async fn rows() -> Vec<Row> {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_lead-intake")).map_or(0, |it| it.len());
    let hook = [("CRM_WEBHOOK_URL", "http://127.0.0.1:9/")];
    let (mut starts, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..11 {
        let began = Instant::now();
        let service = Service::start(None, &hook).await;
        starts.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(300)).await;
        idle.push(service.memory());
    }
    vec![
        Row::new("size of this binary, demo included", format!("{:.1} MB", size as f64 / 1e6), "15 MB"),
        Row::new("start to the first answer", format!("{:.0} ms", median(starts)), "50 ms"),
        Row::new("memory when idle", format!("{:.1} MB", median(idle)), "15 MB"),
    ]
}
