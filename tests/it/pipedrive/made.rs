//! What a lead becomes.

use serde_json::json;
use stand_ins::pipedrive::{self, DEAL_NUMBER, DEAL_TEXT, LABEL, PERSON_NUMBER, PERSON_TEXT, USER};

use super::{LEAD, NOTE, PERSON, SEARCH, codes, count, from, made, persons_and_leads, service};
use crate::support::ada;

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
        [("term", "ada@example.com"), ("fields", "email"), ("exact_match", "true"), ("limit", "100")]
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

/// Another company has other persons under the same numbers: whoever has another address is somebody else.
#[tokio::test]
async fn a_remembered_person_without_the_address_gets_no_lead() {
    let vendor = pipedrive::start().await;
    let service = service(&vendor, &[]).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "pipedrive", "delivered").await;
    vendor.vendor().persons[0]["emails"][0]["value"] = json!("stranger@else.example");
    let second = service.accepted(&ada()).await;
    service.until_state(&second, "pipedrive", "delivered").await;
    let books = vendor.vendor();
    assert_eq!((books.persons.len(), books.leads.len()), (2, 2));
    assert_ne!(books.leads[0]["person_id"], books.leads[1]["person_id"]);
}
