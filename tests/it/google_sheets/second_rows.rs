//! Rows that a kept lead has beyond its first.

use serde_json::json;
use stand_ins::google::{Fault, Google, On};
use stand_ins::hook::{self, Hook};

use super::{HEADER, SHORT_DEADLINE, held, ids, named, service};
use crate::support::{ada, soon};

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
