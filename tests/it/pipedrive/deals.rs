//! Whose a deal is, where no field of it holds the lead's id.

use serde_json::{Value, json};
use stand_ins::api::{Fault, Reply};
use stand_ins::pipedrive;

use super::{DEAL, PERSON, count, service};
use crate::support::{Service, ada};

/// So that nothing is tried again before the test says so.
const LATER: (&str, &str) = ("RETRY", "1h, 1h, 1h, 1h");

fn store(service: &Service) -> rusqlite::Connection {
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    store
}

/// The service once more, with everything due.
async fn all_due(mut service: Service) -> Service {
    assert_eq!(service.terminate().await, 0);
    service.hasten();
    service.again().await
}

async fn until_tried(service: &Service, id: &str) {
    let tried = |delivery: &Value| !delivery["history"].as_array().unwrap().is_empty();
    service.until_delivery(id, "pipedrive", tried).await;
}

#[tokio::test]
async fn a_deal_that_was_never_sent_is_not_found_in_one_that_somebody_made_since() {
    let vendor = pipedrive::start().await;
    vendor.next(PERSON, Fault::ApplyThenDrop);
    let service = service(&vendor, &[("CREATE", "deal"), LATER]).await;
    let id = service.accepted(&ada()).await;
    until_tried(&service, &id).await;
    {
        let mut books = vendor.vendor();
        let deal = json!({ "id": 900, "title": "Ada Lovelace (contact)", "person_id": books.persons[0]["id"],
            "add_time": "2099-01-01T00:00:00Z", "is_deleted": false, "custom_fields": {} });
        books.deals.push(deal);
    }
    let service = all_due(service).await;
    service.until_state(&id, "pipedrive", "delivered").await;
    let books = vendor.vendor();
    assert_eq!((books.deals.len(), books.notes.len()), (2, 1));
    assert_eq!(books.notes[0]["deal_id"], books.deals[1]["id"]);
}

#[tokio::test]
async fn leads_of_one_person_and_title_never_share_a_deal_whatever_became_of_their_deals() {
    let lost = || [Some(Fault::Drop), Some(Fault::ApplyThenDrop)];
    for first in lost() {
        for second in [None].into_iter().chain(lost()) {
            let vendor = pipedrive::start().await;
            let service = service(&vendor, &[("CREATE", "deal"), LATER]).await;
            let mut ids = Vec::new();
            for fault in [first.clone(), second.clone()] {
                if let Some(fault) = fault {
                    vendor.next(DEAL, fault);
                }
                let id = service.accepted(&ada()).await;
                until_tried(&service, &id).await;
                ids.push(id);
            }
            let service = all_due(service).await;
            for id in &ids {
                service.until_state(id, "pipedrive", "delivered").await;
            }
            let books = vendor.vendor();
            let mut on: Vec<_> = books.notes.iter().map(|note| note["deal_id"].as_u64().unwrap()).collect();
            on.sort_unstable();
            on.dedup();
            let what = format!("{first:?}, {second:?}: {:?} {:?}", books.deals, books.notes);
            assert_eq!((books.deals.len(), books.notes.len(), on.len()), (2, 2, 2), "{what}");
        }
    }
}

/// Else a stop in the wait would make the next attempt look for what it never sent.
#[tokio::test]
async fn a_deal_that_waits_for_its_pace_is_not_yet_sent() {
    let vendor = pipedrive::start().await;
    let made = Reply::new(200, json!({ "success": true, "data": { "id": 1 } }));
    let resting = made.with("x-ratelimit-remaining", "0").with("x-ratelimit-reset", "60");
    vendor.next(PERSON, Fault::ApplyThenAnswer(resting));
    let service = service(&vendor, &[("CREATE", "deal"), LATER]).await;
    service.accepted(&ada()).await;
    let line = service.until_logged("attempt failed").await;
    assert_eq!((line["code"].as_str(), count(&vendor, DEAL)), (Some("resting"), 0), "{line}");
    let steps = "SELECT group_concat(name) FROM steps";
    assert_eq!(store(&service).query_row(steps, [], |row| row.get::<_, String>(0)).unwrap(), "person");
}

#[tokio::test]
async fn a_deal_that_was_surely_not_made_is_not_looked_for() {
    let vendor = pipedrive::start().await;
    vendor.next(DEAL, pipedrive::too_many(&[("x-ratelimit-reset", "1")]));
    let service = service(&vendor, &[("CREATE", "deal")]).await;
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!((count(&vendor, DEAL), count(&vendor, "GET /api/v2/deals")), (2, 0));
}
