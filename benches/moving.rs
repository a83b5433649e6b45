//! A whole store from SQLite to PostgreSQL and back, by the real binary: leads a second, and the most memory that
//! it took.
//!
//! `cargo bench --bench moving` (200,000 leads, each with four deliveries that have arrived and what was noted of them)
//! or `cargo bench --bench moving -- 20000`

#[path = "../tests/it/support/postgres.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it belongs to the tests, which do more with it")]
mod postgres;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lead_intake::clock::Clock;
use lead_intake::delivery::{Attempt, AttemptOutcome, Birth, Entry, Kind, Planned, Receipt, Settlement};
use lead_intake::id::LeadId;
use lead_intake::lead::Lead;
use lead_intake::store::sqlite::Sqlite;
use lead_intake::store::{Accepted, Settle, Store};

const LEADS: usize = 200_000;

/// How many are accepted side by side.
const AT_ONCE: usize = 500;

fn main() {
    let asked = std::env::args().find_map(|argument| argument.parse().ok());
    let leads = asked.unwrap_or(LEADS);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (first, last) = (folder.path().join("first.db"), folder.path().join("last.db"));
    let server = postgres::Server::start();
    let middle = runtime.block_on(async {
        fill(&first, leads).await;
        server.database().await
    });
    let url = |path: &Path| format!("sqlite://{}", path.display());
    moves("SQLite to PostgreSQL", &url(&first), &middle, leads);
    moves("once more, nothing to bring", &url(&first), &middle, leads);
    moves("PostgreSQL to SQLite", &middle, &url(&last), leads);
}

fn moves(what: &str, from: &str, to: &str, leads: usize) {
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_lead-intake"))
        .args(["migrate", "--from", from, "--to", to])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let end = loop {
        let seen = std::fs::read_to_string(&status).unwrap_or_default();
        let peak = seen.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        most = kilobytes.unwrap_or(0).max(most);
        if let Some(end) = child.try_wait().expect("it can be waited for") {
            break end;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(end.success(), "{what}: {end}");
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{what}: {leads} leads in {seconds:.1} s, {:.0} a second with the comparison; at most {} MB of memory",
        leads as f64 / seconds,
        most / 1_024
    );
}

async fn fill(path: &Path, leads: usize) {
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(path, Clock::system()).expect("a store"));
    let mut left = leads;
    while left > 0 {
        let some = left.min(AT_ONCE);
        futures_util::future::join_all((0..some).map(|_| one(store.as_ref()))).await;
        left -= some;
    }
    store.close().await;
}

async fn one(store: &dyn Store) {
    let clock = Clock::system();
    let lead: Lead = serde_json::from_value(serde_json::json!({
        "id": LeadId::fresh(), "received_at": clock.now(), "email": "ada@example.com", "name": "Ada Lovelace",
        "phone": "+442079460018", "timezone": "Europe/London", "form_name": "contact", "consent_given": true,
        "source": {"url": "https://example.com/contact?utm_source=news", "utm_source": "news", "utm_campaign": "autumn"},
        "form_data": {"company_size": "11 to 50", "message": "Could you send us an offer?"},
    }))
    .expect("a lead");
    let lease = Duration::from_secs(60);
    let destinations =
        [("sheet", Kind::Sheet), ("hubspot", Kind::Crm), ("crm", Kind::Crm), ("notification", Kind::Mail)];
    let planned = destinations.map(|(name, kind)| Planned {
        destination: name.parse().expect("a name"),
        kind,
        birth: Birth::Claimed { lease },
    });
    let entry = Entry { digest: lead.submitted.digest(), lead: Arc::new(lead), deliveries: planned.into() };
    let Ok(Accepted::New(claims)) = store.accept(Arc::new(entry)).await else { panic!("it was not taken") };
    let settled = claims.into_iter().map(|claim| {
        let attempt = Attempt {
            number: claim.attempt,
            started_at: clock.now(),
            finished_at: clock.now(),
            outcome: AttemptOutcome::Delivered,
            code: "ok".to_owned(),
            detail: String::new(),
        };
        store.settle(Settle {
            claim,
            attempt,
            settlement: Settlement::Delivered(Receipt::of("12345")),
            signal: None,
        })
    });
    for settled in futures_util::future::join_all(settled).await {
        assert!(settled.expect("it is settled").changed);
    }
}
