//! How what may have been made is looked for.

use std::time::Duration;

use serde_json::json;
use stand_ins::api::Fault;
use stand_ins::pipedrive::{self, DEAL_TEXT, TOKEN};

use super::{DEAL, LEAD, NOTE, PERSON, SEARCH, codes, count, made, persons_and_leads, service, service_with};
use crate::support::{ada, soon};

#[tokio::test]
async fn an_answer_that_never_comes_is_looked_for() {
    for (create, on) in [("lead", PERSON), ("lead", LEAD), ("deal", DEAL), ("lead", NOTE)] {
        let vendor = pipedrive::start().await;
        vendor.next(on, Fault::ApplyThenHang);
        let service = service(&vendor, &[("CREATE", create), ("TIMEOUT", "1s")]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "pipedrive", "delivered").await;
        let first = &delivery["history"][0];
        assert_eq!((&first["code"], &first["outcome"]), (&json!("timeout"), &json!("unknown")), "{on}");
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
    }
}

#[tokio::test]
async fn a_person_who_may_have_been_made_is_found_although_the_search_lags_and_by_every_lead_of_the_address()
{
    let vendor = pipedrive::start().await;
    vendor.vendor().search_lags = true;
    vendor.next(PERSON, Fault::ApplyThenDrop);
    let service = service(&vendor, &[("SETTLE", "300ms")]).await;
    let first = service.accepted(&ada()).await;
    service.until_logged("attempt failed").await;
    let second = service.accepted(&ada()).await;
    let delivery = service.until_state(&second, "pipedrive", "delivered").await;
    assert!(codes(&delivery).iter().all(|code| code == "ok" || code == "too_early"), "{delivery}");
    service.until_state(&first, "pipedrive", "delivered").await;
    assert_eq!(persons_and_leads(&vendor), (1, 2));
    let since = vendor.calls().into_iter().find(|call| call.line() == "GET /api/v2/persons").unwrap();
    let since = since.parameter("updated_since").unwrap().to_owned();
    assert!(since.len() == 20 && since.ends_with('Z'), "no fractions: {since}");
}

#[tokio::test]
async fn what_may_have_been_made_is_found_on_a_later_page_of_a_list() {
    let vendor = pipedrive::start().await;
    {
        let mut books = vendor.vendor();
        for number in 0..500 {
            books.add_person("Somebody", &format!("somebody{number}@example.com"));
        }
        // All of them together would be more than is read of an answer.
        let long = json!("x".repeat(3_000));
        books.persons.iter_mut().for_each(|person| person["custom_fields"] = json!({ "notes": long }));
        books.search_lags = true;
    }
    let service = service(&vendor, &[]).await;
    vendor.next(PERSON, Fault::ApplyThenDrop);
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "pipedrive", "delivered").await;
    assert_eq!(
        made(&vendor, "ada@example.com", &first),
        (1, 1, 1),
        "the person is the 501st of those that changed"
    );
    {
        let mut books = vendor.vendor();
        let lead = books.leads[0].clone();
        for number in 0..100 {
            let mut other = lead.clone();
            (other["id"], other["origin_id"]) = (json!(format!("other-{number}")), json!("somebody's"));
            books.leads.push(other);
        }
    }
    vendor.next(LEAD, Fault::ApplyThenDrop);
    let second = service.accepted(&ada()).await;
    service.until_state(&second, "pipedrive", "delivered").await;
    let ours = vendor.vendor().leads.iter().filter(|lead| lead["origin_id"] == second.as_str()).count();
    assert_eq!(ours, 1, "the lead is the 102nd of its person");
}

