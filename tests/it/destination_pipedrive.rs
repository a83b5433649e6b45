//! The Pipedrive destination, through the real binary, against a stand-in on the loopback.

use serde_json::{Value, json};
use stand_ins::api::{Api, Fault, Reply};
use stand_ins::pipedrive::{
    self, DEAL_NUMBER, DEAL_TEXT, LABEL, PERSON_NUMBER, PERSON_TEXT, Pipedrive, TOKEN, USER, refuse,
    refuse_with, too_many, unauthorized,
};

use crate::support::{Service, ada, binary, soon};

const SEARCH: &str = "GET /api/v2/persons/search";
const PERSON: &str = "POST /api/v2/persons";
const LEAD: &str = "POST /v1/leads";
const DEAL: &str = "POST /api/v2/deals";
const NOTE: &str = "POST /v1/notes";

/// `LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__…`
fn setting(key: &str) -> String {
    format!("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__{key}")
}

async fn service(vendor: &Api<Pipedrive>, settings: &[(&str, &str)]) -> Service {
    let mut all = vec![
        (setting("BASE_URL"), vendor.url()),
        (setting("RETRY"), ["1ms"; 12].join(", ")),
        (setting("PROBE"), "1ms".to_owned()),
        (setting("SETTLE"), "1ms".to_owned()),
        ("PIPEDRIVE_API_TOKEN".to_owned(), TOKEN.to_owned()),
        ("PIPEDRIVE_DOMAIN".to_owned(), "example".to_owned()),
    ];
    all.extend(settings.iter().map(|(key, value)| (setting(key), (*value).to_owned())));
    let pairs: Vec<_> = all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Service::start(&pairs).await
}

/// Ada, from another address.
fn from(address: &str) -> Value {
    let mut lead = ada();
    lead["email"] = json!(address);
    lead
}

fn count(vendor: &Api<Pipedrive>, line: &str) -> usize {
    vendor.calls().iter().filter(|call| call.line() == line).count()
}

/// How many persons and leads there are.
fn persons_and_leads(vendor: &Api<Pipedrive>) -> (usize, usize) {
    let books = vendor.vendor();
    (books.persons.len(), books.leads.len())
}

fn codes(delivery: &Value) -> Vec<String> {
    let history = delivery["history"].as_array().unwrap().iter();
    history.map(|attempt| attempt["code"].as_str().unwrap().to_owned()).collect()
}

/// How many persons have an address, how many leads and deals they have, and how many notes name our lead.
fn made(vendor: &Api<Pipedrive>, address: &str, id: &str) -> (usize, usize, usize) {
    let books = vendor.vendor();
    let has = |person: &&Value| {
        let mut emails = person["emails"].as_array().unwrap().iter();
        emails.any(|email| email["value"].as_str().unwrap().eq_ignore_ascii_case(address))
    };
    let persons: Vec<_> = books.persons.iter().filter(has).map(|person| &person["id"]).collect();
    let items = books.leads.iter().chain(&books.deals).filter(|item| persons.contains(&&item["person_id"]));
    let notes = books.notes.iter().filter(|note| note["content"].as_str().unwrap().contains(id));
    (persons.len(), items.count(), notes.count())
}

