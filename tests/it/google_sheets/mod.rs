//! The sheet, through the real binary, against a stand-in for Google.

mod access;
mod lost_answers;
mod people;
mod quota;
mod rows;
mod second_home;
mod second_rows;

use serde_json::{Value, json};
use stand_ins::google::{Fault, Google, On};

use crate::support::{Service, ada, soon};

const HEADER: [&str; 17] = [
    "id",
    "submitted_at",
    "form_name",
    "name",
    "email",
    "phone",
    "url",
    "referrer",
    "utm_source",
    "utm_medium",
    "utm_campaign",
    "utm_content",
    "utm_term",
    "timezone",
    "consent_given",
    "consent_timestamp",
    "crm_synced",
];

async fn service(google: &Google, more: &[(&str, &str)]) -> Service {
    let (id, key, url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    let mut variables = vec![
        ("GOOGLE_SHEETS_ID", id.as_str()),
        ("GOOGLE_CREDENTIALS_JSON", key.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__PROBE", "1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
        // So many that no test waits for its turn.
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "60000"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "60000"),
    ];
    variables.extend(more);
    Service::start(&variables).await
}

fn named(name: &str, form_data: &Value) -> Value {
    let mut lead = ada();
    lead["name"] = json!(name);
    lead["form_data"] = form_data.clone();
    lead
}

fn ids(google: &Google) -> Vec<String> {
    google.records("Leads").into_iter().map(|row| row["id"].clone()).collect()
}

/// Sends leads so that the later ones wait while the first is on its way: they go out as a group. Their ids.
async fn grouped(google: &Google, service: &Service, leads: &[Value]) -> Vec<String> {
    google.next(On::Appends, Fault::Wait);
    let (first, rest) = leads.split_first().unwrap();
    let before = google.seen().waited;
    // Their answers come at the deadline, which says that each is on its way.
    let first = service.accepted(first).await;
    soon(google.until(|seen| seen.waited > before)).await;
    let rest = futures_util::future::join_all(rest.iter().map(|lead| service.accepted(lead))).await;
    google.go_on();
    std::iter::once(first).chain(rest).collect()
}

const SHORT_DEADLINE: (&str, &str) = ("LEAD_INTAKE__INTAKE__DEADLINE", "300ms");

/// A store that nobody can commit to until the connection is dropped.
fn held(service: &Service) -> rusqlite::Connection {
    let held = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    held
}
