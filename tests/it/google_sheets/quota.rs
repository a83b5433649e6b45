//! What Google allows in a minute, and what is made of it.

use std::time::Duration;

use serde_json::json;
use stand_ins::google::{Fault, Google, Kind, On};

use super::{SHORT_DEADLINE, ids, named, service};
use crate::support::{ada, soon};

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