#[tokio::test]
async fn a_lead_becomes_a_person_a_lead_in_the_inbox_and_a_note() {
    let vendor = pipedrive::start().await;
    let settings = [
        ("VALUE", "1500"),
        ("CURRENCY", "EUR"),
        ("OWNER_ID", "77"),
        ("LABEL_IDS", LABEL),
        ("VISIBLE_TO", "3"),
        ("TITLE", "{name} from {source.utm_source}"),
        (
            "PERSON_FIELDS",
            &format!(
                "{{ {PERSON_TEXT} = 'form_data.topics', {PERSON_NUMBER} = 'form_data.absent as number' }}"
            ),
        ),
        ("DEAL_FIELDS", &format!("{{ {DEAL_NUMBER} = 'form_data.budget as number' }}")),
    ];
    let service = service(&vendor, &settings).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "delivered").await;
    let calls = vendor.calls();
    let lines: Vec<_> = calls.iter().map(stand_ins::api::Call::line).collect();
    assert_eq!(lines, [SEARCH, PERSON, LEAD, NOTE]);
    assert_eq!(
        calls[0].query,
        [("term", "ada@example.com"), ("fields", "email"), ("exact_match", "true"), ("limit", "500")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    );
    let contact = |value: &str| json!([{ "value": value, "primary": true, "label": "work" }]);
    assert_eq!(
        calls[1].body,
        json!({ "name": "Ada Lovelace", "emails": contact("ada@example.com"), "phones": contact("+44 20 7946 0018"),
            "owner_id": USER, "visible_to": 3, "custom_fields": { PERSON_TEXT: "a;b" } })
    );
    let person = vendor.vendor().persons[0]["id"].clone();
    assert_eq!(
        calls[2].body,
        json!({ "title": "Ada Lovelace from news", "person_id": person, "origin_id": id,
            "value": { "amount": 1500.0, "currency": "EUR" }, "owner_id": USER, "label_ids": [LABEL],
            "visible_to": "3", DEAL_NUMBER: 5000.0 })
    );
    let lead = vendor.vendor().leads[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(calls[3].body["lead_id"], lead.as_str());
    let content = calls[3].body["content"].as_str().unwrap();
    for part in ["<b>Message:</b> Hello", "<b>Budget:</b> 5000", "example.com/contact", "g-1", &id] {
        assert!(content.contains(part), "{part} is not in {content}");
    }
    let receipt = delivery["receipt"]["remote_id"].as_str().or(delivery["remote_id"].as_str());
    let remote = format!("person {person}, lead {lead}, note 3");
    assert!(receipt == Some(&remote) || delivery.to_string().contains(&remote), "{delivery}");
}

#[tokio::test]
async fn a_deal_has_its_pipeline_stage_and_fields_and_201_is_as_good_as_200() {
    let vendor = pipedrive::start().await;
    vendor.vendor().created = 201;
    let settings = [
        ("CREATE", "deal"),
        ("VALUE", "99.5"),
        ("CURRENCY", "GBP"),
        ("PIPELINE_ID", "2"),
        ("STAGE_ID", "12"),
        ("OWNER_ID", "77"),
        ("DEAL_FIELDS", &format!("{{ {DEAL_TEXT} = 'id' }}")),
    ];
    let service = service(&vendor, &settings).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "delivered").await;
    let deal = vendor.vendor().deals[0].clone();
    let body = vendor.calls()[2].body.clone();
    assert_eq!(
        body,
        json!({ "title": "Ada Lovelace (contact)", "person_id": deal["person_id"], "value": 99.5, "currency": "GBP",
            "pipeline_id": 2, "stage_id": 12, "owner_id": USER, "custom_fields": { DEAL_TEXT: id } })
    );
    assert_eq!(vendor.vendor().notes[0]["deal_id"], deal["id"]);
    assert!(delivery.to_string().contains(&format!("deal {}", deal["id"])), "{delivery}");
}

#[tokio::test]
async fn a_person_alone_can_be_made_and_who_is_there_is_found_and_left_alone() {
    let vendor = pipedrive::start().await;
    let (first, second) = {
        let mut books = vendor.vendor();
        (books.add_person("Countess", "ADA@example.com"), books.add_person("Ada", "ada@Example.com"))
    };
    let before = vendor.vendor().persons.clone();
    let service = service(&vendor, &[("CREATE", "person")]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(vendor.vendor().persons, before);
    assert_eq!(vendor.vendor().notes[0]["person_id"], first);
    assert!(first < second && delivery.to_string().contains("2 persons in Pipedrive have this address"));
    // Once known, a person is not searched for again, in whatever capitals the address comes.
    let again = service.accepted(&from("Ada@Example.COM")).await;
    service.until_state(&again, "pipedrive", "delivered").await;
    assert_eq!((count(&vendor, SEARCH), count(&vendor, &format!("GET /api/v2/persons/{first}"))), (1, 1));
    // Unless somebody deletes it.
    vendor.vendor().delete_person(first);
    let third = service.accepted(&ada()).await;
    service.until_state(&third, "pipedrive", "delivered").await;
    assert_eq!((count(&vendor, SEARCH), vendor.vendor().notes[2]["person_id"].as_u64()), (2, Some(second)));
    vendor.vendor().persons.clear();
    let fourth = service.accepted(&ada()).await;
    service.until_state(&fourth, "pipedrive", "delivered").await;
    assert_eq!((count(&vendor, SEARCH), vendor.vendor().persons.len()), (3, 1), "404 forgets it, too");
}

#[tokio::test]
async fn without_a_note_there_is_none() {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[("NOTE", "false")]).await;
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 0));
}

