//! What the sheet tells beyond the leads' rows: whether every CRM has a lead, and which deliveries fail.

use serde_json::Value;
use stand_ins::google::{Fault, Google, Kind, On};
use stand_ins::hook::{self, Hook};

use crate::support::{Service, ada};

const FAILED: &str = "Failed Integrations";

async fn service(google: &Google, hook: &Hook, more: &[(&str, &str)]) -> Service {
    let (id, key, url, crm) = (google.spreadsheet_id(), google.credentials(), google.base_url(), hook.url());
    let mut variables = vec![
        ("GOOGLE_SHEETS_ID", id.as_str()),
        ("GOOGLE_CREDENTIALS_JSON", key.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LISTEN_EVERY", "100ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__WRITES_PER_MINUTE", "60000"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__READS_PER_MINUTE", "60000"),
        ("CRM_WEBHOOK_URL", crm.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1h"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1ms"),
    ];
    variables.extend(more);
    Service::start(&variables).await
}

/// Waits until a tab's rows fit.
async fn shows(
    google: &Google,
    tab: &str,
    fits: impl Fn(&[std::collections::HashMap<String, String>]) -> bool,
) {
    let wait = async {
        while !(google.tabs().iter().any(|it| it == tab) && fits(&google.records(tab))) {
            google.until(|_| true).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, wait).await.unwrap_or_else(|_| {
        panic!(
            "it never showed that: {:?}",
            google.tabs().iter().map(|tab| google.records(tab)).collect::<Vec<_>>()
        )
    });
}

fn synced(google: &Google) -> Vec<(String, String)> {
    let mut all: Vec<_> = google
        .records("Leads")
        .into_iter()
        .map(|row| (row["id"].clone(), row["crm_synced"].clone()))
        .collect();
    all.sort();
    all
}

/// A tab is known by its number, also to whoever marks its rows.
#[tokio::test]
async fn a_renamed_tab_is_still_marked_and_filled() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let mut service = service(&google, &hook, &[]).await;
    service.accepted(&ada()).await;
    shows(&google, "Leads", |rows| rows[0]["crm_synced"] == "TRUE").await;
    google.edit("Leads", |tab| tab.title = "Our leads".to_owned());
    for count in 2..5 {
        if count == 4 {
            // The next process knows it, too.
            assert_eq!(service.terminate().await, 0);
            service = service.again().await;
        }
        service.accepted(&ada()).await;
        let all = |rows: &[std::collections::HashMap<String, String>]| {
            rows.len() == count && rows.iter().all(|row| row["crm_synced"] == "TRUE")
        };
        shows(&google, "Our leads", all).await;
    }
    assert!(!google.tabs().contains(&"Leads".to_owned()), "{:?}", google.tabs());
}

/// Each tab for itself: a person needs the list of failures the most where something is wrong.
#[tokio::test]
async fn a_broken_tab_of_leads_keeps_no_failure_from_being_listed() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[]).await;
    let is_dead = |id: &str, state: &str| {
        let (id, state) = (id.to_owned(), state.to_owned());
        move |rows: &[std::collections::HashMap<String, String>]| {
            rows.iter().any(|row| row["lead id"] == id && row["state"] == state)
        }
    };
    hook.script().always(hook::Fault::status(422));
    let synced = service.accepted(&ada()).await;
    shows(&google, FAILED, is_dead(&synced, "dead")).await;
    google.edit("Leads", |tab| tab.set(0, 0, "no id any more"));
    hook.script().mend();
    assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
    service.until_state(&synced, "crm", "delivered").await;
    shows(&google, FAILED, is_dead(&synced, "delivered")).await;
    hook.script().always(hook::Fault::status(422));
    let dead = service.accepted(&ada()).await;
    shows(&google, FAILED, is_dead(&dead, "dead")).await;
}

/// A sheet that asks for consent gets nothing of who has not given it, by this way neither.
#[tokio::test]
async fn a_failure_is_listed_without_the_lead_where_the_sheet_may_not_have_it() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let asks = ("LEAD_INTAKE__DESTINATIONS__SHEET__REQUIRES_CONSENT", "true");
    let anyway = ("LEAD_INTAKE__DESTINATIONS__CRM__REQUIRES_CONSENT", "false");
    let service = service(&google, &hook, &[asks, anyway]).await;
    let refusal = hook::Fault::Answer { status: 422, headers: vec![], body: "Ada has no budget".to_owned() };
    hook.script().always(refusal);
    let mut lead = ada();
    lead["consent_given"] = serde_json::json!(false);
    let id = service.accepted(&lead).await;
    shows(&google, FAILED, |rows| rows.iter().any(|row| row["lead id"] == id && row["state"] == "dead"))
        .await;
    let row = google.records(FAILED).remove(0);
    assert_eq!(row["error"], "http_422");
    assert!(!format!("{row:?}").contains("Ada") && row["payload"].starts_with("withheld"), "{row:?}");
}

