//! The sheet, through the real binary, against a stand-in for Google.

use std::time::Duration;

use serde_json::{Value, json};
use stand_ins::google::{Fault, Google, Kind, On, TokenFault};
use stand_ins::hook::{self, Hook};

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

#[tokio::test]
async fn the_tab_and_its_header_are_made_and_the_row_is_there_when_the_answer_comes() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let mut lead = ada();
    lead["form_data"] = json!({"message": "=1+2", "zip": "007", "budget": 5000, "topics": ["a", "b"], "none": null, "email": "second@example.com"});
    let id = service.accepted(&lead).await;
    let rows = google.rows("Leads");
    let header: Vec<_> =
        HEADER.into_iter().chain(["message", "zip", "budget", "topics", "form_data.email"]).collect();
    assert_eq!(rows[0], header);
    let row = google.records("Leads").remove(0);
    let expected = [
        ("id", id.as_str()),
        ("form_name", "contact"),
        ("name", "Ada Lovelace"),
        ("email", "ada@example.com"),
        ("phone", "+44 20 7946 0018"),
        ("url", "https://example.com/contact?utm_source=news"),
        ("referrer", ""),
        ("utm_source", "news"),
        ("timezone", "Europe/London"),
        ("consent_given", "TRUE"),
        ("crm_synced", ""),
        ("message", "=1+2"),
        ("zip", "007"),
        ("budget", "5000"),
        ("topics", "[\"a\",\"b\"]"),
        ("form_data.email", "second@example.com"),
    ];
    for (name, text) in expected {
        assert_eq!(row[name], text, "{name}");
    }
    assert!(!row["submitted_at"].is_empty() && !row["consent_timestamp"].is_empty());
    let delivery = service.delivery(&id, "sheet").await;
    assert_eq!(
        (&delivery["state"], &delivery["receipt"]["remote_id"]),
        (&json!("delivered"), &json!("Leads!A2"))
    );
}

#[tokio::test]
async fn a_person_may_reorder_add_and_sort_columns_and_rows() {
    let google = Google::start().await;
    google.edit("Leads", |tab| {
        for (column, name) in ["Owner", "email", "id", "note"].into_iter().enumerate() {
            tab.cells.resize(2, Vec::new());
            tab.cells[0].resize(4, Value::Null);
            tab.cells[0][column] = json!(name);
        }
        tab.cells[1] = vec![json!("Eve"), json!("old@example.com"), json!("lead_old"), json!("mine")];
    });
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    let rows = google.rows("Leads");
    assert_eq!(rows[0][..4], ["Owner", "email", "id", "note"]);
    assert_eq!(rows[1][..4], ["Eve", "old@example.com", "lead_old", "mine"]);
    assert_eq!(rows[2][..3], ["", "ada@example.com", id.as_str()], "found by name");
    assert!(rows[0].contains(&"message".to_owned()));
}

#[tokio::test]
async fn rows_begin_where_the_header_begins() {
    let google = Google::start().await;
    google.edit("Leads", |tab| tab.cells = vec![vec![json!(""), json!("id"), json!("name")]]);
    let service = service(&google, &[]).await;
    let ids = [service.accepted(&ada()).await, service.accepted(&ada()).await];
    for (row, id) in ids.iter().enumerate() {
        assert_eq!(google.rows("Leads")[row + 1][..3], ["", id.as_str(), "Ada Lovelace"]);
        let delivery = service.delivery(id, "sheet").await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{delivery}");
    }
}

#[tokio::test]
async fn an_append_is_no_larger_than_the_settings_say() {
    let google = Google::start().await;
    let size = ("LEAD_INTAKE__DESTINATIONS__SHEET__APPEND_SIZE", "10KB");
    let service = service(&google, &[SHORT_DEADLINE, size]).await;
    let message = "x".repeat(3_000);
    let leads: Vec<_> =
        (0..10).map(|it| named(&format!("Lead {it}"), &json!({"message": message}))).collect();
    grouped(&google, &service, &leads).await;
    soon(google.until(|seen| seen.calls.iter().map(|call| call.rows).sum::<usize>() >= 10)).await;
    assert!(google.seen().calls.iter().all(|call| call.rows <= 3), "{:?}", google.seen().calls);
}

#[tokio::test]
async fn the_lease_of_an_attempt_outlasts_what_google_may_still_write() {
    let google = Google::start().await;
    google.always(On::Any, Fault::Hang);
    let service = service(
        &google,
        &[
            ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "200s"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__TIMEOUT", "90s"),
            ("LEAD_INTAKE__INTAKE__DEADLINE", "50ms"),
        ],
    )
    .await;
    service.accepted(&ada()).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    let lease: i64 =
        store.query_row("SELECT due_at - open_since FROM deliveries", [], |row| row.get(0)).unwrap();
    assert!(lease >= 290_000, "should this process die, none looks before: {lease} ms");
}