#[tokio::test]
async fn nothing_that_a_visitor_typed_is_markup() {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[]).await;
    let mut lead = ada();
    lead["form_data"] = json!({ "message": "<script>alert(1)</script>\n<!-- x & y -->", "<b>": "\"'" });
    lead["source"]["url"] = json!("https://example.com/?a=<i>");
    let id = service.accepted(&lead).await;
    service.until_state(&id, "pipedrive", "delivered").await;
    let content = vendor.vendor().notes[0]["content"].as_str().unwrap().to_owned();
    let plain = "&lt;script&gt;alert(1)&lt;/script&gt;<br>&lt;!-- x &amp; y --&gt;";
    assert!(content.contains(plain) && content.contains("&lt;b&gt;:</b> &quot;&#39;"), "{content}");
    assert!(!content.contains("<script") && !content.contains("<i>"), "{content}");
}

#[tokio::test]
async fn leads_of_one_address_at_once_make_one_person() {
    let vendor = pipedrive::start().await;
    vendor.vendor().search_lags = true;
    let service = service(&vendor, &[("CONCURRENCY", "8")]).await;
    let leads =
        [from("ada@example.com"), from("Ada@example.com"), from("ADA@EXAMPLE.COM"), ada(), ada(), ada()];
    let ids = futures_util::future::join_all(leads.iter().map(|lead| service.accepted(lead))).await;
    for id in &ids {
        let delivery = service.until_state(id, "pipedrive", "delivered").await;
        assert_eq!(codes(&delivery), ["ok"], "nobody fails for having to wait");
    }
    assert_eq!(persons_and_leads(&vendor), (1, 6));
    assert_eq!((count(&vendor, SEARCH), count(&vendor, PERSON)), (1, 1));
}

/// What a fault of one call brings.
struct Case {
    fault: Fault,
    code: &'static str,
    /// The outcome for a creation; a question that went wrong is always just transient.
    outcome: &'static str,
    says: &'static str,
}

fn case(fault: Fault, code: &'static str, outcome: &'static str, says: &'static str) -> Case {
    Case { fault, code, outcome, says }
}

/// Faults that pass, and hold nobody else up.
fn passing() -> Vec<Case> {
    let no_success = |status| Reply::new(status, json!({ "success": false, "error": "Something failed" }));
    let broken = refuse(500, "Internal server error");
    vec![
        case(Fault::Answer(broken.clone()), "pipedrive_500", "unknown", "answered 500"),
        case(Fault::ApplyThenAnswer(broken), "pipedrive_500", "unknown", "Internal server error"),
        case(Fault::html(502), "pipedrive_502", "unknown", "answered 502"),
        case(Fault::ApplyThenAnswer(Reply::html(503)), "pipedrive_503", "unknown", "answered 503"),
        case(Fault::html(404), "pipedrive_404", "unknown", "check `domain` and `base_url`"),
        case(Fault::Drop, "connection_lost", "unknown", "Pipedrive"),
        case(Fault::ApplyThenDrop, "connection_lost", "unknown", "Pipedrive"),
        case(Fault::ApplyThenCut, "pipedrive_unreadable", "unknown", "cannot be read"),
        case(Fault::Answer(no_success(200)), "pipedrive_no_success", "unknown", "Something failed"),
        case(Fault::ApplyThenAnswer(no_success(201)), "pipedrive_no_success", "unknown", "no success"),
    ]
}

