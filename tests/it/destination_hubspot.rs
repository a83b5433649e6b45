//! HubSpot, through the real binary, against an account on the loopback.

use lead_intake::clock::Clock;
use serde_json::json;
use stand_ins::api::{Fault, Reply};
use stand_ins::hubspot::{self, HubSpot, TOKEN, limited};

use crate::support::{Service, ada, soon};

const CONTACTS: &str = "/crm/objects/2026-09/contacts";

async fn service(crm: &HubSpot, more: &[(&str, &str)]) -> Service {
    let url = crm.url();
    let mut variables = vec![
        ("HUBSPOT_ACCESS_TOKEN", TOKEN),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__RETRY", "1ms, 1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROBE", "1ms"),
    ];
    variables.extend(more);
    Service::start(&variables).await
}

fn of(crm: &HubSpot, address: &str, name: &str) -> Option<String> {
    crm.vendor().contact(address).and_then(|contact| contact.properties.get(name).cloned())
}

#[tokio::test]
async fn a_new_lead_is_a_contact_and_a_known_one_is_updated_without_what_only_new_ones_get() {
    let crm = hubspot::start().await;
    let more = [
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROPERTIES__COMPANY", "form_data.company"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__KEEP_EXISTING", "lastname"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__LEGAL_BASIS", "Freely given consent from contact"),
    ];
    let service = service(&crm, &more).await;
    let mut lead = ada();
    lead["email"] = json!("Ada+news@Example.com");
    lead["name"] = json!("Ada King Lovelace");
    lead["form_data"] = json!({"company": "Engines"});
    let id = service.accepted(&lead).await;
    let delivery = service.until_state(&id, "hubspot", "delivered").await;
    let contact = crm.vendor().contacts[0].clone();
    assert_eq!(
        (delivery["receipt"]["remote_id"].as_str(), delivery["receipt"].get("note")),
        (Some(&*contact.id), None)
    );
    let phone = lead["phone"].as_str().unwrap().to_owned();
    for (name, value) in [
        ("email", "ada+news@example.com"),
        ("firstname", "Ada"),
        ("lastname", "King Lovelace"),
        ("company", "Engines"),
        ("phone", &*phone),
        ("lifecyclestage", "lead"),
        ("hs_legal_basis", "Freely given consent from contact"),
    ] {
        assert_eq!(contact.properties.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(crm.calls().len(), 1, "a new lead is one call, with no address in a URL");

    crm.vendor().contacts[0].properties.insert("lifecyclestage".to_owned(), "customer".to_owned());
    lead["name"] = json!("Augusta Byron");
    lead["form_data"] = json!({"company": ""});
    let id = service.accepted(&lead).await;
    let delivery = service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!(delivery["receipt"], json!({"remote_id": contact.id, "note": "updated"}));
    let calls = crm.calls();
    assert_eq!(calls[2].line(), format!("PATCH {CONTACTS}/{}", contact.id));
    assert_eq!(calls[2].body, json!({"properties": {"firstname": "Augusta", "phone": phone}}));
    let now = |name| of(&crm, "ada+news@example.com", name);
    assert_eq!(now("lastname").as_deref(), Some("King Lovelace"), "a known contact keeps it");
    assert_eq!(now("company").as_deref(), Some("Engines"), "nothing empty is sent, for it would clear");
    assert_eq!(now("lifecyclestage").as_deref(), Some("customer"));
    for call in &calls {
        assert_eq!(call.headers["authorization"], format!("Bearer {TOKEN}"));
        assert!(!call.path.contains("pat-") && call.query.is_empty());
    }
    assert!(!service.log().contains(TOKEN));
}

#[tokio::test]
async fn an_address_is_encoded_where_a_conflict_names_no_contact_and_a_second_address_counts() {
    let crm = hubspot::start().await;
    let service = service(&crm, &[]).await;
    let mut lead = ada();
    lead["email"] = json!("a+b/c@example.com");
    let id = service.accepted(&lead).await;
    service.until_state(&id, "hubspot", "delivered").await;
    let nameless = Reply::new(
        409,
        json!({"status": "error", "message": "Contact already exists.", "category": "CONFLICT"}),
    );
    crm.next("POST", Fault::Answer(nameless));
    let id = service.accepted(&lead).await;
    service.until_state(&id, "hubspot", "delivered").await;
    let call = crm.calls().pop().unwrap();
    assert_eq!(call.line(), format!("PATCH {CONTACTS}/a%2Bb%2Fc%40example.com"));
    assert_eq!(call.parameter("idProperty"), Some("email"));

    crm.vendor().contacts[0].secondary.push("old@example.com".to_owned());
    lead["email"] = json!("OLD@example.com");
    let id = service.accepted(&lead).await;
    service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!(crm.vendor().contacts.len(), 1);
    assert_eq!(of(&crm, "old@example.com", "email").as_deref(), Some("a+b/c@example.com"));
}

/// What an answer to the first call brings: outcome, code, words of the detail, and the end of it all.
type Case = (Fault, &'static str, &'static str, &'static str, &'static str);

#[tokio::test]
async fn what_each_answer_means() {
    let error =
        |category: &str, message: &str| json!({"status": "error", "message": message, "category": category});
    let cases: Vec<Case> = vec![
        (
            Fault::json(400, error("VALIDATION_ERROR", "bad input")),
            "rejected",
            "hubspot_400",
            "bad input",
            "dead",
        ),
        (
            Fault::json(401, error("INVALID_AUTHENTICATION", "no")),
            "blocked",
            "hubspot_401",
            "HUBSPOT_ACCESS_TOKEN",
            "delivered",
        ),
        (
            Fault::json(
                403,
                json!({"category": "MISSING_SCOPES", "errors": [{"context": {"requiredGranularScopes": ["crm.objects.contacts.write"]}}]}),
            ),
            "blocked",
            "hubspot_403",
            "(crm.objects.contacts.write)",
            "delivered",
        ),
        (Fault::html(403), "transient", "hubspot_403", "before HubSpot", "delivered"),
        (
            Fault::json(404, error("OBJECT_NOT_FOUND", "resource not found")),
            "blocked",
            "hubspot_404",
            "api_version",
            "delivered",
        ),
        (Fault::html(414), "rejected", "hubspot_414", "refuses", "dead"),
        (Fault::json(422, error("X", "no")), "rejected", "hubspot_422", "refuses", "dead"),
        (Fault::html(302), "blocked", "hubspot_302", "base_url", "delivered"),
        (Fault::json(500, error("X", "oops")), "unknown", "hubspot_500", "cannot double", "delivered"),
        (Fault::html(502), "unknown", "hubspot_502", "cannot double", "delivered"),
        (Fault::html(524), "unknown", "hubspot_524", "cannot double", "delivered"),
        (Fault::ApplyThenAnswer(Reply::html(502)), "unknown", "hubspot_502", "cannot double", "delivered"),
        (Fault::ApplyThenDrop, "unknown", "connection_lost", "looked for", "delivered"),
        (Fault::Drop, "unknown", "connection_lost", "looked for", "delivered"),
        (Fault::ApplyThenHang, "unknown", "timeout", "looked for", "delivered"),
        (Fault::ApplyThenCut, "unknown", "hubspot_no_id", "without the contact's id", "delivered"),
        (
            Fault::ApplyThenAnswer(Reply::new(201, json!({}))),
            "unknown",
            "hubspot_no_id",
            "by its address",
            "delivered",
        ),
    ];
    let crm = hubspot::start().await;
    let service = service(&crm, &[("LEAD_INTAKE__DESTINATIONS__HUBSPOT__TIMEOUT", "1s")]).await;
    for on in ["POST", "PATCH"] {
        for (number, (fault, outcome, code, words, end)) in cases.iter().enumerate() {
            let mut lead = ada();
            let address = format!("{on}{number}@example.com").to_lowercase();
            lead["email"] = json!(address);
            if on == "PATCH" {
                // An update whose answer lacks the id, or makes nothing of the contact, is none the worse for it.
                if *code == "hubspot_no_id" || *code == "hubspot_404" {
                    continue;
                }
                let first = service.accepted(&lead).await;
                service.until_state(&first, "hubspot", "delivered").await;
                lead["name"] = json!("Grace Hopper");
            }
            crm.next(on, fault.clone());
            let id = service.accepted(&lead).await;
            let delivery = service.until_state(&id, "hubspot", end).await;
            let first = &delivery["history"][0];
            let told = (first["outcome"].as_str(), first["code"].as_str());
            assert_eq!(told, (Some(*outcome), Some(*code)), "{on} {fault:?}");
            let detail = first["detail"].as_str().unwrap();
            assert!(detail.contains(words) && !detail.contains(TOKEN), "{on} {fault:?}: {detail}");
            let made = crm.vendor().contacts.iter().filter(|it| it.properties["email"] == address).count();
            let expected = usize::from(*end == "delivered" || on == "PATCH");
            assert_eq!(made, expected, "{on} {fault:?}: once, whatever was lost");
            if on == "PATCH" && *end == "delivered" {
                assert_eq!(of(&crm, &address, "firstname").as_deref(), Some("Grace"), "{fault:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_failed_update_is_told_and_a_contact_that_is_gone_is_made_again() {
    let crm = hubspot::start().await;
    let service = service(&crm, &[]).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "hubspot", "delivered").await;
    let gone = Fault::json(404, json!({"status": "error", "message": "resource not found"}));
    for (fault, code) in [(Fault::html(503), "hubspot_503"), (Fault::ApplyThenDrop, "connection_lost")] {
        crm.next("PATCH", fault);
        let id = service.accepted(&ada()).await;
        let delivery = service.until_state(&id, "hubspot", "delivered").await;
        assert_eq!(delivery["history"][0]["code"], code);
    }
    crm.next("PATCH", gone.clone());
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "it begins again in the same attempt");
    for _ in 0..2 {
        crm.next("PATCH", gone.clone());
    }
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!(delivery["history"][0]["code"], "hubspot_gone");
    assert_eq!(crm.vendor().contacts.len(), 1);
}

#[tokio::test]
async fn a_property_that_is_not_there_is_named_or_dropped_as_the_settings_say() {
    let property = ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROPERTIES__SHOE_SIZE", "form_data.shoe_size");
    let mut lead = ada();
    lead["form_data"] = json!({"shoe_size": 44});
    for bare in [false, true] {
        let crm = hubspot::start().await;
        crm.vendor().bare_errors = bare;
        let strict = service(&crm, &[property]).await;
        let id = strict.accepted(&lead).await;
        let delivery = strict.until_state(&id, "hubspot", "dead").await;
        let detail = delivery["history"][0]["detail"].as_str().unwrap();
        assert!(
            detail.contains("`shoe_size` (PROPERTY_DOESNT_EXIST)") && detail.contains("Create the property"),
            "{detail}"
        );
        assert!(crm.vendor().contacts.is_empty());

        let drop = ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__ON_UNKNOWN_PROPERTY", "drop");
        let lenient = service(&crm, &[property, drop]).await;
        let id = lenient.accepted(&lead).await;
        let delivery = lenient.until_state(&id, "hubspot", "delivered").await;
        let note = delivery["receipt"]["note"].as_str().unwrap();
        assert_eq!(note, "sent without shoe_size, which HubSpot does not know");
    }
    let crm = hubspot::start().await;
    let number = ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROPERTIES__NUMEMPLOYEES", "form_data.shoe_size");
    let drop = ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__ON_UNKNOWN_PROPERTY", "drop");
    let service = service(&crm, &[number, drop]).await;
    lead["form_data"] = json!({"shoe_size": "many"});
    let id = service.accepted(&lead).await;
    let delivery = service.until_state(&id, "hubspot", "dead").await;
    let detail = delivery["history"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("`numemployees` (INVALID_INTEGER)"), "a wrong value is never dropped: {detail}");
}

#[tokio::test]
async fn limits_hold_the_whole_destination_for_as_long_as_hubspot_says() {
    let soon_after = |wait: &str| Fault::Answer(limited("TEN_SECONDLY_ROLLING").with("retry-after", wait));
    let cases = [
        (soon_after("3600"), 3_600),
        (Fault::Answer(limited("SECONDLY")), 1),
        (Fault::Answer(limited("TEN_SECONDLY_ROLLING")), 10),
        (Fault::Answer(limited("DAILY")), 3_600),
        (Fault::Answer(Reply::html(477).with("retry-after", "7200")), 7_200),
        (Fault::Answer(Reply::html(423)), 2),
    ];
    for (fault, seconds) in cases {
        let crm = hubspot::start().await;
        crm.next("POST", fault.clone());
        let service = service(&crm, &[]).await;
        service.accepted(&ada()).await;
        let line = service.until_logged("attempt failed").await;
        let wait = line["retry_in_s"].as_u64().unwrap();
        assert!((seconds..=seconds + 1).contains(&wait), "{fault:?}: {wait}");
    }
    // The day's end is asked for.
    let crm = hubspot::start().await;
    let in_five_hours = Clock::system().now() + jiff::SignedDuration::from_hours(5);
    crm.vendor().resets_at = in_five_hours.to_string();
    crm.next("POST", Fault::Answer(limited("DAILY")));
    let service = service(&crm, &[]).await;
    service.accepted(&ada()).await;
    let wait = service.until_logged("attempt failed").await["retry_in_s"].as_u64().unwrap();
    assert!((17_900..=18_000).contains(&wait), "{wait}");
}

#[tokio::test]
async fn the_calls_that_are_left_set_the_pace() {
    let crm = hubspot::start().await;
    crm.vendor().remaining = (0, 10_000);
    let service = service(&crm, &[("LEAD_INTAKE__DESTINATIONS__HUBSPOT__TIMEOUT", "2s")]).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "hubspot", "delivered").await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let held = "SELECT count(*) FROM standings WHERE destination = 'hubspot' AND held_until IS NOT NULL";
    soon(async {
        while store.query_row(held, [], |row| row.get::<_, u32>(0)).unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let second = service.accepted(&ada()).await;
    assert_eq!(service.delivery(&second, "hubspot").await["state"], "pending");
    assert_eq!(crm.calls().len(), 1, "no call is made that HubSpot would refuse");
}

/// The form's own words for it: a submission of unknown outcome is not repeated, whoever asked and is gone.
#[tokio::test]
async fn a_form_whose_process_was_killed_in_the_middle_is_not_submitted_again() {
    let crm = hubspot::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let form = format!("portal_id = \"42\", form_id = \"f-1\", base_url = \"{}\"", crm.url());
    std::fs::write(&file, format!("[destinations.hubspot]\nform = {{ {form} }}\n")).unwrap();
    let mut service = service(&crm, &[("LEAD_INTAKE_CONFIG", file.to_str().unwrap())]).await;
    crm.next("POST /submissions", Fault::ApplyThenHang);
    let mut lead = ada();
    lead["source"]["hutk"] = json!("no cookie of HubSpot's");
    let id = service.accepted(&lead).await;
    let is_submission = |call: &stand_ins::api::Call| call.line().starts_with("POST /submissions");
    soon(crm.until(|calls| calls.last().is_some_and(is_submission))).await;
    service.kill().await;
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap();
    let again = service.again().await;
    let delivery = again.until_state(&id, "hubspot", "delivered").await;
    assert!(delivery["receipt"]["note"].as_str().unwrap().contains("not sent twice"), "{delivery}");
    let submissions = crm.vendor().submissions.clone();
    assert_eq!((submissions.len(), submissions[0]["context"].get("hutk")), (1, None));
}

/// A service that submits to a form, too; `more` is lines of the destination's section.
async fn with_form(crm: &HubSpot, more: &str, variables: &[(&str, &str)]) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let form = format!("portal_id = \"42\", form_id = \"f-1\", base_url = \"{}\"", crm.url());
    std::fs::write(&file, format!("[destinations.hubspot]\n{more}form = {{ {form} }}\n")).unwrap();
    let mut all = vec![("LEAD_INTAKE_CONFIG", file.to_str().unwrap())];
    all.extend(variables);
    let mut service = service(crm, &all).await;
    service.beside = Some(folder);
    service
}

/// A submission writes into the contact: what a known contact keeps, or HubSpot does not know, stays out of it, also where
/// it is made up for later.
#[tokio::test]
async fn a_form_says_no_more_than_the_contact_may_have() {
    let crm = hubspot::start().await;
    let more = "on_unknown_property = \"drop\"\nkeep_existing = [\"phone\"]\nproperties.shoe_size = \"form_data.shoe_size\"\n";
    let service = with_form(&crm, more, &[]).await;
    let mut lead = ada();
    lead["form_data"] = json!({"shoe_size": 44});
    let names = |at: usize| -> Vec<String> {
        let form = crm.vendor().submissions[at].clone();
        let fields = form["fields"].as_array().unwrap().iter();
        fields.map(|field| field["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = service.accepted(&lead).await;
    service.until_state(&first, "hubspot", "delivered").await;
    assert!(names(0).contains(&"phone".to_owned()) && !names(0).contains(&"shoe_size".to_owned()));
    // The contact is updated, and the form goes with the second attempt.
    crm.next("POST /submissions", Fault::html(406));
    let second = service.accepted(&lead).await;
    let delivery = service.until_state(&second, "hubspot", "delivered").await;
    assert_eq!(names(1).first().unwrap(), "email");
    assert!(!names(1).contains(&"phone".to_owned()) && !names(1).contains(&"shoe_size".to_owned()));
    let note = delivery["receipt"]["note"].as_str().unwrap();
    assert!(note.contains("updated; sent without shoe_size"), "the first attempt's words stay: {note}");
    // One that goes later than the contact that it made: somebody may have corrected that since.
    crm.next("POST /submissions", Fault::html(406));
    lead["email"] = json!("grace@example.com");
    let third = service.accepted(&lead).await;
    service.until_state(&third, "hubspot", "delivered").await;
    assert!(!names(2).contains(&"phone".to_owned()), "{:?}", names(2));
}

/// A 400 of the forms API says what is wrong in its list; and nobody reads our token, whoever quotes it.
#[tokio::test]
async fn what_hubspot_says_is_quoted_without_the_token() {
    let crm = hubspot::start().await;
    let service = with_form(&crm, "", &[]).await;
    let said = json!({ "status": "error", "message": format!("The request is not valid for {TOKEN}"),
        "errors": [{ "message": "Error in 'fields.phone': too short", "errorType": "INVALID" }] });
    crm.next("POST /submissions", Fault::Answer(Reply::new(400, said)));
    let id = service.accepted(&ada()).await;
    let delivery = service.until_state(&id, "hubspot", "dead").await;
    let detail = delivery["history"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("not valid for … Error in 'fields.phone': too short"), "{detail}");
    assert!(!detail.contains(TOKEN), "{detail}");
}

#[tokio::test]
async fn conflicts_are_counted_anew_after_a_replay() {
    let crm = hubspot::start().await;
    let conflict = || Fault::Answer(Reply::new(409, json!({ "message": "Busy." })));
    let service = service(&crm, &[]).await;
    crm.always(conflict());
    let id = service.accepted(&ada()).await;
    for tried in 1..=4 {
        let count = |it: &serde_json::Value| it["history"].as_array().unwrap().len() == tried;
        let delivery = service.until_delivery(&id, "hubspot", count).await;
        assert_eq!(delivery["state"], if tried == 4 { "dead" } else { "pending" }, "{delivery}");
        service.hasten();
    }
    assert_eq!(service.cli(&["deliveries", "replay", "--yes"]).await.0, 0);
    let count = |it: &serde_json::Value| it["history"].as_array().unwrap().len() == 5;
    assert_eq!(service.until_delivery(&id, "hubspot", count).await["state"], "pending");
}

/// A gateway's page is no word of HubSpot's: neither a refusal of the lead, nor a success.
#[tokio::test]
async fn a_page_in_the_place_of_an_answer_says_nothing() {
    let crm = hubspot::start().await;
    let service = service(&crm, &[]).await;
    for status in [400, 406, 418] {
        crm.next("POST", Fault::html(status));
        let id = service.accepted(&ada()).await;
        let first =
            service.until_delivery(&id, "hubspot", |it| it["history"][0]["outcome"].is_string()).await;
        assert_eq!(first["history"][0]["outcome"], "transient", "{status}");
        service.until_state(&id, "hubspot", "delivered").await;
    }
    crm.next("PATCH", Fault::html(200));
    let id = service.accepted(&ada()).await;
    let first = service.until_delivery(&id, "hubspot", |it| it["history"][0]["outcome"].is_string()).await;
    assert_eq!(first["history"][0]["outcome"], "unknown");
}

#[tokio::test]
async fn a_form_is_submitted_once_and_never_again_after_a_lost_answer() {
    let crm = hubspot::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.toml");
    let text = format!(
        "[destinations.hubspot]\nform = {{ portal_id = \"42\", form_id = \"f-1\", consent_text = \"You may call me.\", base_url = \"{}\" }}\n",
        crm.url()
    );
    std::fs::write(&file, text).unwrap();
    let mut service = service(&crm, &[("LEAD_INTAKE_CONFIG", file.to_str().unwrap())]).await;
    service.beside = Some(folder);
    let mut lead = ada();
    lead["source"]["hutk"] = json!("0123456789abcdef0123456789abcdef");
    // The contact is made, the form refuses for a moment: the contact is not made again.
    crm.next("POST /submissions", Fault::html(429));
    let id = service.accepted(&lead).await;
    crm.next("POST /submissions", Fault::ApplyThenDrop);
    let delivery = soon(async {
        loop {
            let _ = service.cli(&["deliveries", "list", "--json"]).await;
            let store =
                rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
            store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
            store
                .execute(
                    "UPDATE deliveries SET due_at = 0 WHERE state = 'pending' AND open_since IS NULL",
                    [],
                )
                .unwrap();
            let delivery = service.delivery(&id, "hubspot").await;
            if delivery["state"] == "delivered" {
                return delivery;
            }
        }
    })
    .await;
    assert!(delivery["receipt"]["note"].as_str().unwrap().contains("not sent twice"), "{delivery}");
    let submissions = crm.vendor().submissions.clone();
    assert_eq!(submissions.len(), 1);
    let form = &submissions[0];
    assert_eq!(form["context"]["hutk"], "0123456789abcdef0123456789abcdef");
    assert_eq!(form["context"]["pageUri"], lead["source"]["url"]);
    assert_eq!(form["legalConsentOptions"]["consent"]["text"], "You may call me.");
    let made = |calls: &[stand_ins::api::Call]| {
        calls.iter().filter(|call| call.line() == format!("POST {CONTACTS}")).count()
    };
    assert_eq!(made(&crm.calls()), 1);

    // As after a crash between the submission and the settlement: what is written down is not done again.
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    store.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    store.execute("UPDATE deliveries SET state = 'pending', due_at = 0, receipt = NULL", []).unwrap();
    service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!((crm.vendor().submissions.len(), made(&crm.calls())), (1, 1));

    // A visitor without the cookie; and an answer that says nothing of what was done is as good as lost.
    crm.next("POST /submissions", Fault::ApplyThenAnswer(Reply::html(502)));
    let mut lead = ada();
    lead["email"] = json!("Grace.Hopper@EXAMPLE.com");
    let id = service.accepted(&lead).await;
    let delivery = service.until_state(&id, "hubspot", "delivered").await;
    assert_eq!(delivery["history"].as_array().unwrap().len(), 1, "{delivery}");
    let submissions = crm.vendor().submissions.clone();
    assert_eq!(submissions.len(), 2);
    assert!(submissions[1]["context"].get("hutk").is_none(), "{}", submissions[1]);
    let made = crm.calls().into_iter().rfind(|call| call.line() == format!("POST {CONTACTS}")).unwrap();
    assert_eq!(made.body["properties"]["email"], "grace.hopper@example.com", "as HubSpot keeps it");
}

#[tokio::test]
async fn a_legal_basis_is_claimed_of_those_alone_who_gave_consent() {
    let crm = hubspot::start().await;
    let basis = "Freely given consent from contact";
    let service = service(
        &crm,
        &[
            ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__LEGAL_BASIS", basis),
            ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__REQUIRES_CONSENT", "false"),
        ],
    )
    .await;
    for (address, consent, expected) in
        [("yes@example.org", true, Some(basis)), ("no@example.org", false, None)]
    {
        let mut lead = ada();
        lead["email"] = json!(address);
        lead["consent_given"] = json!(consent);
        let id = service.accepted(&lead).await;
        service.until_state(&id, "hubspot", "delivered").await;
        assert_eq!(of(&crm, address, "hs_legal_basis").as_deref(), expected);
    }
}

#[tokio::test]
async fn a_check_finds_what_is_wrong_without_a_lead() {
    let crm = hubspot::start().await;
    let good = service(&crm, &[]).await;
    let (code, text) = good.cli(&["check", "--online"]).await;
    assert!(code == 0 && text.contains("destinations.hubspot"), "{text}");
    crm.vendor().scopes.remove("crm.objects.contacts.write");
    let (code, text) = good.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("crm.objects.contacts.write"), "{text}");
    assert!(crm.vendor().contacts.is_empty());

    crm.next("GET /crm/properties", Fault::Answer(Reply::new(200, json!("<p>a page"))));
    let (code, text) = good.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("cannot be read") && !text.contains("does not know"), "{text}");

    let unknown = ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__NEW_CONTACT__HAIR", "red");
    let (code, text) = service(&crm, &[unknown]).await.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("`hair`"), "{text}");
    let (code, text) =
        service(&crm, &[("HUBSPOT_ACCESS_TOKEN", "pat-wrong")]).await.cli(&["check", "--online"]).await;
    assert!(code == 1 && text.contains("HUBSPOT_ACCESS_TOKEN") && !text.contains("pat-wrong"), "{text}");
}

#[tokio::test]
async fn wrong_settings_are_all_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let variables = [
        ("HUBSPOT_ACCESS_TOKEN", "two words"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", "http://api.hubapi.com"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__API_VERSION", "newest"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROPERTIES__COMPANY", "company"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__KEEP_EXISTING", "nickname"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__START", "inline"),
    ];
    let ended = crate::support::binary(folder.path(), &variables).arg("check").output().await.unwrap();
    let said = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for words in [
        "no HubSpot token",
        "lain http is accepted",
        "`newest`",
        "no field `company`",
        "`nickname`",
        "A form never waits",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("two words"));
}