#[tokio::test]
async fn many_at_once_share_an_append_a_header_write_and_a_token() {
    let google = Google::start().await;
    google.always(On::Any, Fault::Slow(Duration::from_millis(100)));
    let service = service(&google, &[]).await;
    let leads: Vec<_> =
        (0..40).map(|it| named(&format!("Lead {it}"), &json!({"size": it, "colour": "x"}))).collect();
    futures_util::future::join_all(leads.iter().map(|lead| service.accepted(lead))).await;
    soon(google.until(|seen| seen.calls.iter().map(|call| call.rows).sum::<usize>() == 40)).await;
    let seen = google.seen();
    assert!(seen.count(Kind::Append) <= 5, "{} appends for 40 leads", seen.count(Kind::Append));
    assert!(seen.count(Kind::Write) <= 3, "the tab, its header, the two new columns");
    assert_eq!(seen.token_requests, 1);
    google.mend();
    let mut found = ids(&google);
    found.sort();
    found.dedup();
    assert_eq!((found.len(), google.records("Leads").len()), (40, 40));
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_up_and_never_a_second_row() {
    for (fault, code) in [
        (Fault::ApplyThenDrop, "connection_lost"),
        (Fault::ApplyThenStatus(500), "http_500"),
        (Fault::ApplyThenStatus(503), "http_503"),
        (Fault::ApplyThenCut, "cut_answer"),
        (Fault::ApplyThenEmpty, "empty_answer"),
        (Fault::Drop, "connection_lost"),
        (Fault::Html(502), "http_502"),
        (Fault::LoseRow, "misplaced"),
    ] {
        let google = Google::start().await;
        google.next(On::Appends, fault.clone());
        let service = service(&google, &[]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "sheet", "delivered").await;
        let first = &delivery["history"][0];
        assert_eq!((&first["outcome"], &first["code"]), (&json!("unknown"), &json!(code)), "{fault:?}");
        assert_eq!(ids(&google), [id], "{fault:?}: exactly one row");
    }
}

#[tokio::test]
async fn a_write_that_lands_late_is_waited_for() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::Late);
    let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1500ms")]).await;
    let id = service.accepted(&ada()).await;
    assert_eq!(google.apply_late(), 1, "Google applies it after the connection was lost");
    service.until_state(&id, "sheet", "delivered").await;
    assert_eq!((ids(&google), google.seen().count(Kind::Append)), (vec![id], 1));
}