/// Faults that need somebody to change a setting or pay: the destination is parked.
fn parking() -> Vec<Case> {
    let capped = refuse_with(403, "feature_capping_deals_limit", "Deals limit reached");
    let inner =
        Reply::new(200, json!({ "success": false, "error": "unauthorized access", "errorCode": 401 }));
    vec![
        case(Fault::Answer(unauthorized()), "pipedrive_401", "blocked", "check `api_token`"),
        case(Fault::Answer(inner), "pipedrive_401", "blocked", "check `api_token`"),
        case(
            Fault::Answer(refuse(402, "Company account is not open")),
            "pipedrive_402",
            "blocked",
            "billing",
        ),
        case(Fault::Answer(refuse(403, "no permission")), "pipedrive_403", "blocked", "permission"),
        case(Fault::Answer(capped), "pipedrive_feature_capping_deals_limit", "blocked", "plan"),
        case(Fault::Answer(Reply::html(302)), "pipedrive_302", "blocked", "leads elsewhere"),
    ]
}

/// Faults that are about this lead.
fn refusing() -> Vec<Case> {
    let schema = || refuse_with(400, "ERR_SCHEMA_VALIDATION_FAILED", "Validation failed: title: too odd");
    let mut cases = vec![case(
        Fault::Answer(schema()),
        "pipedrive_err_schema_validation_failed",
        "rejected",
        "It said: Validation failed: title: too odd",
    )];
    for (status, code) in [
        (400, "pipedrive_400"),
        (404, "pipedrive_404"),
        (405, "pipedrive_405"),
        (410, "pipedrive_410"),
        (415, "pipedrive_415"),
        (422, "pipedrive_422"),
        (501, "pipedrive_501"),
    ] {
        cases.push(case(
            Fault::Answer(refuse(status, "not like this")),
            code,
            "rejected",
            "It said: not like this",
        ));
    }
    cases
}

/// Every case on every call of a delivery: what is settled, what a person reads, and that nothing is doubled.
async fn every(cases: fn() -> Vec<Case>, create: &str, calls: &[&str]) {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[("CREATE", create)]).await;
    let mut sent = Vec::new();
    for on in calls {
        for Case { fault, code, outcome, says } in cases() {
            let address = format!("a{}@example.com", sent.len());
            vendor.next(on, fault.clone());
            let id = service.accepted(&from(&address)).await;
            let end = if outcome == "rejected" { "dead" } else { "delivered" };
            let delivery = service.until_state(&id, "pipedrive", end).await;
            let first = &delivery["history"][0];
            let outcome = if outcome == "unknown" && on.starts_with("GET") { "transient" } else { outcome };
            let what = format!("{on} {fault:?}: {delivery}");
            assert_eq!(
                (first["code"].as_str(), first["outcome"].as_str()),
                (Some(code), Some(outcome)),
                "{what}"
            );
            assert!(first["detail"].as_str().unwrap().contains(says), "{says:?} in {what}");
            sent.push((id, address, what));
        }
    }
    let (ended, text) = service.cli(&["deliveries", "replay", "--state", "dead", "--yes"]).await;
    assert_eq!(ended, 0, "{text}");
    for (id, address, what) in sent {
        service.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(made(&vendor, &address, &id), (1, 1, 1), "{what}");
    }
    assert!(!vendor.is_broken(), "every fault was met");
}

