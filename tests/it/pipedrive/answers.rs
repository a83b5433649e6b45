//! What each answer to each call means.

use serde_json::json;
use stand_ins::api::{Fault, Reply};
use stand_ins::pipedrive::{self, refuse, refuse_with, unauthorized};

use super::{DEAL, LEAD, NOTE, PERSON, SEARCH, codes, from, made, service};
use crate::support::ada;

/// What a fault of one call brings.
struct Case {
    fault: Fault,
    code: &'static str,
    /// The outcome for a creation; a question that went wrong is always just transient.
    outcome: &'static str,
    says: &'static str,
}

fn case(fault: Fault, code: &'static str, outcome: &'static str, says: &'static str) -> Case {
    Case { fault, code, outcome, says }
}

/// Faults that pass, and hold nobody else up.
fn passing() -> Vec<Case> {
    let no_success = |status| Reply::new(status, json!({ "success": false, "error": "Something failed" }));
    let broken = refuse(500, "Internal server error");
    vec![
        case(Fault::Answer(broken.clone()), "pipedrive_500", "unknown", "answered 500"),
        case(Fault::ApplyThenAnswer(broken), "pipedrive_500", "unknown", "Internal server error"),
        case(Fault::html(502), "pipedrive_502", "unknown", "answered 502"),
        case(Fault::ApplyThenAnswer(Reply::html(503)), "pipedrive_503", "unknown", "answered 503"),
        case(Fault::html(404), "pipedrive_404", "unknown", "check `domain` and `base_url`"),
        case(Fault::Drop, "connection_lost", "unknown", "Pipedrive"),
        case(Fault::ApplyThenDrop, "connection_lost", "unknown", "Pipedrive"),
        case(Fault::ApplyThenCut, "pipedrive_unreadable", "unknown", "cannot be read"),
        case(Fault::Answer(no_success(200)), "pipedrive_no_success", "unknown", "Something failed"),
        case(Fault::ApplyThenAnswer(no_success(201)), "pipedrive_no_success", "unknown", "no success"),
    ]
}

/// Faults that need somebody to change a setting or pay: the destination is parked.
fn parking() -> Vec<Case> {
    let capped = refuse_with(403, "feature_capping_deals_limit", "Deals limit reached");
    let inner =
        Reply::new(200, json!({ "success": false, "error": "unauthorized access", "errorCode": 401 }));
    vec![
        case(Fault::Answer(unauthorized()), "pipedrive_401", "blocked", "check `api_token`"),
        case(Fault::Answer(inner), "pipedrive_401", "blocked", "check `api_token`"),
        case(
            Fault::Answer(refuse(402, "Company account is not open")),
            "pipedrive_402",
            "blocked",
            "billing",
        ),
        case(Fault::Answer(refuse(403, "no permission")), "pipedrive_403", "blocked", "permission"),
        case(Fault::Answer(capped), "pipedrive_feature_capping_deals_limit", "blocked", "plan"),
        case(Fault::Answer(Reply::html(302)), "pipedrive_302", "blocked", "leads elsewhere"),
    ]
}

/// Faults that are about this lead.
fn refusing() -> Vec<Case> {
    let schema = || refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: title: too odd");
    let mut cases = vec![case(
        Fault::Answer(schema()),
        "pipedrive_err_schema_validation_failed",
        "rejected",
        "It said: Validation failed: title: too odd",
    )];
    for (status, code) in [
        (400, "pipedrive_400"),
        (404, "pipedrive_404"),
        (405, "pipedrive_405"),
        (410, "pipedrive_410"),
        (415, "pipedrive_415"),
        (422, "pipedrive_422"),
        (501, "pipedrive_501"),
    ] {
        cases.push(case(
            Fault::Answer(refuse(status, "not like this")),
            code,
            "rejected",
            "It said: not like this",
        ));
    }
    cases
}

/// Every case on every call of a delivery: what is settled, what a person reads, and that nothing is doubled.
async fn every(cases: fn() -> Vec<Case>, create: &str, calls: &[&str]) {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[("CREATE", create)]).await;
    let mut sent = Vec::new();
    for on in calls {
        for Case { fault, code, outcome, says } in cases() {
            let address = format!("a{}@example.com", sent.len());
            vendor.next(on, fault.clone());
            let id = service.accepted(&from(&address)).await;
            let end = if outcome == "rejected" { "dead" } else { "delivered" };
            let delivery = service.until_state(&id, "pipedrive", end).await;
            let first = &delivery["history"][0];
            let outcome = if outcome == "unknown" && on.starts_with("GET") { "transient" } else { outcome };
            let what = format!("{on} {fault:?}: {delivery}");
            assert_eq!(
                (first["code"].as_str(), first["outcome"].as_str()),
                (Some(code), Some(outcome)),
                "{what}"
            );
            assert!(first["detail"].as_str().unwrap().contains(says), "{says:?} in {what}");
            sent.push((id, address, what));
        }
    }
    let (ended, text) = service.cli(&["deliveries", "replay", "--state", "dead", "--yes"]).await;
    assert_eq!(ended, 0, "{text}");
    for (id, address, what) in sent {
        service.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(made(&vendor, &address, &id), (1, 1, 1), "{what}");
    }
    assert!(!vendor.is_broken(), "every fault was met");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_nothing_is_doubled() {
    every(passing, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn what_passes_is_tried_again_and_no_deal_is_doubled() {
    every(passing, "deal", &[DEAL, NOTE]).await;
}

#[tokio::test]
async fn wrong_credentials_and_an_empty_account_park_the_destination() {
    every(parking, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn what_pipedrive_refuses_is_a_dead_letter_and_goes_on_where_it_stopped_when_replayed() {
    every(refusing, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn a_refused_deal_is_a_dead_letter() {
    every(refusing, "deal", &[DEAL]).await;
}

#[tokio::test]
async fn a_yes_without_an_id_is_unknown_and_looked_for() {
    for (create, on) in [("lead", PERSON), ("lead", LEAD), ("deal", DEAL), ("lead", NOTE)] {
        let vendor = pipedrive::start().await;
        vendor.next(on, Fault::ApplyThenAnswer(Reply::new(201, json!({ "success": true, "data": {} }))));
        let service = service(&vendor, &[("CREATE", create)]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(
            (&delivery["history"][0]["outcome"], codes(&delivery)[0].as_str()),
            (&json!("unknown"), "pipedrive_no_id")
        );
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
    }
}
