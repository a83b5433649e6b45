//! Leads through Google Sheets at 300 ms a call and 60 writes a minute: the whole service against the
//! stand-in, which answers 429 to the 61st write of any minute.
//!
//! `cargo bench --bench sheet` (2,000 leads a second for 20 seconds)

#[path = "support/load.rs"]
#[expect(dead_code, reason = "the table of the whole asks for more")]
mod load;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use lead_intake::app::App;
use lead_intake::clock::Clock;
use lead_intake::config::{Inputs, load as configured};
use stand_ins::google::{Google, Kind};
use tokio::time::Instant;

const PER_SECOND: usize = 2_000;
const SECONDS: u64 = 20;

#[tokio::main]
async fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let google = Google::start().await;
    google.set_latency(Duration::from_millis(300));
    google.set_quota(60, 60);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite://{}", folder.path().join("leads.db").display());
    let variables: BTreeMap<String, String> = [
        ("BIND", "127.0.0.1:0"),
        ("DATABASE_URL", &database),
        ("GOOGLE_SHEETS_ID", &google.spreadsheet_id()),
        ("GOOGLE_CREDENTIALS_JSON", &google.credentials()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &google.base_url()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let config = configured(&Inputs { variables, ..Inputs::default() })
        .unwrap_or_else(|problems| panic!("{problems}"));
    let app = App::start(config, Clock::system()).await.expect("it starts");
    let address = app.address();

    let start = Instant::now();
    let length = Duration::from_secs(SECONDS);
    let (times, bad) = load::steadily(address, load::request(), PER_SECOND, length).await;
    let (sent, answered) = (times.len(), start.elapsed());
    let rows = google.until(|seen| seen.calls.iter().map(|call| call.rows).sum::<usize>() >= sent);
    let all = tokio::time::timeout(Duration::from_secs(60), rows).await.is_ok();
    let there = start.elapsed();
    let seen = google.seen();
    let refused = seen.calls.iter().filter(|call| call.status == Some(429)).count();
    let ids: HashSet<_> =
        google.rows("Leads").into_iter().skip(1).filter_map(|row| row.into_iter().next()).collect();
    println!(
        "{sent} leads in {SECONDS} s: {} answered 200, {bad} not; all answered after {:.1} s",
        sent - bad,
        answered.as_secs_f64()
    );
    println!(
        "p50 {:.2} s, p99 {:.2} s",
        times[times.len() / 2].as_secs_f64(),
        times[times.len() * 99 / 100].as_secs_f64()
    );
    println!(
        "{} rows, {} different ids, {} appends, {refused} refused by quota; all there after {:.1} s: {all}",
        google.rows("Leads").len() - 1,
        ids.len(),
        seen.count(Kind::Append),
        there.as_secs_f64()
    );
    app.stop().await;
}
