//! The stand-in itself.

use serde_json::{Value, json};
use stand_ins::pipedrive::{self, PERSON_NUMBER, TOKEN};

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