#[tokio::test]
async fn what_passes_is_tried_again_and_nothing_is_doubled() {
    every(passing, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn what_passes_is_tried_again_and_no_deal_is_doubled() {
    every(passing, "deal", &[DEAL, NOTE]).await;
}

#[tokio::test]
async fn wrong_credentials_and_an_empty_account_park_the_destination() {
    every(parking, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn what_pipedrive_refuses_is_a_dead_letter_and_goes_on_where_it_stopped_when_replayed() {
    every(refusing, "lead", &[SEARCH, PERSON, LEAD, NOTE]).await;
}

#[tokio::test]
async fn a_refused_deal_is_a_dead_letter() {
    every(refusing, "deal", &[DEAL]).await;
}

#[tokio::test]
async fn a_yes_without_an_id_is_unknown_and_looked_for() {
    for (create, on) in [("lead", PERSON), ("lead", LEAD), ("deal", DEAL), ("lead", NOTE)] {
        let vendor = pipedrive::start().await;
        vendor.next(on, Fault::ApplyThenAnswer(Reply::new(201, json!({ "success": true, "data": {} }))));
        let service = service(&vendor, &[("CREATE", create)]).await;
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(
            (&delivery["history"][0]["outcome"], codes(&delivery)[0].as_str()),
            (&json!("unknown"), "pipedrive_no_id")
        );
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
    }
}

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

#[tokio::test]
async fn a_kill_at_any_step_goes_on_after_the_last_one_that_was_saved() {
    for (create, on, before) in [
        ("lead", PERSON, vec![SEARCH, PERSON]),
        ("lead", LEAD, vec![SEARCH, PERSON, LEAD]),
        ("deal", DEAL, vec![SEARCH, PERSON, DEAL]),
        ("lead", NOTE, vec![SEARCH, PERSON, LEAD, NOTE]),
    ] {
        let vendor = pipedrive::start().await;
        vendor.vendor().search_lags = true;
        vendor.next(on, Fault::ApplyThenHang);
        let mut service = service(&vendor, &[("CREATE", create), ("TIMEOUT", "2s")]).await;
        let id = service.accepted(&ada()).await;
        let calls = soon(vendor.until(|calls| calls.last().is_some_and(|call| call.line() == on))).await;
        assert_eq!(calls.iter().map(stand_ins::api::Call::line).collect::<Vec<_>>(), before);
        service.kill().await;
        // Its lease is a due date in the future, and its turn ends in seconds; the test does not wait for them.
        let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
        store.execute("DELETE FROM turns", []).unwrap();
        assert_eq!(store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap(), 1);
        drop(store);
        let again = service.again().await;
        let delivery = again.until_state(&id, "pipedrive", "delivered").await;
        assert_eq!(codes(&delivery)[0], "lost");
        assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1), "{on}");
        for line in before {
            let most = if line == SEARCH && on == PERSON { 2 } else { 1 };
            assert_eq!(count(&vendor, line), most, "{line} after a kill in {on}");
        }
    }
}

#[tokio::test]
async fn a_step_that_is_done_is_not_done_again() {
    for (create, item) in [("lead", LEAD), ("deal", DEAL)] {
        let vendor = pipedrive::start().await;
        let service = service(&vendor, &[("CREATE", create)]).await;
        for (number, fault) in [refuse(500, "x"), refuse(422, "x")].into_iter().enumerate() {
            let address = format!("a{number}@example.com");
            vendor.next(NOTE, Fault::Answer(fault));
            let id = service.accepted(&from(&address)).await;
            if number == 1 {
                service.until_state(&id, "pipedrive", "dead").await;
                service.cli(&["deliveries", "replay", "--state", "dead", "--yes"]).await;
            }
            service.until_state(&id, "pipedrive", "delivered").await;
            assert_eq!(made(&vendor, &address, &id), (1, 1, 1), "{create}");
        }
        assert_eq!([SEARCH, PERSON, item, NOTE].map(|line| count(&vendor, line)), [2, 2, 2, 4], "{create}");
    }
}

#[tokio::test]
async fn a_pause_that_pipedrive_asks_for_holds_everybody() {
    for (on, fault, code, least, most) in [
        (SEARCH, too_many(&[("x-ratelimit-reset", "120")]), "pipedrive_429", 119, 121),
        (LEAD, too_many(&[("retry-after", "600")]), "pipedrive_429", 599, 601),
        (LEAD, too_many(&[]), "pipedrive_429", 1, 3),
        (LEAD, too_many(&[("x-daily-ratelimit-token-remaining", "0")]), "pipedrive_daily_budget", 59, 87_200),
        (NOTE, too_many(&[("x-daily-requests-left", "0")]), "pipedrive_daily_budget", 59, 87_200),
        (PERSON, Fault::html(403), "pipedrive_shut_out", 899, 901),
    ] {
        let vendor = pipedrive::start().await;
        vendor.next(on, fault.clone());
        let service = service(&vendor, &[]).await;
        let id = service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        let wait = line["retry_in_s"].as_u64().unwrap();
        assert!(line["code"] == code && (least..=most).contains(&wait), "{fault:?}: {line}");
        assert_eq!(line["outcome"], "transient", "it was surely not done: {fault:?}");
        if least > 10 {
            let second = service.accepted(&from("other@example.com")).await;
            assert_eq!(service.delivery(&second, "pipedrive").await["attempts"], 0, "the lane is held");
            assert_eq!(service.delivery(&id, "pipedrive").await["state"], "pending");
        } else {
            service.until_state(&id, "pipedrive", "delivered").await;
            assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
        }
    }
}

#[tokio::test]
async fn a_day_s_budget_that_is_used_up_in_the_middle_stops_there() {
    let vendor = pipedrive::start().await;
    vendor.vendor().tokens = 30;
    let service = service(&vendor, &[]).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("attempt failed").await;
    let delivery = service.delivery(&id, "pipedrive").await;
    assert_eq!(codes(&delivery), ["pipedrive_daily_budget"]);
    assert!(delivery["history"][0]["detail"].as_str().unwrap().contains("midnight UTC"));
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 0, 0));
}

