//! Secrets and personal data are put in everywhere, things go wrong in every way, and no line of the log
//! holds any of it.

use serde_json::json;
use stand_ins::google::{self, Google, On, TokenFault};
use stand_ins::hook::{self, Hook};
use stand_ins::smtp::{self, Smtp, Stage, What};
use stand_ins::{api, hubspot, pipedrive};

use crate::support::Service;

/// What a visitor typed.
const PERSONAL: [&str; 9] = [
    "canary.person@example.org",
    "Canaria Vogel",
    "442079460099",
    "canary-message",
    "canary-field",
    "canary-key",
    "canary-page",
    "203.0.113.99",
    "canary-agent",
];

/// What an operator configured.
const SECRETS: [&str; 5] = [
    "canary-path",
    "whsec_Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5Y2FuYXJ5",
    "canary-header",
    "canary-operator",
    "canary-hash",
];

#[tokio::test]
async fn no_line_of_the_log_holds_a_secret_or_anything_personal() {
    let (google, smtp, hook) =
        (Google::start().await, Smtp::start(smtp::Mode::Plain).await, Hook::start().await);
    let hook_url = format!("{}/canary-path", hook.url());
    let (sheet, key, base, smtp_url) =
        (google.spreadsheet_id(), google.credentials(), google.base_url(), smtp.url());
    let crm = hubspot::start().await;
    let crm_url = crm.url();
    let sales = pipedrive::start().await;
    let sales_url = sales.url();
    let refused = json!({"success": false, "error": format!("bad {} {}", PERSONAL[0], pipedrive::TOKEN)});
    for status in [500, 401] {
        sales.next("GET", api::Fault::json(status, refused.clone()));
    }
    let quoted = json!({"message": format!("bad {} {}", PERSONAL[0], hubspot::TOKEN)});
    for status in [500, 401] {
        crm.next("POST", api::Fault::json(status, quoted.clone()));
    }
    let mut service = Service::start(&[
        ("RUST_LOG", "trace"),
        ("GOOGLE_SHEETS_ID", &sheet),
        ("GOOGLE_CREDENTIALS_JSON", &key),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", &base),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__LOOK_AFTER", "1ms"),
        ("SMTP_URL", &smtp_url),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "team@example.com"),
        ("CRM_WEBHOOK_URL", &hook_url),
        ("CRM_WEBHOOK_SECRET", SECRETS[1]),
        ("LEAD_INTAKE__DESTINATIONS__CRM__HEADERS", "{ x-key = \"canary-header\" }"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__PROBE", "1ms"),
        ("LEAD_INTAKE__DESTINATIONS__NOTIFICATION__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__CONFIRMATION__RETRY", "1ms, 1ms, 1ms"),
        ("HUBSPOT_ACCESS_TOKEN", hubspot::TOKEN),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__BASE_URL", &crm_url),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__HUBSPOT__PROBE", "1ms"),
        ("PIPEDRIVE_API_TOKEN", pipedrive::TOKEN),
        ("PIPEDRIVE_DOMAIN", "example"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__BASE_URL", &sales_url),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__RETRY", "1ms, 1ms, 1ms"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__SETTLE", "1ms"),
        ("LEAD_INTAKE__DESTINATIONS__PIPEDRIVE__PROBE", "1ms"),
        ("OPERATOR_TOKEN", "canary-operator"),
        ("IP_HASH_KEY", "canary-hash"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ])
    .await;
    // Each vendor fails first, and quotes what it was sent.
    let echo = |status| hook::Fault::Answer {
        status,
        headers: vec![("x-echo".to_owned(), PERSONAL[0].to_owned())],
        body: format!("bad lead {} {}", PERSONAL[0], SECRETS[0]),
    };
    hook.script().next(echo(500));
    hook.script().next(echo(401));
    hook.script().next(hook::Fault::TakeThenDrop);
    google.token_script().next(TokenFault::unavailable());
    google.next(On::Appends, google::Fault::ApplyThenStatus(500));
    google.next(On::Appends, google::Fault::Status(400));
    smtp.next(Stage::Recipient, What::Say("450 4.2.0 <canary.person@example.org> is busy"));
    smtp.next(Stage::Dot, What::Say("452 4.3.1 canary-message"));
    let lead = json!({
        "email": PERSONAL[0], "name": PERSONAL[1], "phone": format!("+{}", PERSONAL[2]), "form_name": "contact",
        "source": {"url": "https://example.com/canary-page"}, "consent_given": true,
        "form_data": {"message": PERSONAL[3], "canary-field": "canary-field"}, "ip_address": PERSONAL[7],
    });
    let headers =
        [("Idempotency-Key", PERSONAL[5]), ("X-Forwarded-For", PERSONAL[7]), ("User-Agent", PERSONAL[8])];
    let (status, answer) = service.submit_with(&lead, &headers).await;
    assert_eq!(status, 200);
    let id = answer["id"].as_str().unwrap();
    service.until_state(id, "crm", "delivered").await;
    service.until_state(id, "confirmation", "delivered").await;
    service.until_state(id, "hubspot", "delivered").await;
    service.until_state(id, "pipedrive", "delivered").await;
    for (body, kind) in [
        ("{\"email\":\"canary.person@example.org\"", "application/json"),
        ("email=canary.person%40example.org", "application/x-www-form-urlencoded"),
    ] {
        let refused = service
            .client()
            .post(service.url("/api/submit?canary-key"))
            .header("Content-Type", kind)
            .body(body);
        assert_eq!(refused.send().await.unwrap().status().as_u16(), 400);
    }
    service.get("/nowhere/canary.person@example.org").await;

    assert_eq!(service.terminate().await, 0);
    let log = service.log();
    assert!(log.contains("\"delivered\"") && log.contains(id), "the log does say what happened");
    let account = serde_json::from_str::<serde_json::Value>(&key).unwrap();
    let private = account["private_key"].as_str().unwrap().lines().nth(1).unwrap().to_owned();
    let more = [
        hubspot::TOKEN.to_owned(),
        pipedrive::TOKEN.to_owned(),
        smtp::PASSWORD.to_owned(),
        "ya29.".to_owned(),
        "eyJ0eXAi".to_owned(),
        private,
    ];
    let all = PERSONAL.iter().chain(&SECRETS).map(|it| (*it).to_owned()).chain(more);
    for canary in all {
        let line = log.lines().find(|line| line.contains(&canary));
        assert!(line.is_none(), "`{canary}` is in the log: {}", line.unwrap_or_default());
    }
}
