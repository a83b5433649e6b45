//! A destination that hangs on every request and has a backlog of a million, and what the others notice of it.

use std::path::Path;
use std::time::{Duration, Instant};

use lead_intake::clock::Clock;
use lead_intake::store::Store;
use lead_intake::store::sqlite::Sqlite;

use super::service::Service;
use super::vendor::{Manner, Vendor};
use super::{Row, load, median, postgres};

/// Whom the backlog waits for.
pub(crate) const DESTINATION: &str = "zapier";

const BACKLOG: u32 = 1_000_000;

const CONNECTIONS: usize = 64;

/// How many leads a turn has.
const TURN: usize = 6_000;

/// The id of lead number `n`, as SQL of both engines says it.
const ID: &str = "'lead_' || substr('00000000000070008000', 1, 20) || substr('000000000000' || n, -12)";

pub(crate) async fn rows() -> Vec<Row> {
    let (crm, hangs) = (Manner::Answers(Duration::ZERO, "{}"), Manner::Hangs);
    let (alone_crm, beside_crm) = (Vendor::start(crm).await, Vendor::start(crm).await);
    let hanging = Vendor::start(hangs).await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("data/lead-intake.db");
    std::fs::create_dir_all(folder.path().join("data")).expect("a folder");
    fill_sqlite(&path, BACKLOG).await;
    let alone = Service::start(None, &[("CRM_WEBHOOK_URL", &alone_crm.url())]).await;
    let variables = [("CRM_WEBHOOK_URL", &*beside_crm.url()), ("ZAPIER_WEBHOOK_URL", &*hanging.url())];
    let beside = Service::start(Some(folder.path()), &variables).await;
    for (service, crm) in [(&alone, &alone_crm), (&beside, &beside_crm)] {
        turn(service, crm).await;
    }
    let before = beside.memory();
    let mut ratios = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let (accepted_alone, arrived_alone) = turn(&alone, &alone_crm).await;
        let (accepted, arrived) = turn(&beside, &beside_crm).await;
        ratios.0.push(accepted / accepted_alone);
        ratios.1.push(arrived / arrived_alone);
    }
    let ratio = |ratios| format!("{:.2} of without it", median(ratios));
    vec![
        Row::new("accepts while one destination hangs, a million waiting", ratio(ratios.0), "0.95"),
        Row::new("another webhook meanwhile", ratio(ratios.1), "0.95"),
        Row::new(
            "memory meanwhile, before and after 42,000 more leads",
            format!("{before:.0} MB, {:.0} MB", beside.memory()),
            "flat",
        ),
    ]
}

/// Leads a second that are accepted, and that arrive.
async fn turn(service: &Service, crm: &Vendor) -> (f64, f64) {
    let had = crm.taken();
    let began = Instant::now();
    let posted = load::many(service.address, CONNECTIONS, Duration::from_secs(30), TURN).await;
    let accepted = began.elapsed();
    crm.until(had + posted).await;
    let rate = |length: Duration| posted as f64 / length.as_secs_f64();
    (rate(accepted), rate(began.elapsed()))
}

/// What every lead of the backlog is, but for its id.
fn body() -> String {
    serde_json::json!({
        "received_at": "2026-01-01T00:00:00Z", "email": "ada@example.com", "name": "Ada Lovelace",
        "source": {"url": "https://example.com/contact"}, "submitted_at": "2026-01-01T00:00:00Z",
        "timezone": "UTC", "form_name": "contact", "form_data": {"message": "Could you send us an offer?"},
        "consent_given": true,
    })
    .to_string()
}

/// Statements of both engines that make `count` leads, each with a pending delivery.
fn statements(numbers: &str, digest: &str) -> [String; 2] {
    let rest = body().split_off(1).replace('\'', "''");
    [
        format!(
            "INSERT INTO leads (seq, id, form_name, received_at, digest, crm_planned, body) OVERRIDING
             SELECT n, {ID}, 'contact', 1767225600000, {digest}, PLANNED, '{{\"id\":\"' || {ID} || '\",{rest}'
             FROM {numbers}"
        ),
        format!(
            "INSERT INTO deliveries (lead, destination, kind, state, due_at)
             SELECT n, '{DESTINATION}', 'crm', 'pending', 1767225600000 + n FROM {numbers}"
        ),
    ]
}

/// A fresh file with so many deliveries pending.
pub(crate) async fn fill_sqlite(path: &Path, count: u32) {
    Sqlite::open(path, Clock::system()).expect("a store").close().await;
    let numbers = format!(
        "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count}) SELECT n FROM c)"
    );
    let [leads, deliveries] = statements(&numbers, "zeroblob(32)");
    let db = rusqlite::Connection::open(path).expect("the file");
    let leads = leads.replace("PLANNED", "1").replace("OVERRIDING", "");
    let together = format!(
        "PRAGMA cache_size = -64000; BEGIN; {leads}; {deliveries}; COMMIT; PRAGMA wal_checkpoint(TRUNCATE);"
    );
    db.execute_batch(&together).expect("rows");
}

/// The same in a database whose tables are there.
pub(crate) async fn fill_postgres(server: &postgres::Server, url: &str, count: u32) {
    let name = url.split("@/").nth(1).and_then(|rest| rest.split('?').next()).expect("a database");
    let numbers = format!("generate_series(1, {count}) n");
    let [leads, deliveries] = statements(&numbers, "decode(repeat('00', 32), 'hex')");
    let leads = leads
        .replace("PLANNED", "true")
        .replace("OVERRIDING", "OVERRIDING SYSTEM VALUE")
        .replace("substr('000000000000' || n, -12)", "lpad(n::text, 12, '0')");
    let client = server.connect(name).await;
    client.batch_execute(&leads).await.expect("rows");
    client.batch_execute(&deliveries).await.expect("rows");
    client.batch_execute("VACUUM ANALYZE").await.expect("statistics");
}