#[tokio::test]
async fn a_configured_id_that_pipedrive_does_not_know_parks_and_says_which() {
    for (create, key, value, says) in [
        ("deal", "STAGE_ID", "99", "`stage_id` = 99"),
        ("deal", "PIPELINE_ID", "9", "`pipeline_id` = 9"),
        ("lead", "OWNER_ID", "5", "`owner_id` = 5"),
        ("lead", "LABEL_IDS", "00000000-0000-0000-0000-000000000000", "`label_ids` = 00000000"),
    ] {
        let vendor = pipedrive::start().await;
        let service = service(&vendor, &[("CREATE", create), (key, value), ("PROBE", "1h")]).await;
        let id = service.accepted(&ada()).await;
        service.until_logged("destination parked").await;
        let delivery = service.delivery(&id, "pipedrive").await;
        let detail = delivery["history"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(says) && detail.contains("configured"), "{detail}");
        assert_eq!(delivery["history"][0]["code"], "pipedrive_err_schema_validation_failed");
    }
    // A field's key may be wrong, or this lead's value: a dead letter that names it.
    let vendor = pipedrive::start().await;
    let fields = format!("{{ {DEAL_NUMBER} = 'form_data.message' }}");
    let service = service(&vendor, &[("DEAL_FIELDS", &fields)]).await;
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "dead").await;
    let detail = delivery["history"][0]["detail"].as_str().unwrap();
    assert!(detail.contains(DEAL_NUMBER) && detail.contains("`deal_fields`"), "{detail}");
}

#[tokio::test]
async fn the_token_and_what_a_visitor_typed_are_in_no_url_log_or_error() {
    let vendor = pipedrive::start().await;
    let echo = |status| refuse(status, &format!("bad ada@example.com {TOKEN}"));
    for (on, fault) in [
        (SEARCH, Fault::Answer(echo(500))),
        (PERSON, Fault::ApplyThenDrop),
        (LEAD, Fault::Answer(echo(401))),
        (NOTE, Fault::ApplyThenAnswer(echo(502))),
    ] {
        vendor.next(on, fault);
    }
    let service = {
        let (base, retry) = (vendor.url(), ["1ms"; 9].join(", "));
        Service::start(&[
            ("RUST_LOG", "trace"),
            ("PIPEDRIVE_API_TOKEN", TOKEN),
            ("PIPEDRIVE_DOMAIN", "example"),
            (&setting("BASE_URL"), &base),
            (&setting("RETRY"), &retry),
            (&setting("PROBE"), "1ms"),
            (&setting("SETTLE"), "1ms"),
        ])
        .await
    };
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "pipedrive", "delivered").await;
    assert_eq!(made(&vendor, "ada@example.com", &id), (1, 1, 1));
    for call in vendor.calls() {
        assert_eq!(call.headers["x-api-token"], TOKEN);
        assert!(!format!("{} {:?} {}", call.path, call.query, call.body).contains(TOKEN));
        assert!(!call.headers.contains_key("authorization"));
    }
    let log = service.log();
    for secret in [TOKEN, "ada@example.com", "ada%40example", "Lovelace", "7946 0018"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "`{secret}` is in the log: {}", line.unwrap_or_default());
    }
    assert!(!delivery.to_string().contains(TOKEN), "{delivery}");
    let folder = &service.folder;
    let files = std::fs::read_dir(folder.path().join("data")).unwrap();
    for file in files.map(|file| std::fs::read(file.unwrap().path()).unwrap()) {
        assert!(!file.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "the store holds no token");
    }
}