/// Whoever waited so long that the turn is another's by now makes nobody: the other one may be doing so.
#[tokio::test]
async fn a_turn_that_was_lost_makes_no_person() {
    let vendor = pipedrive::start().await;
    vendor.next(SEARCH, Fault::Slow(Duration::from_secs(9)));
    let service = service(&vendor, &[("RETRY", "1h, 1h")]).await;
    let id = service.accepted(&ada()).await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(Duration::from_secs(5)).unwrap();
    // Another process has it, and lengthens it.
    let taken = "UPDATE turns SET holder = 'another', ends_at = 1000 * unixepoch() + 10000 WHERE name LIKE '%person%'";
    let keeps = async {
        loop {
            store.execute(taken, []).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let line = tokio::select! {
        () = keeps => unreachable!(),
        line = service.until_logged("attempt failed") => line,
    };
    assert_eq!((line["code"].as_str(), count(&vendor, PERSON)), (Some("same_address"), 0), "{line}");
    store.execute("DELETE FROM turns", []).unwrap();
    service.until_delivery(&id, "pipedrive", |it| it["history"].as_array().unwrap().len() == 1).await;
    service.hasten();
    service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
}

/// Two destinations can be one account: neither makes a person whom the other has made.
#[tokio::test]
async fn two_destinations_in_one_company_make_one_person() {
    let vendor = pipedrive::start().await;
    vendor.vendor().search_lags = true;
    let url = vendor.url();
    let name = |key: &str| format!("LEAD_INTAKE__DESTINATIONS__DEALS__{key}");
    let second = [
        (name("TYPE"), "pipedrive"),
        (name("DOMAIN"), "https://Example.pipedrive.com"),
        (name("API_TOKEN"), TOKEN),
        (name("BASE_URL"), &url),
        (name("CREATE"), "deal"),
        (name("NOTE"), "false"),
        (name("RETRY"), "1ms, 1ms, 1ms, 1ms"),
    ];
    let more: Vec<_> = second.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let service = service_with(&vendor, &[], &more).await;
    let id = service.accepted(&ada()).await;
    for destination in ["pipedrive", "deals"] {
        service.until_state(&id, destination, "delivered").await;
    }
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 2, 1));
}

#[tokio::test]
async fn a_person_who_is_not_there_by_a_200_is_not_there() {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[]).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "pipedrive", "delivered").await;
    let id = vendor.vendor().persons[0]["id"].to_string();
    let gone = json!({ "success": false, "error": "Person not found", "errorCode": 404 });
    vendor.next(&format!("GET /api/v2/persons/{id}"), Fault::json(200, gone));
    let second = service.accepted(&ada()).await;
    service.until_state(&second, "pipedrive", "delivered").await;
    assert_eq!(count(&vendor, SEARCH), 2);
}

