//! What ops people and probes ask: `/health`, `/health/live`, `/health/ready`, `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Site;
use super::answer::refused;
use crate::dispatch::gate::Condition;

/// The body of `GET /health`.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    version: &'static str,
    store: &'static str,
    destinations: BTreeMap<String, &'static str>,
}

pub(super) async fn health(State(site): State<Arc<Site>>) -> Response {
    let store_is_well = site.store_is_ready().await;
    let mut destinations = BTreeMap::new();
    for lane in site.lanes.iter() {
        destinations.insert(lane.name().to_string(), word(lane.condition()));
    }
    // Deliveries of a destination that is no longer configured wait; somebody should know.
    for name in site.store.waited_for().await.unwrap_or_default() {
        if site.lanes.get(&name).is_none() {
            destinations.insert(name.to_string(), "removed");
        }
    }
    let status = match (store_is_well, destinations.values().all(|condition| *condition == "ok")) {
        (false, _) => "unavailable",
        (true, false) => "degraded",
        (true, true) => "ok",
    };
    let store = if store_is_well { "ok" } else { "unavailable" };
    let code = if store_is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Health { status, version: env!("CARGO_PKG_VERSION"), store, destinations })).into_response()
}

fn word(condition: Condition) -> &'static str {
    match condition {
        Condition::Ok => "ok",
        Condition::Failing => "failing",
        Condition::Parked => "parked",
    }
}

/// The process answers.
pub(super) async fn live() -> &'static str {
    "live\n"
}

/// The process takes leads, into the store or the second home, and goes on doing so.
pub(super) async fn ready(State(site): State<Arc<Site>>) -> Response {
    if site.draining.is_cancelled() {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "This process is about to end.");
    }
    if site.door.has_second_home() || site.store_is_ready().await {
        return "ready\n".into_response();
    }
    refused(StatusCode::SERVICE_UNAVAILABLE, "The store cannot commit just now.")
}

/// Prometheus' text format, version 0.0.4.
pub(super) async fn metrics(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if let Some(token) = &site.operator_token {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !same(given, token.expose()) {
            return refused(StatusCode::FORBIDDEN, "Send the operator's token: `Authorization: Bearer …`.");
        }
    }
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, u64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let counts = site.store.counts().await.unwrap_or_default();
    family(
        "lead_intake_deliveries",
        "gauge",
        "Deliveries that are pending, dead or withheld, by destination and state.",
        counts
            .iter()
            .map(|(name, state, count)| (format!("{{destination=\"{name}\",state=\"{state}\"}}"), *count))
            .collect(),
    );
    let lanes = || site.lanes.iter();
    let tallies = lanes().flat_map(|lane| {
        lane.tally().read().map(move |(outcome, count)| {
            (format!("{{destination=\"{}\",outcome=\"{}\"}}", lane.name(), outcome.as_str()), count)
        })
    });
    family(
        "lead_intake_attempts_total",
        "counter",
        "Attempts since the start, by destination and outcome.",
        tallies.collect(),
    );
    family(
        "lead_intake_destination_ok",
        "gauge",
        "1 while the destination is neither parked nor failing.",
        lanes()
            .map(|lane| {
                (format!("{{destination=\"{}\"}}", lane.name()), u64::from(lane.condition() == Condition::Ok))
            })
            .collect(),
    );
    let up = u64::from(site.store_is_ready().await);
    family("lead_intake_store_ok", "gauge", "1 while the store can commit.", vec![(String::new(), up)]);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// Compares without telling by the time it takes how much is right.
fn same(given: &str, wanted: &str) -> bool {
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest(given).as_ref() == digest(wanted).as_ref()
}
