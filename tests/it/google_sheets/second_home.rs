//! Leads that the sheet keeps while the store cannot commit.

use serde_json::{Value, json};
use stand_ins::google::{Fault, Google, Kind, On};

use super::{SHORT_DEADLINE, held, ids, named, service};
use crate::support::{ada, soon};

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
    assert_eq!(again.until_logged("the sheet keeps leads that the store may not have").await["leads"], 1);
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

/// A page whose visitors all send the same key, for it was cached with it: while the store is away nobody can say that this
/// is another submission, so nobody says that it is kept.
#[tokio::test]
async fn another_submission_under_a_key_that_has_a_row_is_not_said_to_be_kept() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms"), SHORT_DEADLINE]).await;
    let key = [("Idempotency-Key", "k")];
    let (status, first) = service.submit_with(&ada(), &key).await;
    assert_eq!(status, 200);
    let id = first["id"].as_str().unwrap().to_owned();
    service.until_state(&id, "sheet", "delivered").await;
    let held = held(&service);
    let other = named("Somebody else", &json!({}));
    assert_eq!(service.submit_with(&other, &key).await.0, 503);
    assert_eq!(service.submit_with(&ada(), &key).await.0, 503, "nor the first: only the store knows");
    held.execute_batch("ROLLBACK").unwrap();
    // Until the late commits have ended it is not yet known.
    soon(async { while service.submit_with(&other, &key).await.0 != 422 {} }).await;
    assert_eq!(service.submit_with(&ada(), &key).await.0, 200);
    assert_eq!(ids(&google), [id]);
}

/// The same where the first one's row is still to come: both are in the sheet, and the second keeps its mark.
#[tokio::test]
async fn another_submission_that_was_kept_under_a_used_key_keeps_its_mark_and_takes_nobody_s_row() {
    let google = Google::start().await;
    let again = ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1h, 1h");
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms"), again]).await;
    let key = [("Idempotency-Key", "k")];
    google.next(On::Reads, Fault::Status(500));
    let (status, first) = service.submit_with(&ada(), &key).await;
    assert_eq!(status, 200);
    let id = first["id"].as_str().unwrap().to_owned();
    service.until_delivery(&id, "sheet", |it| it["history"].as_array().unwrap().len() == 1).await;
    let store = held(&service);
    let other = named("Somebody else", &json!({}));
    soon(async { while service.submit_with(&other, &key).await.0 != 200 {} }).await;
    store.execute_batch("ROLLBACK").unwrap();
    drop(store);
    service.until_logged("the store has another submission of this key").await;
    service.hasten();
    service.until_state(&id, "sheet", "delivered").await;
    let mut rows: Vec<_> = google.records("Leads");
    rows.sort_by_key(|row| row["name"].clone());
    assert_eq!(ids(&google), [id.clone(), id]);
    assert_eq!((rows[0]["name"].as_str(), rows[1]["name"].as_str()), ("Ada Lovelace", "Somebody else"));
    assert!(rows[1]["lead_intake_mark"].contains("Somebody else"), "{rows:?}");
}

/// The marks of many leads that enter the store together are taken off together: Google's quota is small.
#[tokio::test]
async fn marks_that_go_together_go_in_one_call() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let lead = ada();
    let kept = futures_util::future::join_all((0..12).map(|_| service.accepted(&lead))).await;
    let before = google.seen().calls.iter().filter(|call| call.path.contains("values:batchUpdate")).count();
    held.execute_batch("ROLLBACK").unwrap();
    for id in &kept {
        service.until_state(id, "sheet", "delivered").await;
    }
    soon(async {
        while google.records("Leads").iter().any(|row| !row["lead_intake_mark"].is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let calls = google.seen().calls.iter().filter(|call| call.path.contains("values:batchUpdate")).count();
    assert!(calls - before <= 3, "the first, and the others together: {}", calls - before);
}

/// A tab that somebody deletes is made anew with every column: what was kept is kept whole.
#[tokio::test]
async fn a_lead_that_is_kept_in_a_tab_made_anew_has_its_mark_and_its_fields() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    service.accepted(&named("First", &json!({ "size": "L" }))).await;
    // Seen by the append alone: the header was read a moment ago.
    google.delete_tab("Leads");
    let id = service.accepted(&named("Second", &json!({ "size": "XL" }))).await;
    let rows = google.records("Leads");
    assert_eq!((rows[0]["id"].as_str(), rows[0]["size"].as_str()), (id.as_str(), "XL"));
    assert!(rows[0]["lead_intake_mark"].contains("Second"), "{rows:?}");
    drop(held);
}

/// That a lead's mark fits no cell is nothing against its row.
#[tokio::test]
async fn a_long_lead_whose_commit_comes_late_has_its_row() {
    let google = Google::start().await;
    let service = service(&google, &[("LEAD_INTAKE__STORE__TIMEOUT", "200ms")]).await;
    let held = held(&service);
    let lead = named("Ada", &json!({ "message": "x".repeat(51_000) }));
    let release = async {
        service.until_logged("not kept in the second home either").await;
        held.execute_batch("ROLLBACK").unwrap();
    };
    let ((status, body), ()) = tokio::join!(service.submit(&lead), release);
    assert_eq!(status, 200, "{body}");
    let id = body["id"].as_str().unwrap();
    service.until_state(id, "sheet", "delivered").await;
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
    let (code, text) =
        service.cli_with(&[("DATABASE_URL", "sqlite://elsewhere.db")], &["leads", "import"]).await;
    assert!(
        code == 1 && text.contains("there is no store at"),
        "it makes none, and so the marks stay: {text}"
    );
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
