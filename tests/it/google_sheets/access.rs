//! Tokens, and what a person must mend before the sheet can be written.

use serde_json::json;
use stand_ins::google::{Fault, Google, On, TokenFault};

use super::{SHORT_DEADLINE, grouped, ids, named, service};
use crate::support::ada;

#[tokio::test]
async fn a_token_that_was_revoked_is_replaced_in_the_same_attempt() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    service.accepted(&ada()).await;
    google.revoke_tokens();
    let id = service.accepted(&named("Second", &json!({}))).await;
    let delivery = service.delivery(&id, "sheet").await;
    assert_eq!((&delivery["state"], delivery["history"].as_array().unwrap().len()), (&json!("delivered"), 1));
    assert_eq!(google.seen().token_requests, 2);
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_poisons_nothing() {
    for fault in [
        TokenFault::unavailable(),
        TokenFault::Answer(500, "{}".to_owned()),
        TokenFault::Answer(502, "<html>".to_owned()),
        TokenFault::NoExpiry,
        TokenFault::Drop,
    ] {
        let google = Google::start().await;
        google.token_script().next(fault.clone());
        let service =
            service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1500ms, 1500ms")]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "sheet", "delivered").await;
        assert_eq!(delivery["history"][0]["outcome"], "transient", "{fault:?}: surely not sent");
        assert!(
            google.seen().calls.iter().all(|call| call.status != Some(403)),
            "{fault:?}: no call without a token"
        );
        assert_eq!(ids(&google), [id]);
    }
}

#[tokio::test]
async fn what_a_person_must_mend_parks_the_sheet_and_says_how() {
    for (fault, code) in [(Fault::Status(403), "http_403"), (Fault::Status(404), "http_404")] {
        let google = Google::start().await;
        google.always(On::Any, fault);
        let service = service(&google, &[]).await;
        let id = service.accepted(&ada()).await;
        service.until_logged("destination parked").await;
        let first = service.delivery(&id, "sheet").await["history"][0].clone();
        assert_eq!((&first["outcome"], &first["code"]), (&json!("blocked"), &json!(code)));
        google.mend();
        service.until_state(&id, "sheet", "delivered").await;
    }
    let google = Google::start().await;
    google.token_script().always(TokenFault::invalid_grant());
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    assert_eq!(service.delivery(&id, "sheet").await["history"][0]["code"], "key_refused");
    let (code, text) = service.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("invalid_grant"), "{text}");
    google.mend();
    service.until_state(&id, "sheet", "delivered").await;
    assert_eq!(service.cli(&["check", "--online"]).await.0, 0);
    let before = google.tabs();
    google.let_read_alone();
    let (code, text) = service.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("as Editor"), "{text}");
    assert_eq!(google.tabs(), before);
}

#[tokio::test]
async fn a_protected_tab_parks_the_sheet_and_costs_no_lead() {
    for status in [400, 403] {
        let google = Google::start().await;
        let service = service(&google, &[SHORT_DEADLINE]).await;
        let before = service.accepted(&ada()).await;
        google.protect("Leads", status);
        let leads: Vec<_> = ["One", "Two", "Three"].iter().map(|name| named(name, &json!({}))).collect();
        let sent = grouped(&google, &service, &leads).await;
        service.until_logged("destination parked").await;
        let first = service.delivery(&sent[0], "sheet").await["history"][0].clone();
        assert_eq!(
            (&first["outcome"], &first["code"]),
            (&json!("blocked"), &json!(format!("http_{status}")))
        );
        let detail = first["detail"].as_str().unwrap();
        assert!(detail.contains("Protect sheets and ranges") && detail.contains("@stand-in"), "{detail}");
        google.mend();
        for id in &sent {
            service.until_state(id, "sheet", "delivered").await;
        }
        let (mut there, mut wanted) = (ids(&google), [vec![before], sent].concat());
        there.sort();
        wanted.sort();
        assert_eq!(there, wanted, "{status}: each once");
    }
}

/// An Excel file in Drive has an id, too, and no lead is to blame for it.
#[tokio::test]
async fn a_spreadsheet_that_answers_no_question_parks_and_costs_no_lead() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__PROBE", "1ms")]).await;
    google.always(On::Reads, Fault::Status(400));
    let id = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    let delivery = service.delivery(&id, "sheet").await;
    assert_eq!(
        (&delivery["state"], &delivery["history"][0]["outcome"]),
        (&json!("pending"), &json!("blocked"))
    );
    google.mend();
    service.until_state(&id, "sheet", "delivered").await;
}