#[tokio::test]
async fn a_clock_that_was_ahead_makes_no_look_wait_for_it() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::ApplyThenDrop);
    let variables = [
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "3s"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1h, 1h, 1h, 1h, 1h, 1h"),
    ];
    let service = service(&google, &variables).await;
    let id = service.accepted(&ada()).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let ahead =
        "UPDATE attempts SET started_at = started_at + 864000000, finished_at = finished_at + 864000000";
    soon(async {
        while store.execute(ahead, []).unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // The first attempt after that only learns that the clock was ahead; the wait is from that one on, however many
    // more are made meanwhile: one whenever the lane asks by itself.
    soon(async {
        let due = "UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL";
        let is_pending = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state = 'pending')";
        while store.query_row(is_pending, [], |row| row.get(0)).unwrap() {
            store.execute(due, []).unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let history = service.delivery(&id, "sheet").await["history"].clone();
    let codes: Vec<_> = history.as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap()).collect();
    let [first, meanwhile @ .., last] = &codes[..] else { panic!("{codes:?}") };
    assert_eq!((*first, *last), ("connection_lost", "ok"));
    assert!(meanwhile.iter().all(|code| *code == "too_early"), "{codes:?}");
    assert_eq!(ids(&google), [id]);
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_ends_no_wait_for_a_write_that_lands_late() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::Late);
    let variables = [
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "3s"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1h, 1h, 1h"),
    ];
    let service = service(&google, &variables).await;
    let id = service.accepted(&ada()).await;
    let line = service.until_logged("attempt failed").await;
    assert_eq!(line["outcome"], "unknown");
    // By the wall clock the attempt was an hour ago, and the next one is due.
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let earlier =
        "UPDATE attempts SET started_at = started_at - 3600000, finished_at = finished_at - 3600000";
    soon(async {
        while store.execute(earlier, []).unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let due = "UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL";
    store.execute(due, []).unwrap();
    soon(async { while service.delivery(&id, "sheet").await["history"].as_array().unwrap().len() < 2 {} })
        .await;
    assert_eq!(google.apply_late(), 1);
    soon(async {
        while service.delivery(&id, "sheet").await["state"] != "delivered" {
            store.execute(due, []).unwrap();
        }
    })
    .await;
    let history = service.delivery(&id, "sheet").await["history"].clone();
    assert_eq!(history[1]["code"], "too_early", "{history}");
    assert_eq!(ids(&google), [id], "{history}");
}

#[tokio::test]
async fn others_go_on_while_one_outcome_is_unknown() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::ApplyThenDrop);
    let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1h")]).await;
    let first = service.accepted(&ada()).await;
    let second = service.accepted(&named("Second", &json!({}))).await;
    assert_eq!(service.delivery(&second, "sheet").await["state"], "delivered");
    assert_eq!(service.delivery(&first, "sheet").await["state"], "pending");
    assert_eq!(google.seen().count(Kind::Append), 2);
}

#[tokio::test]
async fn one_look_tells_of_many_rows_whose_answer_was_lost() {
    let google = Google::start().await;
    let service =
        service(&google, &[SHORT_DEADLINE, ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1h, 1h, 1h")]).await;
    let wait_behind = async |lead: &Value| {
        let before = google.seen().waited;
        google.next(On::Appends, Fault::Wait);
        let id = service.accepted(lead).await;
        soon(google.until(|seen| seen.waited > before)).await;
        id
    };
    wait_behind(&ada()).await;
    google.next(On::Appends, Fault::ApplyThenDrop);
    let leads: Vec<_> = (0..12).map(|it| named(&format!("Lead {it}"), &json!({}))).collect();
    let lost = futures_util::future::join_all(leads.iter().map(|lead| service.accepted(lead))).await;
    google.go_on();
    for id in &lost {
        service.until_delivery(id, "sheet", |it| it["history"].as_array().unwrap().len() == 1).await;
    }
    // Another one is on its way, and behind it they all wait for their turn.
    wait_behind(&named("Another", &json!({}))).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    let due = "UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL";
    assert_eq!(store.execute(due, []).unwrap(), lost.len());
    for id in &lost {
        service.until_delivery(id, "sheet", |it| it["attempts"] == 2).await;
    }
    let looks = || {
        let calls = google.seen().calls;
        calls.iter().filter(|call| call.path.contains("batchGet") && call.path.contains("Leads")).count()
    };
    let before = looks();
    google.go_on();
    for id in &lost {
        service.until_state(id, "sheet", "delivered").await;
    }
    let looks = looks() - before;
    assert!((1..=lost.len() / 2).contains(&looks), "{looks} looks for {} rows", lost.len());
    let mut there = ids(&google);
    there.sort();
    there.dedup();
    assert_eq!((there.len(), google.records("Leads").len()), (14, 14), "each once");
}

#[tokio::test]
async fn appends_and_looks_at_the_header_keep_to_what_google_allows_in_a_minute() {
    let google = Google::start().await;
    let variables = [
        SHORT_DEADLINE,
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "60"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "60"),
    ];
    let service = service(&google, &variables).await;
    let began = std::time::Instant::now();
    for number in 0..20 {
        service.accepted(&named(&format!("Lead {number}"), &json!({}))).await;
    }
    let (seen, elapsed) = (google.seen(), began.elapsed().as_secs_f64());
    // 50 writes, for a sixth is kept for marks: 8 at once, the rest spread. 20 reads for the header: 3 at once.
    let writes = seen.calls.iter().filter(|call| call.kind != Kind::Read).count() as f64;
    assert!(writes >= 8.0 && writes <= 9.0 + elapsed * 42.0 / 60.0, "{writes} writes in {elapsed} s");
    // Where there is no tab yet, it is looked at once more when it has been made.
    let reads = seen.count(Kind::Read) as f64;
    assert!(reads <= 5.0 + elapsed * 17.0 / 60.0, "{reads} reads in {elapsed} s");
}

#[tokio::test]
async fn looks_for_rows_have_reads_of_their_own() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::ApplyThenDrop);
    let variables = [
        // One look at the header a minute, and by then the attempt would be over.
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "6"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__TIMEOUT", "10s"),
    ];
    let service = service(&google, &variables).await;
    let id = service.accepted(&ada()).await;
    let history = service.until_state(&id, "sheet", "delivered").await["history"].clone();
    let codes: Vec<_> = history.as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert_eq!((codes, ids(&google)), (vec!["connection_lost", "ok"], vec![id]));
}

