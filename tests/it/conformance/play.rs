//! A scene: a lead comes in while its vendor has a fault; the process ends, the fault is mended, what waits falls due,
//! and the process comes back. Nothing is due before the scene makes it due, so no schedule is used up meanwhile and
//! no clock is waited for.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use super::row::{First, Row, Wait};
use super::vendor::{Case, Vendor, Way};
use crate::support::{Service, ada, soon};

/// How many scenes of a destination are played at once.
const AT_ONCE: usize = 6;

/// The schedule's waits, in seconds with their spread: what waits longer was asked to.
const SCHEDULED: i64 = 295;

/// Plays every case, each at a vendor of its own.
pub(super) async fn all<S, V: Future<Output = Vendor<S>>>(
    start: impl Fn() -> V,
    cases: Vec<Case<S>>,
) -> Vec<Row> {
    let scenes = cases.into_iter().map(async |case| play(start().await, case).await);
    stream::iter(scenes).buffered(AT_ONCE).collect().await
}

async fn play<S>(vendor: Vendor<S>, case: Case<S>) -> Row {
    let (name, fault) = (vendor.name, case.fault);
    // Bound, and not listened to: nobody else can listen there meanwhile.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let elsewhere = format!("127.0.0.1:{}", nobody.local_addr().unwrap().port());
    let well = settings(&vendor, &vendor.address, case.way);
    let broken =
        if case.way == Way::Refused { settings(&vendor, &elsewhere, case.way) } else { well.clone() };
    let mut service = Service::start(&texts(&broken)).await;
    (case.make)(&vendor.stand);

    let mut lead = ada();
    let address = "conformance@example.org";
    lead["email"] = json!(address);
    let (status, answer) = service.submit(&lead).await;
    assert_eq!(status, 200, "{name}, {fault}: the lead is safe whatever its destinations do: {answer}");
    let id = answer["id"].as_str().unwrap().to_owned();
    let store = Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let is_waited_out = settled(&store) == 1;
    if vendor.is_inline {
        assert_eq!(
            is_waited_out,
            case.way != Way::Hangs,
            "{name}, {fault}: the visitor waits for the attempt"
        );
    } else if case.way == Way::Hangs {
        assert!(!is_waited_out, "{name}, {fault}: no visitor waits");
    }

    until_settled(&store, 1).await;
    let delivery = service.delivery(&id, name).await;
    let first = first(&store, &delivery);
    let before = (vendor.has)(&vendor.stand, &id, address);
    if first.outcome == "blocked" {
        service.until_logged("destination parked").await;
        assert_eq!(service.health().await["destinations"][name], "parked", "{name}, {fault}");
    }
    assert!(
        first.code == "ok" || first.detail.len() > 20,
        "a person reads what to do: {name}, {fault}: {delivery}"
    );

    assert_eq!(service.terminate().await, 0);
    let mut said = format!("{delivery}{}", service.log());
    (vendor.mend)(&vendor.stand);
    (case.hands)(&vendor.stand);
    drop(nobody);
    let mut end = delivery;
    if first.state == "dead" {
        let (code, text) = service.cli(&["deliveries", "replay", &format!("{id}/{name}"), "--yes"]).await;
        assert_eq!(code, 0, "{text}");
    }
    if matches!(first.state.as_str(), "dead" | "pending") {
        fall_due(&store);
        let again = service.again_with(&texts(&well)).await;
        until_settled(&store, 2).await;
        end = again.delivery(&id, name).await;
        said.push_str(&format!("{end}{}", again.log()));
        service = again;
    }
    let after = (vendor.has)(&vendor.stand, &id, address);
    assert_eq!(end["state"], "delivered", "{name}, {fault}: {end}");
    assert!(
        after.is_once || case.way == Way::Lies,
        "{name}, {fault}: once, whatever was lost: {after:?}, {end}"
    );
    assert!(!said.contains(&vendor.secret), "{name}, {fault}: a secret was said");
    assert!(!service.log().contains(address), "{name}, {fault}: an address was logged");
    Row {
        fault,
        visitor: match (vendor.is_inline, is_waited_out) {
            (false, _) => "200, at once",
            (true, true) => "200",
            (true, false) => "200, at the deadline",
        },
        attempts: end["history"].as_array().unwrap().len(),
        note: end["receipt"]["note"].as_str().map(str::to_owned),
        first,
        has: (before.words, after.words),
    }
}

/// The destination at this address, a schedule that the scene never gets to, and time enough for a busy machine.
fn settings<S>(vendor: &Vendor<S>, address: &str, way: Way) -> Vec<(String, String)> {
    let mut settings = (vendor.settings)(&vendor.stand, address);
    let hangs = way == Way::Hangs;
    let timeout = if hangs { "3s" } else { "50s" };
    let prefix = format!("LEAD_INTAKE__DESTINATIONS__{}__", vendor.name.to_uppercase());
    for (key, value) in [("RETRY", "4m, 4m, 4m"), ("PROBE", "1h"), ("TIMEOUT", timeout)] {
        settings.push((format!("{prefix}{key}"), value.to_owned()));
    }
    if settings.iter().any(|(name, _)| name.starts_with("LEAD_INTAKE__MAIL__")) {
        let limit = if hangs { "2s" } else { "30s" };
        for key in ["COMMAND_TIMEOUT", "FINAL_TIMEOUT"] {
            settings.push((format!("LEAD_INTAKE__MAIL__{key}"), limit.to_owned()));
        }
    }
    let deadline = if hangs && vendor.is_inline { "300ms" } else { "50s" };
    settings.push(("LEAD_INTAKE__INTAKE__DEADLINE".to_owned(), deadline.to_owned()));
    settings
}

fn texts(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// How many attempts are settled; none while one is under way.
fn settled(store: &Connection) -> u32 {
    let text =
        "SELECT CASE WHEN open_since IS NULL THEN (SELECT count(*) FROM attempts) ELSE 0 END FROM deliveries";
    store.query_row(text, [], |row| row.get(0)).unwrap()
}

async fn until_settled(store: &Connection, attempts: u32) {
    soon(async {
        while settled(store) < attempts {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Time passes: what waits is due, and no wait that a vendor asked for is left.
fn fall_due(store: &Connection) {
    store
        .execute_batch(
            "UPDATE deliveries SET due_at = 0 WHERE state = 'pending';
             UPDATE standings SET held_until = NULL;
             DELETE FROM paces;",
        )
        .unwrap();
}

/// What the store says after the first attempt.
fn first(store: &Connection, delivery: &Value) -> First {
    let attempt = &delivery["history"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let waits =
        "SELECT d.due_at, a.finished_at, (SELECT count(*) FROM standings WHERE held_until IS NOT NULL)
                 FROM deliveries d JOIN attempts a USING (lead, destination)";
    let (due, finished, held): (Option<i64>, i64, i64) =
        store.query_row(waits, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    let seconds = due.map_or(0, |due| (due - finished) / 1_000);
    First {
        state: text(&delivery["state"]),
        outcome: text(&attempt["outcome"]),
        code: text(&attempt["code"]),
        detail: text(&attempt["detail"]),
        wait: if seconds < SCHEDULED { Wait::Schedule } else { Wait::Minutes((seconds + 30) / 60) },
        is_held: held > 0,
    }
}