/// What `check` says, and how it ends.
async fn check(online: bool, settings: &[(&str, &str)]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<_> = settings.to_vec();
    let mut command = binary(folder.path(), &pairs);
    command.arg("check");
    if online {
        command.arg("--online");
    }
    let ended = command.output().await.unwrap();
    let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    (ended.status.code().unwrap(), text)
}

#[tokio::test]
async fn check_online_tries_the_token_and_what_the_configuration_names() {
    let vendor = pipedrive::start().await;
    let url = vendor.url();
    let good = format!("{{ {DEAL_TEXT} = 'id' }}");
    let unknown = format!("{{ {} = 'email' }}", "c".repeat(40));
    let key = |key: &str| setting(key);
    let online = async |token: &str, settings: &[(String, &str)]| {
        let base = key("BASE_URL");
        let mut all = vec![("PIPEDRIVE_API_TOKEN", token), ("PIPEDRIVE_DOMAIN", "example"), (&base, &url)];
        all.extend(settings.iter().map(|(name, value)| (name.as_str(), *value)));
        check(true, &all).await
    };
    let deal = (key("CREATE"), "deal");
    let (code, text) = online(
        TOKEN,
        &[deal.clone(), (key("PIPELINE_ID"), "2"), (key("STAGE_ID"), "11"), (key("DEAL_FIELDS"), &good)],
    )
    .await;
    assert_eq!((code, text.contains("✓ destinations.pipedrive")), (0, true), "{text}");
    for (token, settings, says) in [
        ("wrong", vec![], "Pipedrive does not know the token"),
        (
            TOKEN,
            vec![deal.clone(), (key("PIPELINE_ID"), "3")],
            "It has the pipelines 1 (Pipeline 1), 2 (Pipeline 2)",
        ),
        (TOKEN, vec![deal.clone(), (key("STAGE_ID"), "4")], "`stage_id` is 4"),
        (
            TOKEN,
            vec![deal, (key("PIPELINE_ID"), "1"), (key("STAGE_ID"), "12")],
            "is a stage of another pipeline",
        ),
        (TOKEN, vec![(key("PERSON_FIELDS"), unknown.as_str())], "Pipedrive has no field cccc"),
    ] {
        let (code, text) = online(token, &settings).await;
        assert!(code == 1 && text.contains(says), "{says}: {text}");
        assert!(!text.contains(TOKEN), "{text}");
    }
    assert!(vendor.calls().iter().all(|call| call.method == "GET"), "nothing is created");
}

#[tokio::test]
async fn every_problem_of_the_settings_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lead.toml");
    let text = "[destinations.a]\ntype = 'pipedrive'\napi_token = 'hunter two'\ndomain = 'crm.example.com'\n\
        create = 'lead'\ntitle = '{nmae}'\nvalue = -1\nstage_id = 3\nlabel_ids = ['red']\nvisible_to = 2\n\
        [destinations.a.person_fields]\nnotes = 'email'\n1111111111111111111111111111111111111111 = 'mail'\n\
        [destinations.b]\ntype = 'pipedrive'\napi_token = 'x'\ncreate = 'person'\ncurrency = 'euro'\n\
        [destinations.c]\ntype = 'pipedrive'\napi_token = 'x'\ndomain = 'x'\nbase_url = 'http://far.test'\ntitel = 'x'\n";
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let (code, said) = check(false, &[("LEAD_INTAKE_CONFIG", path)]).await;
    assert_eq!(code, 1);
    for expected in [
        &format!("destinations.a.api_token  ({path}:3)"),
        &format!("destinations.a.domain  ({path}:4)"),
        &format!("destinations.a.title  ({path}:6)"),
        "no field `nmae`",
        &format!("destinations.a.value  ({path}:7)"),
        &format!("destinations.a.stage_id  ({path}:8)"),
        &format!("destinations.a.label_ids  ({path}:9)"),
        &format!("destinations.a.visible_to  ({path}:10)"),
        &format!("destinations.a.person_fields.notes  ({path}:12)"),
        "no field `mail`",
        "destinations.b.domain",
        "PIPEDRIVE_DOMAIN",
        &format!("destinations.b.currency  ({path}:18)"),
        "id you mean `title`?",
    ] {
        assert!(said.contains(expected), "{expected:?} is not in:\n{said}");
    }
    assert!(!said.contains("hunter two"), "{said}");
    let (_, half) = check(false, &[("PIPEDRIVE_DOMAIN", "example")]).await;
    assert!(half.contains("`api_token` is missing") && half.contains("PIPEDRIVE_API_TOKEN"), "{half}");
    for domain in ["example", "Example.pipedrive.com", "https://example.pipedrive.com/"] {
        let (code, text) = check(false, &[("PIPEDRIVE_API_TOKEN", "x"), ("PIPEDRIVE_DOMAIN", domain)]).await;
        assert_eq!(
            (code, text.as_str()),
            (0, "The configuration is fine. Destinations: pipedrive.\n"),
            "{domain}"
        );
    }
}

