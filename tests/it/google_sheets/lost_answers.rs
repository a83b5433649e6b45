//! Writes of which nobody knows whether they landed, or still may.

use std::time::Duration;

use serde_json::{Value, json};
use stand_ins::google::{Fault, Google, Kind, On, TokenFault};

use super::{SHORT_DEADLINE, ids, named, service};
use crate::support::{ada, soon};

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
        // More than the lane can make in those seconds.
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", &["1h"; 400].join(", ")),
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
    assert_eq!((*first, *last), ("connection_lost", "ok"), "{codes:?}");
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
