//! The two mails over Resend, Postmark and SendGrid, through the real binary, against a server on the
//! loopback that stands in for the three.

use std::time::Duration;

use serde_json::{Value, json};
use stand_ins::mail_api::{Fault, Mail, MailApi, Reply, Vendor};

use crate::support::{Service, ada, binary, soon};

use Vendor::{Postmark, Resend, SendGrid};

const NOTIFICATION_TO: &str = "LEAD_INTAKE__DESTINATIONS__NOTIFICATION__TO";

/// A service that sends the team's notification alone.
async fn notifying(api: &MailApi, vendor: Vendor, more: &[(&str, &str)]) -> Service {
    let base = api.base_url();
    let mut variables = vec![
        ("LEAD_INTAKE__MAIL__TRANSPORT", vendor.word()),
        ("LEAD_INTAKE__MAIL__API_KEY", vendor.key()),
        ("LEAD_INTAKE__MAIL__BASE_URL", base.as_str()),
        ("LEAD_INTAKE__MAIL__FROM", "Example, Ltd <hello@forms.example.com>"),
        (NOTIFICATION_TO, "sales@example.com"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__RETRY", "1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__PROBE", "1ms"),
    ];
    variables.retain(|(name, _)| more.iter().all(|(other, _)| name != other));
    variables.extend(more);
    Service::start(&variables).await
}

/// Waits until a delivery has this many attempts, each settled.
async fn attempts(service: &Service, id: &str, count: usize) -> Value {
    soon(async {
        loop {
            let delivery = service.delivery(id, "notification").await;
            if delivery["history"].as_array().unwrap().len() >= count {
                return delivery;
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_team_and_the_visitor_each_get_their_mail_before_the_answer() {
    for vendor in Vendor::ALL {
        let api = MailApi::start().await;
        let base = api.base_url();
        let service = Service::start(&[
            ("LEAD_INTAKE__MAIL__TRANSPORT", vendor.word()),
            ("LEAD_INTAKE__MAIL__API_KEY", vendor.key()),
            ("LEAD_INTAKE__MAIL__BASE_URL", &base),
            ("EMAIL_FROM", "Example, Ltd <hello@forms.example.com>"),
            ("EMAIL_NOTIFY_TO", "sales@example.com,boss@example.com"),
        ])
        .await;
        let mut lead = ada();
        lead["name"] = json!("Ada <b>Lovelace</b>");
        let id = service.accepted(&lead).await;
        let mails = api.mails();
        assert_eq!(mails.len(), 3, "{vendor:?}: one for each is there when the answer comes");
        assert!(api.calls().iter().all(|call| call.wrong.is_none()), "{:?}", api.calls());
        let to = |address: &str| mails.iter().find(|mail| mail.to == address).unwrap();

        let notification = to("sales@example.com");
        assert_eq!(notification.vendor, vendor);
        let from = if vendor == SendGrid {
            "Example, Ltd <hello@forms.example.com>"
        } else {
            "\"Example, Ltd\" <hello@forms.example.com>"
        };
        assert_eq!(notification.from, from);
        assert_eq!(notification.reply_to.as_deref(), Some("ada@example.com"));
        assert_eq!(notification.headers["auto-submitted"], "auto-generated");
        assert_eq!(notification.delivery, format!("{id}_notification"));
        let message_id = (vendor != Resend).then(|| format!("<{id}_notification@forms.example.com>"));
        assert_eq!(notification.headers.get("message-id"), message_id.as_ref());
        assert_eq!(notification.headers.contains_key("x-pm-keepid"), vendor == Postmark);
        assert_eq!(notification.subject, "New lead from Ada <b>Lovelace</b> (Contact)");
        for expected in ["Ada <b>Lovelace</b>", "+44 20 7946 0018", "Message: Hello", "Topics: a, b", &id] {
            assert!(notification.text.contains(expected), "{expected}: {}", notification.text);
        }
        let html = &notification.html;
        assert!(html.contains("Ada &lt;b&gt;Lovelace") && !html.contains("<b>Lovelace"), "{html}");
        let other = to("boss@example.com");
        assert_eq!((&other.subject, &other.text), (&notification.subject, &notification.text));
        assert_eq!(notification.key.is_some(), vendor == Resend);
        assert!(vendor != Resend || other.key != notification.key, "a key is a recipient's own");

        let confirmation = to("ada@example.com");
        assert_eq!(confirmation.subject, "We have received your message");
        assert_eq!(confirmation.headers["auto-submitted"], "auto-generated");
        assert!(confirmation.reply_to.is_none() && confirmation.text.contains("Hello Ada,"));
        let receipt = service.delivery(&id, "notification").await["receipt"].clone();
        assert_eq!(receipt["remote_id"].as_str().unwrap().split(", ").count(), 2, "{receipt}");
        assert!(receipt["note"].is_null());
    }
}

/// Answers, and what they mean: the outcome and the code of the attempt.
fn table() -> Vec<(Vendor, Fault, &'static str, &'static str)> {
    let resend = |status, name| Fault::Answer(Reply::resend(status, name, "Something about it."));
    let postmark = |status, number| Fault::Answer(Reply::postmark(status, number, "Something about it."));
    let sendgrid = |status| Fault::Answer(Reply::sendgrid(status, "Something about it.", None));
    let bare = |status| Fault::Answer(Reply::status(status));
    let page = |status| Fault::Answer(Reply::page(status));
    let mut table = vec![
        (Resend, resend(400, "validation_error"), "rejected", "resend_validation_error"),
        (Resend, resend(400, "invalid_idempotency_key"), "rejected", "resend_invalid_idempotency_key"),
        (Resend, resend(422, "validation_error"), "rejected", "resend_validation_error"),
        (Resend, resend(422, "missing_required_field"), "rejected", "resend_missing_required_field"),
        (Resend, resend(422, "missing_required_parameter"), "rejected", "resend_missing_required_parameter"),
        (Resend, resend(422, "invalid_parameter"), "rejected", "resend_invalid_parameter"),
        (Resend, resend(422, "invalid_attachment"), "rejected", "resend_invalid_attachment"),
        (Resend, resend(422, "invalid_from_address"), "rejected", "resend_invalid_from_address"),
        (Resend, resend(422, "invalid_access"), "rejected", "resend_invalid_access"),
        (Resend, resend(422, "invalid_region"), "rejected", "resend_invalid_region"),
        (Resend, resend(422, "ada@example.com"), "rejected", "resend_422"),
        (Resend, resend(401, "missing_api_key"), "blocked", "resend_missing_api_key"),
        (Resend, resend(401, "restricted_api_key"), "blocked", "resend_restricted_api_key"),
        (Resend, resend(403, "restricted_api_key"), "blocked", "resend_restricted_api_key"),
        (Resend, resend(403, "invalid_api_key"), "blocked", "resend_invalid_api_key"),
        (Resend, resend(403, "suspended_api_key"), "blocked", "resend_suspended_api_key"),
        (Resend, resend(403, "invalid_permission"), "blocked", "resend_invalid_permission"),
        (
            Resend,
            Fault::Answer(Reply::resend(400, "validation_error", "API key is invalid")),
            "blocked",
            "resend_invalid_api_key",
        ),
        (Resend, resend(403, "validation_error"), "blocked", "resend_validation_error"),
        (Resend, resend(404, "not_found"), "blocked", "resend_not_found"),
        (Resend, resend(405, "method_not_allowed"), "blocked", "resend_method_not_allowed"),
        (Resend, resend(409, "invalid_idempotent_request"), "rejected", "resend_invalid_idempotent_request"),
        (Resend, resend(500, "application_error"), "transient", "resend_application_error"),
        (Resend, resend(503, "service_unavailable"), "transient", "resend_service_unavailable"),
        (Resend, Fault::TakeThenAnswer(Reply::json(200, &json!({}))), "unknown", "resend_unclear_answer"),
        (Resend, Fault::TakeThenCut, "unknown", "resend_unclear_answer"),
        (Postmark, bare(401), "blocked", "postmark_http_401"),
        (Postmark, postmark(401, 10), "blocked", "postmark_10"),
        (Postmark, postmark(422, 10), "blocked", "postmark_10"),
        (Postmark, postmark(422, 300), "rejected", "postmark_300"),
        (Postmark, postmark(422, 411), "rejected", "postmark_411"),
        (Postmark, postmark(422, 406), "rejected", "postmark_406"),
        (Postmark, postmark(422, 429), "rejected", "postmark_429"),
        (Postmark, postmark(422, 9_999), "rejected", "postmark_9999"),
        (Postmark, postmark(422, 100), "transient", "postmark_100"),
        (Postmark, bare(422), "transient", "postmark_http_422"),
        (Postmark, bare(413), "rejected", "postmark_http_413"),
        (Postmark, bare(404), "blocked", "postmark_http_404"),
        (Postmark, bare(503), "transient", "postmark_http_503"),
        (
            Postmark,
            Fault::TakeThenAnswer(Reply::postmark(200, 406, "?")),
            "unknown",
            "postmark_unclear_answer",
        ),
        (Postmark, Fault::TakeThenCut, "unknown", "postmark_unclear_answer"),
        (SendGrid, sendgrid(400), "rejected", "sendgrid_400"),
        (SendGrid, sendgrid(413), "rejected", "sendgrid_413"),
        (SendGrid, sendgrid(401), "blocked", "sendgrid_401"),
        (
            SendGrid,
            Fault::Answer(Reply::sendgrid(403, "This is no verified Sender Identity.", Some("from"))),
            "blocked",
            "sendgrid_sender_not_verified",
        ),
        (SendGrid, sendgrid(403), "blocked", "sendgrid_403"),
        (SendGrid, sendgrid(404), "blocked", "sendgrid_404"),
        (SendGrid, sendgrid(405), "blocked", "sendgrid_405"),
        (SendGrid, sendgrid(503), "transient", "sendgrid_503"),
        (SendGrid, Fault::TakeThenAnswer(Reply::status(200)), "unknown", "sendgrid_unclear_answer"),
        (SendGrid, Fault::TakeThenAnswer(Reply::page(202)), "unknown", "sendgrid_unclear_answer"),
        // The mail was taken: nothing of a body is due.
        (SendGrid, Fault::TakeThenCut, "delivered", "ok"),
    ];
    for number in [400, 401, 402, 403, 405, 409, 410, 412, 413] {
        let code: &str = Box::leak(format!("postmark_{number}").into_boxed_str());
        table.push((Postmark, postmark(422, number), "blocked", code));
    }
    for (vendor, moved, busy, stopped) in [
        (Resend, "resend_302", "resend_500", "resend_page_403"),
        (Postmark, "postmark_http_302", "postmark_http_500", "postmark_page_403"),
        (SendGrid, "sendgrid_302", "sendgrid_500", "sendgrid_page_403"),
    ] {
        table.push((vendor, page(302), "blocked", moved));
        table.push((vendor, page(500), "transient", busy));
        table.push((vendor, page(403), "transient", stopped));
    }
    table
}

/// How many mails were taken, those to the operators left out.
fn of_leads(api: &MailApi) -> usize {
    api.mails().iter().filter(|mail| !mail.subject.starts_with("lead-intake: ")).count()
}

#[tokio::test]
async fn what_each_answer_means_is_the_vendor_s_own_word() {
    for vendor in Vendor::ALL {
        let api = MailApi::start().await;
        let service = notifying(&api, vendor, &[]).await;
        for (_, fault, outcome, code) in table().into_iter().filter(|(other, ..)| *other == vendor) {
            api.script().next(fault.clone());
            let before = of_leads(&api);
            let id = service.accepted(&ada()).await;
            let first = attempts(&service, &id, 1).await["history"][0].clone();
            assert_eq!((&first["outcome"], &first["code"]), (&json!(outcome), &json!(code)), "{fault:?}");
            match outcome {
                "rejected" => {
                    assert_eq!(service.delivery(&id, "notification").await["state"], "dead", "{fault:?}");
                    assert_eq!(of_leads(&api), before);
                }
                // Where a repeat may double, a minute goes by first.
                "unknown" if vendor != Resend => {
                    assert_eq!(service.delivery(&id, "notification").await["state"], "pending", "{fault:?}");
                    assert_eq!(
                        service.cli(&["deliveries", "cancel", "--state", "pending", "--yes"]).await.0,
                        0
                    );
                }
                _ => {
                    service.until_state(&id, "notification", "delivered").await;
                    assert_eq!(of_leads(&api), before + 1, "{fault:?}");
                }
            }
        }
        assert!(!service.log().contains("ada@example.com"), "a vendor's word is no code unless it is known");
    }
}

#[tokio::test]
async fn a_limit_of_the_whole_account_holds_the_lane_for_as_long_as_the_vendor_says() {
    let resend = |status, name| Reply::resend(status, name, "Too much.");
    let in_an_hour = "Thu, 01 Jan 2026 00:00:00 GMT";
    for (vendor, reply, code, least) in [
        (
            Resend,
            resend(429, "rate_limit_exceeded").with("retry-after", "7200"),
            "resend_rate_limit_exceeded",
            7_200,
        ),
        (
            Resend,
            resend(429, "rate_limit_exceeded").with("ratelimit-reset", "900"),
            "resend_rate_limit_exceeded",
            900,
        ),
        (Resend, resend(429, "daily_quota_exceeded"), "resend_daily_quota_exceeded", 3_600),
        (Resend, resend(429, "monthly_quota_exceeded"), "resend_monthly_quota_exceeded", 86_400),
        (Resend, resend(403, "email_above_quota"), "resend_email_above_quota", 86_400),
        (Postmark, Reply::status(429), "postmark_http_429", 30),
        (
            SendGrid,
            Reply::sendgrid(401, "Maximum credits exceeded", None),
            "sendgrid_credits_exceeded",
            3_600,
        ),
        (
            SendGrid,
            Reply::status(429).with("date", in_an_hour).with("x-ratelimit-reset", "1767229200"),
            "sendgrid_429",
            3_600,
        ),
        (SendGrid, Reply::status(429), "sendgrid_429", 30),
        (SendGrid, Reply::status(503).with("retry-after", "1800"), "sendgrid_503", 1_800),
    ] {
        let api = MailApi::start().await;
        api.script().next(Fault::Answer(reply));
        let service =
            notifying(&api, vendor, &[(NOTIFICATION_TO, "sales@example.com, boss@example.com")]).await;
        let first = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        let wait = line["retry_in_s"].as_u64().unwrap();
        assert!(line["code"] == code && (least..least + 60).contains(&wait), "{line}");
        let second = service.accepted(&ada()).await;
        assert_eq!(
            service.delivery(&second, "notification").await["attempts"],
            0,
            "{code}: the lane is held"
        );
        assert_eq!(service.delivery(&first, "notification").await["state"], "pending");
        assert_eq!(api.calls().len(), 1, "{code}: the other recipient is spared");
    }
}

#[tokio::test]
async fn a_key_that_is_being_worked_on_is_waited_for() {
    for name in ["concurrent_idempotent_requests", "resource_locked"] {
        let api = MailApi::start().await;
        api.script().next(Fault::Answer(Reply::resend(409, name, "Wait.")));
        let service = notifying(&api, Resend, &[]).await;
        let id = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        assert_eq!((&line["code"], &line["retry_in_s"]), (&json!(format!("resend_{name}")), &json!(5)));
        service.hasten();
        service.until_state(&id, "notification", "delivered").await;
        let calls = api.calls();
        assert_eq!(calls[0].headers["idempotency-key"], calls[1].headers["idempotency-key"]);
    }
}

#[tokio::test]
async fn a_key_is_trusted_for_less_than_the_day_that_it_is_remembered() {
    let api = MailApi::start().await;
    api.script().times(2, Fault::TakeThenDrop);
    let service =
        notifying(&api, Resend, &[("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__RETRY", "1h, 1h")]).await;
    let id = service.accepted(&ada()).await;
    attempts(&service, &id, 1).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let day = 21 * 60 * 60 * 1_000;
    store.execute("UPDATE attempts SET started_at = started_at - ?1", [day]).unwrap();
    service.hasten();
    let delivery = service.until_state(&id, "notification", "dead").await;
    let detail = delivery["history"][1]["detail"].as_str().unwrap();
    assert!(detail.contains("most likely arrived") && api.mails().len() == 1, "{detail}");
    // A day later the vendor has forgotten the key, and a person may say that the mail did not arrive.
    api.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
    service.until_state(&id, "notification", "delivered").await;
    assert_eq!(api.mails().len(), 2);
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_mail_where_the_vendor_knows_the_key() {
    for fault in [
        Fault::TakeThenDrop,
        Fault::TakeThenHang,
        Fault::TakeThenCut,
        Fault::TakeThenAnswer(Reply::page(200)),
        Fault::TakeThenAnswer(Reply::status(500)),
    ] {
        let api = MailApi::start().await;
        api.script().times(4, fault.clone());
        let service = notifying(&api, Resend, &[("LEAD_INTAKE__MAIL__FINAL_TIMEOUT", "300ms")]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "notification", "delivered").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 5, "{fault:?}");
        let (mails, calls) = (api.mails(), api.calls());
        assert_eq!(mails.len(), 1, "{fault:?}");
        assert!(
            calls.len() == 5 && calls.iter().all(|call| call.raw == calls[0].raw),
            "the bytes are the same"
        );
        assert!(calls.iter().all(|call| call.headers["idempotency-key"] == *mails[0].key.as_ref().unwrap()));
        assert!(mails[0].key.as_ref().unwrap().starts_with(&format!("{id}_notification_")));
    }
}

#[tokio::test]
async fn a_mail_that_went_out_with_other_words_is_not_sent_again() {
    let api = MailApi::start().await;
    api.script().next(Fault::TakeThenDrop);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let mut first = notifying(
        &api,
        Resend,
        &[("LEAD_INTAKE__MAIL__TEMPLATES", path), ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__RETRY", "1h")],
    )
    .await;
    let id = first.accepted(&ada()).await;
    attempts(&first, &id, 1).await;
    assert_eq!(first.terminate().await, 0);
    std::fs::write(folder.path().join("notification.subject.txt"), "Other words").unwrap();
    first.hasten();
    let second = first.again().await;
    let delivery = second.until_state(&id, "notification", "dead").await;
    assert_eq!(delivery["history"][1]["code"], "resend_invalid_idempotent_request");
    assert_eq!(api.mails().len(), 1);
}

#[tokio::test]
async fn where_there_is_no_key_a_lost_answer_is_repeated_twice_and_marked_as_the_same() {
    for vendor in [Postmark, SendGrid] {
        let api = MailApi::start().await;
        api.script().always(Fault::TakeThenDrop);
        let service = notifying(&api, vendor, &[]).await;
        let id = service.accepted(&ada()).await;
        for lost in 1..=3 {
            let delivery = attempts(&service, &id, lost).await;
            let code = format!("{}_connection_lost", vendor.word());
            assert_eq!(delivery["history"][lost - 1]["code"], json!(code));
            assert_eq!(delivery["state"], if lost == 3 { "dead" } else { "pending" }, "{vendor:?} {lost}");
            service.hasten();
        }
        let mails = api.mails();
        assert!(mails.len() == 3 && mails.iter().all(|mail| mail.raw == mails[0].raw));
        let detail = service.delivery(&id, "notification").await["history"][2]["detail"].clone();
        assert!(detail.as_str().unwrap().contains("most likely arrived"), "{detail}");
        // Whoever replays it knows that it had not arrived: it begins anew.
        assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
        assert_eq!(attempts(&service, &id, 4).await["state"], "pending");
    }
}

/// One whose answers are lost has three mails at most, and costs nobody else a try.
#[tokio::test]
async fn lost_answers_are_counted_for_each_recipient() {
    for vendor in [Postmark, SendGrid] {
        let api = MailApi::start().await;
        let service =
            notifying(&api, vendor, &[(NOTIFICATION_TO, "sales@example.com, boss@example.com")]).await;
        let (lost, later) = (Fault::TakeThenDrop, Fault::Answer(Reply::status(500)));
        api.script().next(lost.clone());
        api.script().next(later.clone());
        let id = service.accepted(&ada()).await;
        for tried in 1..=2 {
            attempts(&service, &id, tried).await;
            // Whoever lost no answer goes first.
            api.script().next(later.clone());
            api.script().next(lost.clone());
            service.hasten();
        }
        let delivery = service.until_state(&id, "notification", "delivered").await;
        let note = delivery["receipt"]["note"].as_str().unwrap();
        assert!(note.starts_with("Refused for sales@example.com: ") && note.contains("most likely arrived"));
        let to: Vec<_> = api.mails().into_iter().map(|mail| mail.to).collect();
        let sales = "sales@example.com";
        assert_eq!(to, [sales, sales, sales, "boss@example.com"], "{vendor:?}");
        assert_eq!(api.calls().len(), 7);
    }
}

#[tokio::test]
async fn who_was_taken_is_left_out_of_a_retry() {
    for vendor in Vendor::ALL {
        let api = MailApi::start().await;
        let service = notifying(
            &api,
            vendor,
            &[(NOTIFICATION_TO, "sales@example.com, boss@example.com, intern@example.com")],
        )
        .await;
        // The second recipient meets two faults, the others none.
        api.script().next(Fault::TakeThenAnswer(match vendor {
            SendGrid => Reply::status(202).with("x-message-id", "the-first; as"),
            Resend => Reply::json(200, &json!({ "id": "the-first; as" })),
            Postmark => Reply::json(200, &json!({ "ErrorCode": 0, "MessageID": "the-first; as" })),
        }));
        api.script().next(Fault::Answer(Reply::status(500)));
        api.script().next(Fault::TakeThenAnswer(vendor_ok(vendor, "the-third")));
        api.script().next(Fault::Answer(Reply::status(500)));
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "notification", "delivered").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 3, "{vendor:?}: {delivery}");
        let to: Vec<_> = api.mails().into_iter().map(|mail| mail.to).collect();
        assert_eq!(to, ["sales@example.com", "intern@example.com", "boss@example.com"], "{vendor:?}");
        assert_eq!(api.calls().len(), 5);
        let detail = delivery["history"][1]["detail"].as_str().unwrap();
        assert!(detail.starts_with("Taken already: ") && !detail.contains("boss@example.com"), "{detail}");
        let ids = delivery["receipt"]["remote_id"].as_str().unwrap();
        assert!(ids.contains("the-firstas") && ids.contains("the-third"), "{ids}");
    }
}

fn vendor_ok(vendor: Vendor, id: &str) -> Reply {
    match vendor {
        SendGrid => Reply::status(202).with("x-message-id", id),
        Resend => Reply::json(200, &json!({ "id": id })),
        Postmark => Reply::json(200, &json!({ "ErrorCode": 0, "MessageID": id })),
    }
}

#[tokio::test]
async fn a_suppressed_recipient_is_rejected_with_the_reason_and_keeps_the_mail_from_nobody_else() {
    let api = MailApi::start().await;
    api.suppress(&["sales@example.com"]);
    let alone = notifying(&api, Postmark, &[]).await;
    let id = alone.accepted(&ada()).await;
    let delivery = alone.delivery(&id, "notification").await;
    assert_eq!(
        (&delivery["state"], &delivery["history"][0]["code"]),
        (&json!("dead"), &json!("postmark_406"))
    );
    let detail = delivery["history"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("Reactivate") && detail.contains("inactive after a hard bounce"), "{detail}");

    let to = [(NOTIFICATION_TO, "sales@example.com, boss@example.com")];
    let both = notifying(&api, Postmark, &to).await;
    let id = both.accepted(&ada()).await;
    let delivery = both.delivery(&id, "notification").await;
    assert_eq!(delivery["state"], "delivered");
    let note = delivery["receipt"]["note"].as_str().unwrap();
    assert!(note.starts_with("Refused for sales@example.com: ") && note.contains("hard bounce"), "{note}");
    let mails: Vec<Mail> = api.mails();
    assert!(mails.len() == 1 && mails[0].to == "boss@example.com");

    api.suppress(&["sales@example.com", "boss@example.com"]);
    let id = both.accepted(&ada()).await;
    let detail = both.delivery(&id, "notification").await["history"][0]["detail"].clone();
    let detail = detail.as_str().unwrap();
    assert!(detail.contains("sales@example.com: ") && detail.contains("boss@example.com: "), "{detail}");
}

#[tokio::test]
async fn check_proves_the_key_without_a_mail_and_shows_it_to_nobody() {
    for (vendor, wrong) in
        [(Resend, "re_wrong_canary"), (Postmark, "wrong-canary"), (SendGrid, "SG.wrong.canary")]
    {
        let api = MailApi::start().await;
        let folder = tempfile::tempdir().unwrap();
        let check = async |key: &str, base: &str| {
            let variables = [
                ("LEAD_INTAKE__MAIL__TRANSPORT", vendor.word()),
                ("LEAD_INTAKE__MAIL__API_KEY", key),
                ("LEAD_INTAKE__MAIL__BASE_URL", base),
                ("EMAIL_FROM", "hello@example.com"),
                ("EMAIL_NOTIFY_TO", "sales@example.com"),
            ];
            let mut command = binary(folder.path(), &variables);
            let ended = soon(command.args(["check", "--online"]).output()).await.unwrap();
            let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
            (ended.status.code(), text)
        };
        let base = format!("{}/", api.base_url());
        let (code, text) = check(vendor.key(), &base).await;
        assert!(code == Some(0) && text.contains("✓ destinations.notification: ok"), "{text}");
        let (code, text) = check(wrong, &base).await;
        assert!(code == Some(1) && text.contains("refuses the key. Check `mail.api_key`"), "{text}");
        assert!(text.contains("It said:") && !text.contains(wrong), "{text}");
        let (code, text) = check(vendor.key(), &format!("{base}elsewhere")).await;
        assert!(code == Some(1) && text.contains("Check `mail.base_url`"), "{text}");
        api.script().always(Fault::Answer(Reply::page(200)));
        let (code, text) = check(vendor.key(), &base).await;
        assert!(code == Some(1) && text.contains("Check `mail.base_url`"), "{text}");
        api.script().mend();
        api.only_sending();
        api.scopes(&["user.scopes.read"]);
        let (code, text) = check(vendor.key(), &base).await;
        assert_eq!(code, Some(i32::from(vendor == SendGrid)), "{text}");
        assert!(vendor != SendGrid || text.contains("The key may not send mails"), "{text}");
        assert!(api.mails().is_empty());
    }
}

#[tokio::test]
async fn no_line_of_the_log_and_no_detail_holds_the_key_or_anything_personal() {
    for vendor in Vendor::ALL {
        let api = MailApi::start().await;
        let echo = format!("canary-message for ada@example.com, {} is no key", vendor.key());
        for status in [400, 401, 422, 500] {
            api.script().next(Fault::Answer(match vendor {
                Resend => Reply::resend(status, "ada@example.com", &echo),
                Postmark => Reply::postmark(status, 300, &echo),
                SendGrid => Reply::sendgrid(status, &echo, None),
            }));
        }
        api.script().next(Fault::Drop);
        let mut service = notifying(&api, vendor, &[("RUST_LOG", "trace")]).await;
        let mut lead = ada();
        lead["form_data"] = json!({ "message": "canary-message" });
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(service.accepted(&lead).await);
        }
        for id in &ids {
            let shown = attempts(&service, id, 1).await.to_string();
            assert!(!shown.contains(vendor.key()), "{shown}");
        }
        assert_eq!(service.terminate().await, 0);
        let log = service.log();
        assert!(log.contains("attempt failed") || log.contains("dead letter"), "it does say what happened");
        for canary in [vendor.key(), "ada@example.com", "canary-message", "Lovelace", "sales@example.com"] {
            let line = log.lines().find(|line| line.contains(canary));
            assert!(line.is_none(), "{canary} is in the log: {}", line.unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn what_visitors_typed_adds_no_recipient_and_a_mail_that_is_too_large_is_not_sent() {
    for vendor in Vendor::ALL {
        let api = MailApi::start().await;
        let service = notifying(&api, vendor, &[("LEAD_INTAKE__MAIL__MAX_SIZE", "20KB")]).await;
        let mut lead = ada();
        lead["email"] = json!("Ada@Bücher.Example");
        lead["name"] = json!("Ada\", \"to\": \"evil@example.com");
        lead["form_data"] = json!({ "a\r\nBcc: evil@example.com": "b\r\nBcc: evil@example.com\u{0}" });
        service.accepted(&lead).await;
        let seen = soon(api.until(|seen| seen.calls.len() == 1)).await;
        assert_eq!(seen.calls[0].wrong, None);
        assert_eq!(seen.mails[0].to, "sales@example.com");
        assert_eq!(seen.mails[0].reply_to.as_deref(), Some("Ada@xn--bcher-kva.example"));
        assert!(!seen.mails[0].subject.contains('\n') && !seen.mails[0].text.contains(['\r', '\0']));
        lead["form_data"] = json!({ "message": "x".repeat(25_000) });
        let id = service.accepted(&lead).await;
        let delivery = service.delivery(&id, "notification").await;
        assert_eq!(
            (&delivery["state"], &delivery["history"][0]["code"]),
            (&json!("dead"), &json!("too_large"))
        );
        assert_eq!(api.calls().len(), 1);
    }
}

#[tokio::test]
async fn a_configuration_s_problems_are_told_with_their_place_and_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |variables: &[(&str, &str)]| {
        let ended = binary(folder.path(), variables).arg("check").output().await.unwrap();
        (ended.status.code(), String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap())
    };
    let mail = [("EMAIL_FROM", "hello@example.com"), ("EMAIL_NOTIFY_TO", "sales@example.com")];
    let with = |more: &[(&'static str, &'static str)]| [mail.as_slice(), more].concat();
    const TRANSPORT: &str = "LEAD_INTAKE__MAIL__TRANSPORT";
    const KEY: &str = "LEAD_INTAKE__MAIL__API_KEY";
    const BASE: &str = "LEAD_INTAKE__MAIL__BASE_URL";

    let (code, text) = check(&with(&[(TRANSPORT, "resend"), (KEY, "re_1")])).await;
    assert!(code == Some(0) && text.contains("Destinations: confirmation, notification."), "{text}");
    // An environment that still has the mail server's variable is none that is wrong.
    let (code, text) =
        check(&with(&[(TRANSPORT, "sendgrid"), (KEY, "SG.1"), ("SMTP_URL", "smtps://a:b@c.test")])).await;
    assert_eq!(code, Some(0), "{text}");
    let far = [(TRANSPORT, "postmark"), (KEY, "p"), (BASE, "http://far.test")];
    let (code, _) = check(&[with(&far), vec![("LEAD_INTAKE__MAIL__ALLOW_HTTP", "true")]].concat()).await;
    assert_eq!(code, Some(0));

    for (variables, expected) in [
        (
            with(&[(TRANSPORT, "resend")]),
            vec!["mail.api_key  (variable ", "`api_key` is missing", "by LEAD_INTAKE__MAIL__API_KEY"],
        ),
        (with(&[]), vec!["mail.smtp_url  (variable ", "`smtp_url` is missing", "by SMTP_URL"]),
        (
            vec![("EMAIL_NOTIFY_TO", "sales@example.com")],
            vec!["2 problems", "`smtp_url` is missing", "`from` is missing", "by EMAIL_FROM"],
        ),
        (
            with(&far),
            vec!["mail.base_url  (variable LEAD_INTAKE__MAIL__BASE_URL)", "Plain http", "call Postmark"],
        ),
        (
            with(&[(TRANSPORT, "resend"), (KEY, "hunter2 hunter3"), (BASE, "nonsense")]),
            vec![
                "2 problems",
                "mail.api_key  (variable LEAD_INTAKE__MAIL__API_KEY)",
                "one plain word",
                "no URL",
            ],
        ),
        (
            with(&[("SMTP_URL", "smtps://a:b@c.test"), (KEY, "hunter2-key"), (BASE, "https://a.test")]),
            vec!["2 problems", "this is for mail APIs", "write transport = \"resend\""],
        ),
        (
            with(&[(TRANSPORT, "mailgun"), (KEY, "hunter2-key")]),
            vec!["mail.transport  (variable LEAD_INTAKE__MAIL__TRANSPORT)", "mailgun", "postmark"],
        ),
    ] {
        let (code, text) = check(&variables).await;
        assert_eq!(code, Some(1));
        let lower = text.to_lowercase();
        for expected in expected {
            assert!(lower.contains(&expected.to_lowercase()), "{expected:?} is not in:\n{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