#[tokio::test]
async fn the_stand_in_is_as_strict_as_the_vendor() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let vendor = pipedrive::start().await;
    let person = vendor.vendor().add_person("Ada", "ada@example.com");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let ask = async |method: &str, path: &str, token: &str, body: Value| {
        let method = method.parse::<reqwest::Method>().unwrap();
        let request = client.request(method, format!("{}{path}", vendor.url())).header("x-api-token", token);
        request.json(&body).send().await.unwrap().status().as_u16()
    };
    for (method, path, status) in [
        ("GET", "/api/v2/persons", 200),
        ("GET", "/v2/persons", 404),
        ("GET", "/v1/leads", 200),
        ("GET", "/api/v1/leads", 200),
        ("GET", "/v1/persons", 410),
        ("GET", "/api/v2/persons?updated_since=2026-11-23T10:00:00.5Z", 400),
    ] {
        assert_eq!(ask(method, path, TOKEN, json!({})).await, status, "{path}");
    }
    assert_eq!(
        ask("GET", &format!("/v1/leads?api_token={TOKEN}"), "", json!({})).await,
        401,
        "a header alone"
    );
    let lead = |more: Value| {
        let mut lead = json!({ "title": "x", "person_id": person });
        lead.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lead
    };
    let unknown = "c".repeat(40);
    for (path, body, status) in [
        ("/api/v2/persons", json!({ "name": "x", "emails": ["a@b.test"] }), 400),
        ("/api/v2/persons", json!({ "name": "x", "job_title": "y" }), 403),
        ("/api/v2/persons", json!({ "name": "x", "custom_fields": { &unknown: "y" } }), 400),
        ("/api/v2/persons", json!({ "name": "x", "custom_fields": { PERSON_NUMBER: "5" } }), 400),
        ("/api/v2/deals", json!({ "title": "x", "value": "5" }), 400),
        ("/api/v2/deals", json!({ "title": "x", "pipeline_id": 1, "stage_id": 11 }), 400),
        ("/api/v2/deals", json!({ "value": 5 }), 400),
        ("/v1/leads", json!({ "title": "x" }), 400),
        ("/v1/leads", lead(json!({ "person_id": 999 })), 404),
        ("/v1/leads", lead(json!({ "value": { "amount": 5 } })), 400),
        ("/v1/leads", lead(json!({ "visible_to": 3 })), 400),
        ("/v1/leads", lead(json!({ &unknown: "x" })), 400),
        ("/v1/leads", lead(json!({ "origin_id": "o" })), 201),
        ("/v1/notes", json!({ "content": "x" }), 400),
        ("/v1/notes", json!({ "content": "x", "person_id": person }), 200),
        ("/api/v2/persons", json!({ "name": "x", "emails": [] }), 200),
    ] {
        assert_eq!(ask("POST", path, TOKEN, body.clone()).await, status, "{path} {body}");
    }
    let path = format!("/api/v2/persons/{person}");
    let emails = json!([{ "value": "new@example.com", "primary": true, "label": "work" }]);
    assert_eq!(ask("PATCH", &path, TOKEN, json!({ "emails": emails })).await, 200);
    assert_eq!(vendor.vendor().persons[0]["emails"], emails, "lists are replaced whole");
    assert_eq!(ask("DELETE", &path, TOKEN, json!({})).await, 200);
    assert_eq!(vendor.vendor().persons[0]["is_deleted"], true);
    vendor.vendor().burst = Some(1);
    assert_eq!(ask("GET", &path, TOKEN, json!({})).await, 200);
    assert_eq!(ask("GET", &path, TOKEN, json!({})).await, 429);
}