#[tokio::test]
async fn a_quota_is_waited_out_and_nothing_is_sent_twice() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::Quota);
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    let line = service.until_logged("attempt failed").await;
    assert!(line["retry_in_s"].as_u64().unwrap() >= 30 && line["code"] == "http_429", "{line}");
    assert_eq!(service.delivery(&id, "sheet").await["history"][0]["outcome"], "transient");
}

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
async fn a_tab_without_an_id_column_is_left_alone() {
    let google = Google::start().await;
    google.edit("Leads", |tab| tab.cells = vec![vec![json!("name"), json!("email")], vec![json!("Eve")]]);
    let before = google.rows("Leads");
    let service = service(&google, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    let detail = service.delivery(&id, "sheet").await["history"][0]["detail"].to_string();
    assert!(detail.contains("no column `id`"), "{detail}");
    assert_eq!(google.rows("Leads"), before);
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

#[tokio::test]
async fn rows_that_google_refuses_are_told_apart_and_do_not_fail_their_neighbours() {
    let google = Google::start().await;
    let service = service(&google, &[SHORT_DEADLINE]).await;
    google.refuse("poison");
    let names = ["First", "poison 1", "Second", "Third", "poison 2", "poison 3", "Fourth"];
    let leads: Vec<_> = names.iter().map(|name| named(name, &json!({}))).collect();
    let sent = grouped(&google, &service, &leads).await;
    for (name, id) in names.iter().zip(&sent) {
        let state = if name.contains("poison") { "dead" } else { "delivered" };
        let delivery = service.until_state(id, "sheet", state).await;
        assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{name}: {delivery}");
        if state == "dead" {
            let detail = delivery["history"][0]["detail"].as_str().unwrap();
            assert!(detail.starts_with("Google refuses this row. It said: "), "{detail}");
        }
    }
    let refused = google.seen().calls.iter().any(|call| call.rows > 1 && call.status == Some(400));
    assert!(refused, "a whole group was refused");
    let mut there = google.records("Leads");
    there.sort_by(|one, other| one["name"].cmp(&other["name"]));
    let there: Vec<_> = there.iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(there, ["First", "Fourth", "Second", "Third"], "each once");
}

#[tokio::test]
async fn a_quota_that_ends_in_the_middle_of_a_group_stops_there_and_doubles_nothing() {
    let google = Google::start().await;
    let service = service(&google, &[SHORT_DEADLINE]).await;
    google.refuse("poison");
    let names = ["First", "Second", "Third", "poison", "Fourth"];
    let leads: Vec<_> = names.iter().map(|name| named(name, &json!({}))).collect();
    google.next(On::Appends, Fault::Wait);
    // The group is refused for its one row; the first half goes in, and then the quota is used up.
    google.next(On::Appends, Fault::Slow(Duration::ZERO));
    google.next(On::Appends, Fault::Slow(Duration::ZERO));
    google.next(On::Appends, Fault::QuotaFor(1));
    let before = google.seen().waited;
    let mut sent = vec![service.accepted(&leads[0]).await];
    soon(google.until(|seen| seen.waited > before)).await;
    for lead in &leads[1..] {
        // One after the other, for their order in the group decides what the quota lets through.
        sent.push(service.accepted(lead).await);
    }
    google.go_on();
    let mut waited = Vec::new();
    for (name, id) in names.iter().zip(&sent) {
        let state = if *name == "poison" { "dead" } else { "delivered" };
        let history = service.until_state(id, "sheet", state).await["history"].clone();
        assert!(history.as_array().unwrap().iter().all(|it| it["outcome"] != "unknown"), "{history}");
        waited.extend((history[0]["code"] == "http_429").then_some(*name));
    }
    assert!(!waited.is_empty() && waited.len() < 4, "some went in before the quota was used up: {waited:?}");
    let statuses: Vec<_> =
        google.seen().calls.iter().filter(|call| call.kind == Kind::Append).map(|it| it.status).collect();
    let limited = statuses.iter().filter(|status| **status == Some(429)).count();
    assert_eq!(limited, 1, "nobody asks again before its time: {statuses:?}");
    let mut there: Vec<_> = google.records("Leads").iter().map(|row| row["name"].clone()).collect();
    there.sort();
    assert_eq!(there, ["First", "Fourth", "Second", "Third"]);
}

#[tokio::test]
async fn rows_that_google_puts_elsewhere_are_noticed_and_stand_once_where_they_belong() {
    // Beside the table, as if another one were meant; near the top; in another tab, above its first row.
    for (place, in_place) in [("'Leads'!AA2", false), ("'Leads'!A2", true), ("'Sheet1'!A1", false)] {
        let google = Google::start().await;
        let service = service(&google, &[]).await;
        let first = service.accepted(&ada()).await;
        google.next(On::Appends, Fault::PutAt(place));
        let second = service.accepted(&named("Second", &json!({}))).await;
        let delivery = service.until_state(&second, "sheet", "delivered").await;
        let mut there = ids(&google);
        there.retain(|id| !id.is_empty());
        assert_eq!(there.iter().filter(|id| **id == second).count(), 1, "{place}: {there:?}");
        assert_eq!(there.iter().filter(|id| **id == first).count(), 1, "{place}: {there:?}");
        let first = &delivery["history"][0];
        if in_place {
            assert_eq!(first["outcome"], "delivered", "it is below the header, and whole: {delivery}");
        } else {
            assert_eq!((&first["outcome"], &first["code"]), (&json!("unknown"), &json!("misplaced")));
            assert!(first["detail"].as_str().unwrap().contains("looked at before it is sent again"));
        }
    }
}

#[tokio::test]
async fn another_program_that_appends_at_the_same_moment_loses_no_row_and_takes_none() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let first = service.accepted(&ada()).await;
    // A note of the owner's, one empty row below the table.
    google.edit("Leads", |tab| tab.set(3, 0, "lead_noted_by_hand"));
    google.next(On::Appends, Fault::Race(&["lead_of_another_program"]));
    let second = service.accepted(&named("Second", &json!({}))).await;
    let third = service.accepted(&named("Third", &json!({}))).await;
    let there = ids(&google);
    for id in [&*first, &second, &third, "lead_of_another_program", "lead_noted_by_hand"] {
        assert_eq!(there.iter().filter(|there| *there == id).count(), 1, "{id}: {there:?}");
    }
}

#[tokio::test]
async fn an_answer_that_stops_or_never_comes_holds_nobody_up_for_longer_than_an_attempt() {
    for on in [None, Some(On::Reads), Some(On::Appends)] {
        let google = Google::start().await;
        let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__TIMEOUT", "1500ms")]).await;
        google.edit("Leads", |_| {});
        match on {
            Some(on) => google.next(on, Fault::ApplyThenStall),
            None => google.token_script().next(TokenFault::Hang),
        }
        let first = service.accepted(&ada()).await;
        let delivery = service.until_state(&first, "sheet", "delivered").await;
        let outcome = &delivery["history"][0]["outcome"];
        assert!(outcome == "unknown" || (outcome == "transient" && on != Some(On::Appends)), "{delivery}");
        let second = service.accepted(&named("Second", &json!({}))).await;
        service.until_state(&second, "sheet", "delivered").await;
        assert_eq!(ids(&google), [first, second], "{on:?}: each once");
    }
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

#[tokio::test]
async fn a_tab_that_took_the_old_name_of_ours_gets_no_leads() {
    let google = Google::start().await;
    let service = service(&google, &[]).await;
    let first = service.accepted(&ada()).await;
    google.edit("Leads", |tab| tab.title = "Leads of last year".to_owned());
    google.edit("Leads", |_| {});
    let second = service.accepted(&named("Second", &json!({}))).await;
    let third = service.accepted(&named("Third", &json!({}))).await;
    for id in [&second, &third] {
        service.until_state(id, "sheet", "delivered").await;
    }
    let mut there: Vec<_> =
        google.records("Leads of last year").into_iter().map(|row| row["id"].clone()).collect();
    there.sort();
    let mut wanted = [first, second, third.clone()];
    wanted.sort();
    assert_eq!(there, wanted, "a tab is known by its number");
    // What was on its way in the moment of the change may stand in the new tab as well, and nothing after it.
    let strays = google.rows("Leads");
    assert!(strays.len() <= 1 && !format!("{strays:?}").contains(&third), "{strays:?}");
}

#[tokio::test]
async fn a_tab_that_is_renamed_is_followed_and_an_odd_name_is_no_trouble() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__DESTINATIONS__SHEET__TAB", "It's #1? 100%/A")]).await;
    service.accepted(&ada()).await;
    assert_eq!(google.records("It's #1? 100%/A").len(), 1);
    google.edit("It's #1? 100%/A", |tab| tab.title = "Renamed".to_owned());
    let id = service.accepted(&named("Second", &json!({}))).await;
    service.until_state(&id, "sheet", "delivered").await;
    assert_eq!(google.records("Renamed").len(), 2);
    assert_eq!(google.tabs(), ["Sheet1", "Renamed"]);
}

#[tokio::test]
async fn a_crash_in_mid_append_leaves_one_row() {
    let google = Google::start().await;
    google.next(On::Appends, Fault::ApplyThenHang);
    let mut service = service(&google, &[("LEAD_INTAKE__INTAKE__DEADLINE", "200ms")]).await;
    let id = service.accepted(&ada()).await;
    soon(google.until(|seen| seen.count(Kind::Append) == 1)).await;
    service.kill().await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    assert_eq!(store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap(), 1);
    drop(store);
    let again = service.again().await;
    let delivery = again.until_state(&id, "sheet", "delivered").await;
    assert_eq!(delivery["history"][0]["code"], "lost");
    assert_eq!((ids(&google), google.seen().count(Kind::Append)), (vec![id], 1));
}

#[tokio::test]
async fn without_consent_the_owner_s_sheet_still_gets_the_lead() {
    let google = Google::start().await;
    let service = service(&google, &[("CRM_WEBHOOK_URL", "https://crm.test/x")]).await;
    let mut lead = ada();
    lead["consent_given"] = json!(false);
    let id = service.accepted(&lead).await;
    let row = google.records("Leads").remove(0);
    assert_eq!(
        (row["id"].as_str(), row["consent_given"].as_str(), row["crm_synced"].as_str()),
        (id.as_str(), "FALSE", "FALSE")
    );
    assert_eq!(service.delivery(&id, "crm").await["state"], "withheld");
}

#[tokio::test]
async fn while_the_store_cannot_commit_the_sheet_keeps_the_lead_with_a_mark_until_it_can() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let id = service.accepted(&ada()).await;
    let row = google.records("Leads").remove(0);
    let mark: Value = serde_json::from_str(&row["lead_intake_mark"]).unwrap();
    assert_eq!((mark["id"].as_str(), mark["email"].as_str()), (Some(id.as_str()), Some("ada@example.com")));
    held.execute_batch("ROLLBACK").unwrap();
    let delivery = service.until_state(&id, "sheet", "delivered").await;
    assert_eq!(delivery["receipt"]["remote_id"], "Leads!A2");
    soon(google.until(|seen| seen.calls.iter().any(|call| call.path.contains("values:batchUpdate")))).await;
    soon(async {
        while google.records("Leads").remove(0).get("lead_intake_mark").is_some_and(|mark| !mark.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(ids(&google), [id]);
}

#[tokio::test]
async fn without_a_store_leads_are_taken_as_long_as_the_sheet_takes_them() {
    let google = Google::start().await;
    let variables =
        [("LEAD_INTAKE__STORE__TIMEOUT", "200ms"), ("LEAD_INTAKE__DESTINATIONS__SHEET__PROBE", "1h")];
    let service = service(&google, &variables).await;
    let held = held(&service);
    assert_eq!(service.get("/health").await.0, 503);
    assert_eq!(service.get("/health/ready").await.0, 200, "it takes leads all the same");
    service.accepted(&ada()).await;
    held.execute_batch("ROLLBACK").unwrap();
    google.always(On::Any, Fault::Status(403));
    service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(service.get("/health/ready").await.0, 503);
    let asked = google.seen().calls.len();
    assert_eq!(service.submit(&ada()).await.0, 503);
    assert_eq!(google.seen().calls.len(), asked, "nobody asks a sheet that is parked");
}

/// A store that nobody can commit to until the connection is dropped.
fn held(service: &Service) -> rusqlite::Connection {
    let held = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    held
}

#[tokio::test]
async fn a_keep_whose_answer_was_lost_is_looked_for_by_every_repeat_and_never_a_second_row() {
    // While the row may still land nobody looks, and nobody sends it again.
    for (store_is_back, look_after) in [(false, "1h"), (false, "100ms"), (true, "100ms")] {
        let google = Google::start().await;
        google.next(On::Appends, Fault::ApplyThenDrop);
        let variables = [
            ("LEAD_INTAKE__STORE__TIMEOUT", "100ms"),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", look_after),
            ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "100ms, 100ms, 100ms, 100ms"),
        ];
        let service = service(&google, &variables).await;
        let held = held(&service);
        let key = [("Idempotency-Key", "k")];
        assert_eq!(service.submit_with(&ada(), &key).await.0, 503, "nobody knows whether it is kept");
        if look_after == "1h" {
            assert_eq!(service.submit_with(&ada(), &key).await.0, 503, "too early to look");
            assert_eq!(google.seen().count(Kind::Append), 1);
            continue;
        }
        let held = (!store_is_back).then_some(held);
        let id = soon(async {
            loop {
                let (status, body) = service.submit_with(&ada(), &key).await;
                if status == 200 {
                    return body["id"].as_str().unwrap().to_owned();
                }
            }
        })
        .await;
        drop(held);
        service.until_state(&id, "sheet", "delivered").await;
        soon(async {
            while !google.records("Leads")[0]["lead_intake_mark"].is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!((ids(&google), google.seen().count(Kind::Append)), (vec![id], 1), "{store_is_back}");
    }
}

#[tokio::test]
async fn a_lead_whose_process_died_before_the_store_had_it_is_no_second_row_when_its_visitor_comes_back() {
    let google = Google::start().await;
    let mut service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let key = [("Idempotency-Key", "k")];
    assert_eq!(service.submit_with(&ada(), &key).await.0, 200, "the sheet keeps it");
    service.kill().await;
    drop(held);
    let again = service.again().await;
    let (status, body) = again.submit_with(&ada(), &key).await;
    assert_eq!(status, 200);
    let id = body["id"].as_str().unwrap();
    again.until_state(id, "sheet", "delivered").await;
    assert_eq!(ids(&google), [id]);
    soon(async {
        while !google.records("Leads")[0]["lead_intake_mark"].is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_writes_alone_looks_for_a_lead_that_a_dead_one_had_kept() {
    let google = Google::start().await;
    let service = service(&google, &[SHORT_DEADLINE, ("LEAD_INTAKE__STORE__TIMEOUT", "100ms")]).await;
    let first = service.accepted(&named("First", &json!({}))).await;
    google.next(On::Appends, Fault::Wait);
    let second = service.accepted(&named("Second", &json!({}))).await;
    soon(google.until(|seen| seen.waited == 1)).await;
    // Its turn at the sheet is kept in a store that nobody can ask: another process keeps a lead there, and dies.
    let mut other = service.again().await;
    let held = held(&service);
    let key = [("Idempotency-Key", "k")];
    let (status, body) = soon(async {
        loop {
            // At the deadline it may be on its way still.
            let answer = other.submit_with(&ada(), &key).await;
            if answer.0 == 200 {
                return answer;
            }
        }
    })
    .await;
    assert_eq!(status, 200, "the sheet keeps it");
    other.kill().await;
    held.execute_batch("ROLLBACK").unwrap();
    // Its visitor comes again while there is a store, and waits for the writer, who then finds none.
    let (status, again) = service.submit_with(&ada(), &key).await;
    assert_eq!((status, &again["id"]), (200, &body["id"]));
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    service.submit(&named("Third", &json!({}))).await;
    google.go_on();
    service.until_logged("kept in the second home").await;
    held.execute_batch("ROLLBACK").unwrap();
    let id = body["id"].as_str().unwrap();
    service.until_state(id, "sheet", "delivered").await;
    service.until_state(&second, "sheet", "delivered").await;
    let there = ids(&google);
    for id in [id, &first, &second] {
        assert_eq!(there.iter().filter(|there| *there == id).count(), 1, "{id}: {there:?}");
    }
    assert_eq!(there.len(), 4, "{there:?}");
}

#[tokio::test]
async fn a_visitor_who_clicks_twice_while_the_store_goes_away_is_one_row() {
    let google = Google::start().await;
    let service = service(&google, &[SHORT_DEADLINE, ("LEAD_INTAKE__STORE__TIMEOUT", "100ms")]).await;
    google.next(On::Appends, Fault::Wait);
    let first = service.accepted(&named("First", &json!({}))).await;
    soon(google.until(|seen| seen.waited == 1)).await;
    // The first click is stored and waits for its turn; the second one finds no store, and waits beside it.
    let key = [("Idempotency-Key", "k")];
    let (_, body) = service.submit_with(&ada(), &key).await;
    let held = held(&service);
    assert_eq!(service.submit_with(&ada(), &key).await.0, 503, "nobody has taken it by the deadline");
    google.go_on();
    service.until_logged("kept in the second home").await;
    drop(held);
    let id = body["id"].as_str().unwrap();
    service.until_state(id, "sheet", "delivered").await;
    assert_eq!(ids(&google), [first.as_str(), id]);
}

#[tokio::test]
async fn of_two_rows_of_a_kept_lead_one_goes_unless_somebody_has_written_into_it() {
    // What somebody wrote into the second row, and how many equal rows without an id are between and below.
    for (note, between, below, removed) in
        [("", 0, 0, 1), ("call her on Monday", 0, 0, 0), ("", 0, 2, 1), ("", 1, 1, 1), ("", 2, 0, 0)]
    {
        let google = Google::start().await;
        let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
        let held = held(&service);
        let id = service.accepted(&ada()).await;
        google.edit("Leads", |tab| {
            let mut copy = tab.cells[1].clone();
            let referrer = HEADER.iter().position(|name| *name == "referrer").unwrap();
            (copy[1], copy[referrer]) = (json!("2026-01-01T00:00:00Z"), json!(note));
            let own = |count| std::iter::repeat_n(vec![json!(""), json!(""), json!("mine")], count);
            tab.cells.extend(own(between).chain([copy]).chain(own(below)));
        });
        drop(held);
        let rows = soon(async {
            loop {
                let rows = google.records("Leads");
                if rows.iter().any(|row| row["id"] == id && row["lead_intake_mark"].is_empty()) {
                    return rows;
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        let count = |column: &str, text: &str| rows.iter().filter(|row| row[column] == text).count();
        assert_eq!(
            (count("id", &id), count("form_name", "mine"), rows[0]["id"].as_str()),
            (2 - removed, between + below, id.as_str()),
            "{note:?} {between} {below}"
        );
    }
}

#[tokio::test]
async fn a_second_row_that_goes_leaves_what_it_said_of_the_crms_to_the_first() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    hook.script().always(hook::Fault::status(503));
    let url = hook.url();
    let variables = [("LEAD_INTAKE__STORE__TIMEOUT", "200ms"), ("CRM_WEBHOOK_URL", url.as_str())];
    let service = service(&google, &variables).await;
    let held = held(&service);
    let id = service.accepted(&ada()).await;
    assert_eq!(google.records("Leads")[0]["crm_synced"], "FALSE");
    google.edit("Leads", |tab| {
        let mut copy = tab.cells[1].clone();
        copy[HEADER.len() - 1] = json!("TRUE");
        tab.cells.push(copy);
    });
    drop(held);
    soon(async {
        while google.records("Leads").iter().any(|row| !row["lead_intake_mark"].is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let rows = google.records("Leads");
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["id"], rows[0]["crm_synced"].as_str()), (&id, "TRUE"));
}

#[tokio::test]
async fn a_lead_that_fits_no_cell_is_not_kept_by_halves() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let lead = named("Ada", &json!({ "message": "x".repeat(51_000) }));
    assert_eq!(service.submit(&lead).await.0, 503, "its mark would not be the whole lead");
    assert!(google.seen().calls.iter().all(|call| !call.path.contains(":append")));
    drop(held);
    let id = service.accepted(&lead).await;
    assert_eq!(ids(&google), [id]);
}

#[tokio::test]
async fn leads_that_are_imported_together_have_one_row_each_whatever_stands_between_them() {
    let google = Google::start().await;
    let mut service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let leads = [service.accepted(&ada()).await, service.accepted(&named("Grace", &json!({}))).await];
    service.kill().await;
    drop(held);
    google.edit("Leads", |tab| {
        let own = vec![json!(""), json!(""), json!("mine")];
        let rows: Vec<_> = tab.cells.drain(1..).collect();
        let twice = rows.into_iter().flat_map(|row| [row.clone(), row, own.clone(), own.clone()]);
        tab.cells.extend(twice.collect::<Vec<_>>());
    });
    let (code, text) = service.cli(&["leads", "import"]).await;
    assert_eq!((code, text.as_str()), (0, "2 leads entered the store; 2 were there already.\n"));
    let rows = google.records("Leads");
    for id in &leads {
        let theirs: Vec<_> = rows.iter().filter(|row| row["id"] == *id).collect();
        assert_eq!((theirs.len(), theirs[0]["lead_intake_mark"].as_str()), (1, ""));
    }
    assert_eq!(rows.iter().filter(|row| row["form_name"] == "mine").count(), 4);
}

#[tokio::test]
async fn a_lead_whose_process_died_before_the_store_had_it_is_imported_from_its_mark() {
    let google = Google::start().await;
    let mut service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let key = [("Idempotency-Key", "k")];
    let (status, body) = service.submit_with(&ada(), &key).await;
    assert_eq!(status, 200);
    service.kill().await;
    drop(held);
    let id = body["id"].as_str().unwrap();
    assert_eq!(service.cli(&["leads", "show", id]).await.0, 1, "the store never had it");
    let (code, text) = service.cli(&["leads", "import"]).await;
    assert_eq!((code, text.as_str()), (0, "1 leads entered the store; 0 were there already.\n"));
    assert_eq!(service.delivery(id, "sheet").await["state"], "delivered");
    assert_eq!(google.records("Leads").remove(0)["lead_intake_mark"], "");
    let (_, text) = service.cli(&["leads", "import"]).await;
    assert_eq!(text, "0 leads entered the store; 0 were there already.\n");
    let again = service.again().await;
    assert_eq!(
        again.submit_with(&ada(), &key).await,
        (200, json!({"success": true, "id": id})),
        "the client's repeat"
    );
    assert_eq!(google.records("Leads").len(), 1);
}