#[tokio::test]
async fn a_search_that_finds_somebody_else_makes_a_person() {
    let vendor = pipedrive::start().await;
    let other = vendor.vendor().add_person("Bea", "ada@example.com.example.org");
    let found = json!({ "item": { "id": other, "type": "person", "name": "Bea", "emails": ["ada@example.com.example.org"] } });
    let body =
        json!({ "success": true, "data": { "items": [found] }, "additional_data": { "next_cursor": null } });
    vendor.next(SEARCH, Fault::json(200, body));
    let service = service(&vendor, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
}

#[tokio::test]
async fn nothing_is_taken_for_absent_before_it_can_be_seen() {
    for on in [PERSON, LEAD, NOTE] {
        let vendor = pipedrive::start().await;
        vendor.next(on, Fault::ApplyThenDrop);
        let service = service(&vendor, &[("SETTLE", "1h")]).await;
        let id = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        assert!(line["retry_in_s"].as_u64().unwrap() >= 3_590, "{line}");
        assert_eq!(count(&vendor, on), 1);
        // Even where somebody lets it go on at once.
        let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
        store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap();
        drop(store);
        let mut service = service;
        service.kill().await;
        let service = service.again().await;
        let line = service.until_logged("attempt failed").await;
        assert_eq!(line["code"], "too_early", "{on}");
        assert_eq!(
            (count(&vendor, on), service.delivery(&id, "pipedrive").await["state"].as_str()),
            (1, Some("pending"))
        );
    }
}

#[tokio::test]
async fn a_clock_that_was_ahead_makes_no_look_wait_for_it() {
    for on in [PERSON, LEAD] {
        let vendor = pipedrive::start().await;
        vendor.next(on, Fault::ApplyThenDrop);
        let mut service = service(&vendor, &[("RETRY", "1h, 1h, 1h, 1h, 1h"), ("TIMEOUT", "2s")]).await;
        let id = service.accepted(&ada()).await;
        service.until_logged("attempt failed").await;
        assert_eq!(service.terminate().await, 0);
        let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
        store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
        let change = |sql: &str| store.execute(sql, []).unwrap();
        let ahead = "started_at = started_at + 864000000, finished_at = finished_at + 864000000";
        assert_eq!(change(&format!("UPDATE attempts SET {ahead}")), 1);
        change("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'");
        if on == PERSON {
            // The address is remembered with a moment that is still to come, too.
            let then = "2126-01-01T00:00:00Z";
            assert_eq!(change(&format!("UPDATE memory SET value = '{then} {then}'")), 1);
        }
        let again = service.again().await;
        let line = again.until_logged("attempt failed").await;
        assert_eq!(line["code"], "too_early", "it only learns that the clock was ahead");
        if on == PERSON {
            // A call and the settling are waited for, 30 s here; in their place:
            soon(async {
                let ours = "SELECT count(*) FROM memory WHERE value NOT LIKE '2126%'";
                while store.query_row(ours, [], |row| row.get::<_, u32>(0)).unwrap() == 0 {
                    // Its settlement may be still to come, and makes it due in an hour.
                    change("UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL");
                    tokio::task::yield_now().await;
                }
            })
            .await;
            let past = "2020-01-01T00:00:00Z";
            change(&format!("UPDATE memory SET value = '{past} {past}'"));
        }
        soon(async {
            while again.delivery(&id, "pipedrive").await["state"] != "delivered" {
                change("UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL");
            }
        })
        .await;
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
    }
}

#[tokio::test]
async fn a_clock_that_is_ahead_of_pipedrive_s_hides_nothing_that_may_have_been_made() {
    for (on, create) in [(PERSON, "lead"), (DEAL, "deal")] {
        let vendor = pipedrive::start().await;
        {
            let mut books = vendor.vendor();
            books.behind = std::time::Duration::from_secs(6 * 3_600);
            books.search_lags = true;
        }
        vendor.next(on, Fault::ApplyThenDrop);
        let service = service(&vendor, &[("CREATE", create)]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(codes(&delivery).last().unwrap(), "ok", "{delivery}");
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
    }
}

#[tokio::test]
async fn a_deal_is_known_by_its_field_or_by_person_title_and_time() {
    for fields in [String::new(), format!("{{ {DEAL_TEXT} = 'id' }}")] {
        let vendor = pipedrive::start().await;
        let person = vendor.vendor().add_person("Ada", "ada@example.com");
        // Deals of old and of other titles are not ours.
        for (id, title, time) in
            [(1, "Ada Lovelace (contact)", "2020-01-01T00:00:00Z"), (901, "Another", "2099-01-01T00:00:00Z")]
        {
            vendor
                .vendor()
                .deals
                .push(json!({ "id": id, "title": title, "person_id": person, "add_time": time,
                "is_deleted": false, "custom_fields": { DEAL_TEXT: null } }));
        }
        vendor.next(DEAL, Fault::ApplyThenDrop);
        vendor.next(DEAL, Fault::Drop);
        let mut settings = vec![("CREATE", "deal")];
        if !fields.is_empty() {
            settings.push(("DEAL_FIELDS", &fields));
        }
        let service = service(&vendor, &settings).await;
        let first = service.accepted(&ada()).await;
        let delivery = service.until_state(&first, "pipedrive", "delivered").await;
        assert_eq!(codes(&delivery), ["connection_lost", "ok"]);
        assert_eq!((vendor.vendor().deals.len(), count(&vendor, DEAL)), (3, 1));
        let ours = vendor.vendor().deals[2]["id"].clone();
        assert_eq!(vendor.vendor().notes[0]["deal_id"], ours);
        // One whose creation was lost on the way is not there, and is made.
        let mut other = ada();
        other["name"] = json!("Ada King");
        let second = service.accepted(&other).await;
        service.until_state(&second, "pipedrive", "delivered").await;
        assert_eq!((vendor.vendor().deals.len(), count(&vendor, DEAL)), (4, 3));
    }
}