/// Each sheet tells of its own leads. One that no sheet has is told of everywhere, without a word of who it is.
#[tokio::test]
async fn a_failure_is_listed_in_the_sheet_that_has_the_lead() {
    let (ours, theirs, hook) = (Google::start().await, Google::start().await, Hook::start().await);
    let (id, key, url) = (theirs.spreadsheet_id(), theirs.credentials(), theirs.base_url());
    hook.script().always(hook::Fault::status(422));
    let more = [
        ("LEAD_INTAKE__DESTINATIONS__SHEET__FORMS", "contact"),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__TYPE", "google_sheets"),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__FORMS", "quote"),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__SPREADSHEET_ID", id.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__CREDENTIALS_JSON", key.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__BASE_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__WRITES_PER_MINUTE", "60000"),
        ("LEAD_INTAKE__DESTINATIONS__OTHER__READS_PER_MINUTE", "60000"),
    ];
    let service = service(&ours, &hook, &more).await;
    let mut leads = std::collections::HashMap::new();
    for form in ["contact", "quote", "neither"] {
        let mut lead = ada();
        lead["form_name"] = form.into();
        leads.insert(form, service.accepted(&lead).await);
    }
    for (google, form) in [(&ours, "contact"), (&theirs, "quote")] {
        shows(google, FAILED, |rows| rows.len() == 2).await;
        let rows = google.records(FAILED);
        let of = |form: &str| rows.iter().find(|row| row["lead id"] == leads[form]).unwrap();
        assert!(of(form)["payload"].contains("Ada"), "{rows:?}");
        assert!(!format!("{:?}", of("neither")).contains("Ada"), "{rows:?}");
    }
}

#[tokio::test]
async fn crm_synced_turns_true_in_the_leads_own_row_wherever_a_person_moved_it() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[]).await;
    let first = service.accepted(&ada()).await;
    shows(&google, "Leads", |rows| rows.iter().all(|row| row["crm_synced"] == "TRUE")).await;

    // Rows that only we know are done, in an order that only the person knows.
    hook.script().always(hook::Fault::status(503));
    let waiting = service.accepted(&ada()).await;
    let deleted = service.accepted(&ada()).await;
    service.until_state(&deleted, "sheet", "delivered").await;
    let row = google.records("Leads").iter().position(|row| row["id"] == deleted).unwrap();
    google.edit("Leads", |tab| {
        tab.delete_row(row + 1);
        tab.turn();
        tab.insert_blank_row(1);
    });
    hook.script().mend();
    service.cli(&["deliveries", "cancel", &format!("{waiting}/crm"), "--yes"]).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap();
    service.until_state(&deleted, "crm", "delivered").await;
    let last = service.accepted(&ada()).await;
    shows(&google, "Leads", |rows| rows.iter().any(|row| row["id"] == last && row["crm_synced"] == "TRUE"))
        .await;
    let mut expected =
        [(first, "TRUE"), (waiting, "FALSE"), (last, "TRUE")].map(|(id, text)| (id, text.to_owned()));
    expected.sort();
    assert_eq!(synced(&google), expected, "what was given up is not synced, and a deleted row stays deleted");
}

#[tokio::test]
async fn a_mark_that_a_sort_sent_astray_is_mended() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1h")]).await;
    hook.script().always(hook::Fault::status(503));
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(service.accepted(&ada()).await);
    }
    for id in &ids {
        service.until_state(id, "sheet", "delivered").await;
    }
    hook.script().mend();
    google.next(On::Writes, Fault::TurnFirst);
    let done = service.accepted(&ada()).await;
    shows(&google, "Leads", |rows| rows.iter().any(|row| row["id"] == done && row["crm_synced"] == "TRUE"))
        .await;
    // The row that the mark had hit says what it said before, as soon as the mark has been read back.
    shows(&google, "Leads", |rows| rows.iter().filter(|row| row["crm_synced"] == "TRUE").count() == 1).await;
    let marks = google.seen().count(Kind::Write);
    assert!(marks >= 3, "the header, the mark, and its mending: {marks}");
}

