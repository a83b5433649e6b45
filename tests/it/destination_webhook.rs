//! The webhook destination, through the real binary, against a receiver on the loopback.

use serde_json::json;
use stand_ins::hook::{Fault, Hook};

use crate::support::{Service, ada, soon};

/// The published example of the Standard Webhooks specification's libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn service(hook: &Hook, more: &[(&str, &str)]) -> Service {
    let url = hook.url();
    let mut variables = vec![
        ("CRM_WEBHOOK_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1ms"),
    ];
    variables.extend(more);
    Service::start(&variables).await
}

#[tokio::test]
async fn the_body_is_the_lead_with_its_id_and_signed() {
    let hook = Hook::start().await;
    hook.expect_signature(SECRET);
    let service = service(&hook, &[("CRM_WEBHOOK_SECRET", SECRET)]).await;
    let id = service.accepted(&ada()).await;
    let calls = soon(hook.until(|calls| !calls.is_empty())).await;
    let call = &calls[0];
    assert_eq!(call.signature, Some(Ok(())));
    assert_eq!(call.id(), format!("{id}_crm"));
    assert_eq!(call.headers["content-type"], "application/json");
    assert!(call.headers["user-agent"].starts_with("lead-intake/"));
    let mut expected = ada();
    let known = expected.as_object_mut().unwrap();
    known.insert("id".to_owned(), json!(id));
    for (name, value) in known {
        assert_eq!(&call.body[name], value, "{name}");
    }
    for name in ["received_at", "submitted_at", "consent_timestamp", "ip_hash", "event_id"] {
        assert!(call.body[name].is_string(), "{name}: {}", call.body);
    }
    assert!(call.body.get("timestamp").is_none() && call.body.get("ip_address").is_none());
    service.until_state(&id, "crm", "delivered").await;
}

#[tokio::test]
async fn while_secrets_are_rotated_whoever_knows_either_can_tell() {
    let old = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    for known in [SECRET, old] {
        let hook = Hook::start().await;
        hook.expect_signature(known);
        let secrets =
            [("CRM_WEBHOOK_SECRET", SECRET), ("LEAD_INTAKE__DESTINATIONS__CRM__PREVIOUS_SECRET", old)];
        let service = service(&hook, &secrets).await;
        service.accepted(&ada()).await;
        let calls = soon(hook.until(|calls| !calls.is_empty())).await;
        assert_eq!(calls[0].signature, Some(Ok(())));
        assert_eq!(calls[0].headers["webhook-signature"].split(' ').count(), 2);
    }
}

#[tokio::test]
async fn zapier_and_make_also_get_a_timestamp_and_a_full_queue_is_tried_again() {
    let (zapier, make) = (Hook::start().await, Hook::start().await);
    make.script().next(Fault::make_queue_full());
    let (zapier_url, make_url) = (zapier.url(), make.url());
    let service =
        Service::start(&[("ZAPIER_WEBHOOK_URL", &zapier_url), ("MAKE_WEBHOOK_URL", &make_url)]).await;
    let id = service.accepted(&ada()).await;
    let calls = soon(zapier.until(|calls| !calls.is_empty())).await;
    assert!(calls[0].body["timestamp"].is_string());
    soon(make.until(|calls| !calls.is_empty())).await;
    service.until_logged("attempt failed").await;
    let delivery = service.delivery(&id, "make").await;
    assert_eq!(
        (&delivery["state"], &delivery["history"][0]["code"]),
        (&json!("pending"), &json!("queue_full"))
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again_with_the_same_id() {
    for fault in [
        Fault::status(408),
        Fault::status(425),
        Fault::status(429),
        Fault::status(500),
        Fault::TakeThenAnswer(502),
        Fault::status(503),
        Fault::Drop,
        Fault::TakeThenDrop,
    ] {
        let hook = Hook::start().await;
        hook.script().next(fault.clone());
        let service = service(&hook, &[]).await;
        let id = service.accepted(&ada()).await;
        let calls = soon(hook.until(|calls| calls.len() == 2)).await;
        assert_eq!((calls[0].id(), calls[0].body["id"].clone()), (calls[1].id(), json!(id)), "{fault:?}");
        let delivery = service.until_state(&id, "crm", "delivered").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 2, "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_unknown_and_tried_again() {
    let hook = Hook::start().await;
    hook.script().next(Fault::TakeThenHang);
    let service = service(&hook, &[("LEAD_INTAKE__DESTINATIONS__CRM__TIMEOUT", "200ms")]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "crm", "delivered").await;
    assert_eq!(delivery["history"][0]["outcome"], "unknown");
    assert_eq!(
        hook.taken()[&format!("{id}_crm")],
        2,
        "a doubled call beats a lost lead, and carries the same id"
    );
}

#[tokio::test]
async fn a_body_that_is_cut_or_never_ends_changes_nothing_about_a_200() {
    for fault in [Fault::CutBody, Fault::EndlessBody] {
        let hook = Hook::start().await;
        hook.script().next(fault.clone());
        let service = service(&hook, &[]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "crm", "delivered").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn wrong_settings_park_the_destination_and_cost_no_lead_its_budget() {
    for status in [301, 302, 401, 403, 404, 405, 410] {
        let hook = Hook::start().await;
        hook.script().times(
            5,
            Fault::Answer { status, headers: vec![("location".to_owned(), hook.url())], body: String::new() },
        );
        let service = service(&hook, &[]).await;
        let id = service.accepted(&ada()).await;
        service.until_logged("destination parked").await;
        let delivery = service.until_state(&id, "crm", "delivered").await;
        let codes: Vec<_> =
            delivery["history"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
        assert_eq!(codes[..5], vec![json!(format!("http_{status}")); 5], "the schedule has only three waits");
        assert_eq!(hook.taken().len(), 1, "{status}: no redirect is followed");
        assert_eq!(service.health().await["destinations"]["crm"], "ok", "it has recovered");
    }
}

#[tokio::test]
async fn a_refused_lead_is_a_dead_letter_and_can_be_replayed() {
    let hook = Hook::start().await;
    hook.script().next(Fault::Answer { status: 422, headers: vec![], body: "no budget given".to_owned() });
    let service = service(&hook, &[]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "crm", "dead").await;
    assert!(delivery["history"][0]["detail"].as_str().unwrap().contains("no budget given"));
    assert!(!service.log().contains("no budget given"), "what a vendor says may quote the lead");
    let (code, text) =
        service.cli(&["deliveries", "replay", "--destination", "crm", "--error", "BUDGET", "--yes"]).await;
    assert_eq!((code, text.as_str()), (0, "1 replayed.\n"));
    service.until_state(&id, "crm", "delivered").await;
    // What was named and is not there, or is no dead letter, is said to be so.
    let (there, nowhere) = (format!("{id}/crm"), format!("{id}/nowhere"));
    for (command, said, why) in [
        ("replay", "0 replayed.", "no dead letter: "),
        ("cancel", "0 cancelled.", "no delivery that is pending, dead or withheld: "),
    ] {
        let (code, text) = service.cli(&["deliveries", command, &there, &nowhere, "--yes"]).await;
        assert!(code == 1 && text.starts_with(said), "{code}: {text}");
        assert!(text.contains(&format!("{why}{there}, {nowhere}")), "{text}");
    }
    let (code, text) = service.cli(&["deliveries", "list", &there, &nowhere]).await;
    assert!(code == 1 && text.contains("delivered") && text.contains(&nowhere), "{code}: {text}");
}

/// Express says which path it does not know, and a debugging receiver all that it got.
#[tokio::test]
async fn what_a_receiver_quotes_shows_no_secret() {
    let hook = Hook::start().await;
    let url = format!("{}/s3cr3t-p4th?k3y=v4lue7", hook.url().trim_end_matches('/'));
    let body = "Cannot POST /s3cr3t-p4th?k3y=v4lue7 with Bearer t0ken77: no such budget".to_owned();
    hook.script().next(Fault::Answer { status: 422, headers: vec![], body });
    let token = ("LEAD_INTAKE__DESTINATIONS__CRM__HEADERS__AUTHORIZATION", "Bearer t0ken77");
    let service = Service::start(&[("CRM_WEBHOOK_URL", &url), token]).await;
    let id = service.accepted(&ada()).await;
    let dead = service.until_state(&id, "crm", "dead").await;
    let said = dead["history"][0]["detail"].as_str().unwrap();
    assert!(said.ends_with("Cannot POST /…?… with …: no such budget"), "{said}");
}

/// Consent is asked for when the lead is sent, not only when it was planned.
#[tokio::test]
async fn who_has_not_consented_is_not_sent_once_that_is_asked_for() {
    let hook = Hook::start().await;
    hook.script().always(Fault::status(422));
    let asks = "LEAD_INTAKE__DESTINATIONS__CRM__REQUIRES_CONSENT";
    let mut service = service(&hook, &[(asks, "false")]).await;
    let mut lead = ada();
    lead["consent_given"] = json!(false);
    let id = service.accepted(&lead).await;
    service.until_state(&id, "crm", "dead").await;
    assert_eq!(service.terminate().await, 0);
    hook.script().mend();
    let service = service.again_with(&[(asks, "true")]).await;
    let replay = ["deliveries", "replay", "--yes"];
    assert_eq!(service.cli(&replay).await.1, "1 replayed.\n");
    let refused = service.until_delivery(&id, "crm", |it| it["history"][1]["code"] == "no_consent").await;
    assert_eq!((&refused["state"], hook.taken().len()), (&json!("dead"), 0));
    assert_eq!(service.cli(&["leads", "consent", &id]).await.0, 0);
    assert_eq!(service.cli(&replay).await.1, "1 replayed.\n");
    service.until_state(&id, "crm", "delivered").await;
}

/// RFC 7617; and what `headers` says wins.
#[tokio::test]
async fn user_and_password_of_the_url_are_sent() {
    for (more, sent) in [(None, "Basic YWRhOnBAc3M="), (Some("Bearer 7"), "Bearer 7")] {
        let hook = Hook::start().await;
        let url = hook.url().replace("://", "://ada:p%40ss@");
        let mut variables = vec![("CRM_WEBHOOK_URL", url.as_str())];
        variables.extend(more.map(|more| ("LEAD_INTAKE__DESTINATIONS__CRM__HEADERS__AUTHORIZATION", more)));
        let service = Service::start(&variables).await;
        let id = service.accepted(&ada()).await;
        service.until_state(&id, "crm", "delivered").await;
        assert_eq!(hook.calls()[0].headers["authorization"], sent);
        assert!(!service.log().contains("ss@"), "{}", service.log());
    }
}

#[tokio::test]
async fn retry_after_is_kept_to_and_holds_the_whole_lane() {
    for (status, wait) in [(429, "3600"), (503, "Fri, 01 Jan 2100 00:00:00 GMT")] {
        let hook = Hook::start().await;
        hook.script().next(Fault::retry_after(status, wait));
        let service = service(&hook, &[]).await;
        let first = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        assert!(line["retry_in_s"].as_u64().unwrap() >= 3_600, "{line}");
        let second = service.accepted(&ada()).await;
        assert_eq!(service.delivery(&second, "crm").await["attempts"], 0, "the lane is held");
        assert_eq!(service.delivery(&first, "crm").await["state"], "pending");
        assert_eq!(hook.calls().len(), 1);
    }
}

#[tokio::test]
async fn whoever_has_had_too_many_calls_is_left_alone_for_a_moment() {
    let hook = Hook::start().await;
    hook.script().next(Fault::status(429));
    let service = service(&hook, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "crm", "delivered").await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    let sql = "SELECT (SELECT held_until FROM standings) - finished_at FROM attempts WHERE number = 1";
    let held: i64 = store.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!((5_000..60_000).contains(&held), "{held} ms");
}

#[tokio::test]
async fn a_full_queue_is_make_s_alone() {
    let hook = Hook::start().await;
    hook.script().next(Fault::make_queue_full());
    let service = service(&hook, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "crm", "dead").await;
}

#[tokio::test]
async fn without_consent_nothing_is_sent_until_it_is_given() {
    let hook = Hook::start().await;
    let service = service(&hook, &[]).await;
    let mut lead = ada();
    lead["consent_given"] = json!(false);
    let id = service.accepted(&lead).await;
    assert_eq!(service.delivery(&id, "crm").await["state"], "withheld");
    assert!(hook.calls().is_empty());
    let (code, _) = service.cli(&["leads", "consent", &id]).await;
    assert_eq!(code, 0);
    let calls = soon(hook.until(|calls| calls.len() == 1)).await;
    assert_eq!(calls[0].body["consent_given"], true);
    service.until_state(&id, "crm", "delivered").await;
}

#[tokio::test]
async fn any_number_more_come_from_the_file_with_their_own_headers_and_forms() {
    let (first, second) = (Hook::start().await, Hook::start().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = format!(
        "[destinations.n8n]\ntype = 'webhook'\nurl = '{}'\nheaders = {{ x-key = 'k-1' }}\n\
         [destinations.quotes]\ntype = 'webhook'\nurl = '{}'\nforms = ['quote']\n",
        first.url(),
        second.url()
    );
    std::fs::write(&path, text).unwrap();
    let service = Service::start(&[("LEAD_INTAKE_CONFIG", path.to_str().unwrap())]).await;
    let id = service.accepted(&ada()).await;
    let calls = soon(first.until(|calls| !calls.is_empty())).await;
    assert_eq!((calls[0].headers["x-key"].as_str(), calls[0].id()), ("k-1", format!("{id}_n8n").as_str()));
    let lead = service.lead(&id).await;
    assert_eq!(lead["deliveries"].as_array().unwrap().len(), 1, "the other form's webhook gets nothing");
    assert!(second.calls().is_empty());
}