#[tokio::test]
async fn a_delivery_that_fails_has_a_row_that_follows_it_and_can_be_retried_from_there() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[]).await;
    hook.script().times(2, hook::Fault::status(500));
    let lucky = service.accepted(&ada()).await;
    service.until_state(&lucky, "crm", "delivered").await;

    hook.script().times(3, hook::Fault::status(500));
    let retrying = service.accepted(&ada()).await;
    shows(&google, FAILED, |rows| rows.len() == 1).await;
    let row = google.records(FAILED).remove(0);
    assert_eq!(row["id"], format!("{retrying}/crm"));
    assert_eq!((&*row["lead id"], &*row["type"], &*row["destination"]), (&*retrying, "webhook", "crm"));
    assert_eq!((&*row["state"], &*row["attempts"], &*row["action"]), ("retrying", "3", ""));
    assert!(
        row["error"].starts_with("http_500: ")
            && row["next retry"].ends_with('Z')
            && row["last attempt"].ends_with('Z')
    );
    let payload: Value = serde_json::from_str(&row["payload"]).unwrap();
    assert_eq!(payload["email"], ada()["email"]);

    // Below the first, a dead letter; and a person sorts.
    hook.script().next(hook::Fault::status(422));
    let dead = service.accepted(&ada()).await;
    let named = |rows: &[std::collections::HashMap<String, String>], id: &str| {
        rows.iter().find(|row| row["lead id"] == id).cloned().unwrap_or_default()
    };
    shows(&google, FAILED, |rows| named(rows, &dead).get("state").is_some_and(|it| it == "dead")).await;
    google.edit(FAILED, |tab| {
        tab.turn();
        let action = 10;
        tab.set(1, action, " Retry ");
    });
    shows(&google, FAILED, |rows| named(rows, &dead)["state"] == "delivered").await;
    shows(&google, FAILED, |rows| named(rows, &dead)["action"].starts_with("retried 2")).await;
    let rows = google.records(FAILED);
    assert_eq!((rows.len(), &*named(&rows, &retrying)["state"]), (2, "retrying"));
    assert_eq!(hook.taken()[&format!("{dead}_crm")], 1);
    shows(&google, "Leads", |rows| rows.iter().any(|row| row["id"] == dead && row["crm_synced"] == "TRUE"))
        .await;

    // A wish that cannot be fulfilled is answered too.
    google.edit(FAILED, |tab| tab.set(2, 10, "retry"));
    shows(&google, FAILED, |rows| named(rows, &retrying)["action"].starts_with("nothing to retry")).await;
}

/// An answer that could not be written is written later; what was wished for is not done a second time.
#[tokio::test]
async fn a_wish_is_fulfilled_once_though_its_answer_cannot_be_written() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[]).await;
    hook.script().always(hook::Fault::status(422));
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "crm", "dead").await;
    shows(&google, FAILED, |rows| rows.len() == 1 && rows[0]["state"] == "dead").await;
    google.next(On::Writes, Fault::Status(500));
    google.edit(FAILED, |tab| tab.set(1, 10, "retry"));
    shows(&google, FAILED, |rows| rows[0]["action"].starts_with("retried 2")).await;
    let dead_again = |it: &Value| it["state"] == "dead" && it["history"].as_array().unwrap().len() > 1;
    let delivery = service.until_delivery(&id, "crm", dead_again).await;
    assert_eq!(delivery["history"].as_array().unwrap().len(), 2, "{delivery}");
}

#[tokio::test]
async fn the_story_is_told_after_an_outage_and_a_crash_and_no_row_is_doubled() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let mut first = service(&google, &hook, &[]).await;
    let database = format!("sqlite://{}", first.folder.path().join("data/lead-intake.db").display());
    hook.script().next(hook::Fault::status(422));
    let dead = first.accepted(&ada()).await;
    first.until_state(&dead, "crm", "dead").await;
    shows(&google, FAILED, |rows| rows.len() == 1).await;
    // Nothing can be told, and then the process is gone.
    google.always(On::Any, Fault::Status(503));
    first.cli(&["deliveries", "replay", "--yes"]).await;
    first.until_state(&dead, "crm", "delivered").await;
    first.kill().await;
    google.mend();
    assert_eq!(google.records(FAILED)[0]["state"], "dead");
    let _second = service(&google, &hook, &[("DATABASE_URL", &database)]).await;
    shows(&google, FAILED, |rows| rows[0]["state"] == "delivered").await;
    shows(&google, "Leads", |rows| rows[0]["crm_synced"] == "TRUE").await;
    assert_eq!(google.records(FAILED).len(), 1);
}

#[tokio::test]
async fn a_row_whose_answer_was_lost_is_looked_for_before_it_is_added_again() {
    let (google, hook) = (Google::start().await, Hook::start().await);
    let service = service(&google, &hook, &[]).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "crm", "delivered").await;
    hook.script().next(hook::Fault::status(422));
    // The lead's own row and the failing delivery's, whichever is first.
    google.next(On::Appends, Fault::ApplyThenStatus(500));
    google.next(On::Appends, Fault::ApplyThenStatus(500));
    let dead = service.accepted(&ada()).await;
    service.until_state(&dead, "sheet", "delivered").await;
    service.until_logged("the sheet does not tell the latest yet").await;
    hook.script().next(hook::Fault::status(422));
    let other = service.accepted(&ada()).await;
    shows(&google, FAILED, |rows| rows.iter().any(|row| row["lead id"] == other)).await;
    let rows = google.records(FAILED);
    assert_eq!(rows.iter().filter(|row| row["lead id"] == dead).count(), 1, "{rows:?}");
    assert_eq!((rows.len(), google.records("Leads").len()), (2, 3));
}
