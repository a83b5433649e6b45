//! The end of the service: what is open is answered, what is under way ends or is taken back, and nothing is lost.

use serde_json::json;
use stand_ins::google::Google;
use stand_ins::hook::{Fault, Hook};
use stand_ins::smtp::{Mode, Smtp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Service, ada, soon};

/// What is said when the time for what is under way was over.
const TAKEN_BACK: &str = "attempts are still under way";

async fn nobody_is_let_in(service: &Service) {
    soon(async { while TcpStream::connect(&service.address).await.is_ok() {} }).await;
}

/// A client that has sent this much.
async fn client(service: &Service, sent: &str) -> TcpStream {
    let mut client = TcpStream::connect(&service.address).await.unwrap();
    client.write_all(sent.as_bytes()).await.unwrap();
    client
}

/// What it hears next.
async fn heard(client: &mut TcpStream) -> String {
    let mut answer = [0; 1_024];
    let length = soon(client.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn while_it_drains_it_says_so_and_takes_leads_on_connections_that_end() {
    let service = Service::start(&[("LEAD_INTAKE__SERVER__DRAIN", "1h")]).await;
    assert_eq!(service.get("/health/ready").await.0, 200);
    service.ask_to_end().await;
    service.until_logged("stopping").await;
    assert_eq!(service.get("/health/ready").await.0, 503, "a proxy sends nobody any more");
    let taken = service.client().post(service.url("/api/submit")).json(&ada()).send().await.unwrap();
    assert_eq!((taken.status().as_u16(), &taken.headers()["connection"]), (200, &"close".parse().unwrap()));
}

#[tokio::test]
async fn sigterm_lets_attempts_in_flight_end() {
    let hook = Hook::start().await;
    hook.script().next(Fault::Wait);
    let url = hook.url();
    let mut service = Service::start(&[("CRM_WEBHOOK_URL", &url)]).await;
    let id = service.accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    service.ask_to_end().await;
    service.until_logged("stopping").await;
    // Nobody else is let in, and the one who is inside is waited for, for as long as a few looks at it take.
    nobody_is_let_in(&service).await;
    for _ in 0..5 {
        assert_eq!(service.delivery(&id, "crm").await["history"], json!([]));
    }
    hook.go_on();
    assert_eq!(service.end().await, 0);
    let delivery = service.delivery(&id, "crm").await;
    assert_eq!((&delivery["state"], delivery["history"].as_array().unwrap().len()), (&json!("delivered"), 1));
}

#[tokio::test]
async fn sigterm_settles_what_does_not_end_as_unknown() {
    let hook = Hook::start().await;
    hook.script().next(Fault::TakeThenHang);
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "50ms")];
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    assert_eq!(service.terminate().await, 0);
    let delivery = service.delivery(&id, "crm").await;
    assert_eq!(
        (&delivery["state"], &delivery["history"][0]["code"]),
        (&json!("pending"), &json!("shutdown"))
    );
    let again = service.again().await;
    assert_eq!(again.until_state(&id, "crm", "delivered").await["history"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_request_that_is_open_when_it_stops_is_answered() {
    let mut service = Service::start(&[]).await;
    let body = ada().to_string();
    let head = format!(
        "POST /api/submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut client = client(&service, &head).await;
    assert!(heard(&mut client).await.starts_with("HTTP/1.1 100"), "it waits for the body");
    service.ask_to_end().await;
    service.until_logged("stopping").await;
    nobody_is_let_in(&service).await;
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list, "");
    client.write_all(body.as_bytes()).await.unwrap();
    assert!(heard(&mut client).await.starts_with("HTTP/1.1 200"));
    assert_eq!(service.end().await, 0);
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list.lines().count(), 1);
}

#[tokio::test]
async fn whoever_waits_in_the_system_s_queue_when_it_stops_is_answered() {
    let mut service = Service::start(&[("LEAD_INTAKE__SERVER__MAX_CONNECTIONS", "1")]).await;
    let ask = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = client(&service, ask).await;
    assert!(heard(&mut first).await.starts_with("HTTP/1.1 200"));
    let (mut second, mut third) = (client(&service, ask).await, client(&service, ask).await);
    assert_eq!(service.terminate().await, 0);
    for waiting in [&mut second, &mut third] {
        assert!(heard(waiting).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(heard(&mut first).await, "", "who was answered and asks no more is let go");
}

#[tokio::test]
async fn what_has_nothing_to_do_holds_no_stop_up() {
    let (google, smtp, hook) = (Google::start().await, Smtp::start(Mode::Plain).await, Hook::start().await);
    let (id, key, base_url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    let (url, mail) = (hook.url(), smtp.url());
    let variables = [
        ("GOOGLE_SHEETS_ID", id.as_str()),
        ("GOOGLE_CREDENTIALS_JSON", key.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", base_url.as_str()),
        ("SMTP_URL", mail.as_str()),
        ("EMAIL_FROM", "hello@example.com"),
        ("EMAIL_NOTIFY_TO", "sales@example.com"),
        ("CRM_WEBHOOK_URL", url.as_str()),
        ("LEAD_INTAKE__SERVER__HEADER_TIMEOUT", "1h"),
    ];
    let mut service = Service::start(&variables).await;
    let mut idle = client(&service, "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(heard(&mut idle).await.starts_with("HTTP/1.1 200"));
    let id = service.accepted(&ada()).await;
    for destination in ["sheet", "notification", "confirmation", "crm"] {
        service.until_state(&id, destination, "delivered").await;
    }
    assert_eq!(service.terminate().await, 0);
    assert_eq!(heard(&mut idle).await, "");
    service.until_logged("stopped").await;
    assert!(!service.log().contains(TAKEN_BACK), "{}", service.log());
}

#[tokio::test]
async fn what_the_store_does_not_take_holds_no_stop_up_for_ever() {
    let hook = Hook::start().await;
    hook.script().next(Fault::Wait);
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "50ms")];
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    let held = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    hook.go_on();
    service.until_logged("cannot settle yet").await;
    assert_eq!(service.terminate().await, 0);
    service.until_logged("not settled before the end").await;
    drop(held);
    let delivery = service.delivery(&id, "crm").await;
    assert_eq!((&delivery["state"], &delivery["history"]), (&json!("pending"), &json!([])), "{delivery}");
}

#[tokio::test]
async fn a_lead_that_the_sheet_alone_has_when_it_stops_is_told_and_keeps_its_mark() {
    let google = Google::start().await;
    let (id, key, base_url) = (google.spreadsheet_id(), google.credentials(), google.base_url());
    let variables = [
        ("GOOGLE_SHEETS_ID", id.as_str()),
        ("GOOGLE_CREDENTIALS_JSON", key.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__SHEET__BASE_URL", base_url.as_str()),
        ("LEAD_INTAKE__STORE__TIMEOUT", "200ms"),
        ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "50ms"),
    ];
    let mut service = Service::start(&variables).await;
    let held = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let id = service.accepted(&ada()).await;
    assert_eq!(service.terminate().await, 0);
    let line = service.until_logged("the store has not got it; it is in the sheet").await;
    assert_eq!((&line["level"], &line["lead"]), (&json!("ERROR"), &json!(id)));
    drop(held);
    let (code, text) = service.cli(&["leads", "import"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(service.delivery(&id, "sheet").await["state"], "delivered");
}

#[tokio::test]
async fn a_settlement_that_changes_nothing_is_told_and_harms_nobody() {
    let hook = Hook::start().await;
    hook.script().next(Fault::TakeThenHang);
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__SERVER__SHUTDOWN_TIMEOUT", "50ms")];
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    let (code, text) = service.cli(&["deliveries", "cancel", "--destination", "crm", "--yes"]).await;
    assert_eq!((code, text.as_str()), (0, "1 cancelled.\n"));
    // The attempt that was under way fails, of a delivery that nobody wants any more.
    assert_eq!(service.terminate().await, 0);
    let line = service.until_logged("the settlement changed nothing").await;
    assert_eq!((&line["level"], &line["delivery"]), (&json!("INFO"), &json!(format!("{id}/crm"))));
    assert_eq!(service.delivery(&id, "crm").await["state"], "cancelled");
}

#[tokio::test]
async fn after_a_stop_the_store_is_one_file() {
    let mut service = Service::start(&[]).await;
    service.accepted(&ada()).await;
    assert_eq!(service.terminate().await, 0);
    let files = std::fs::read_dir(service.folder.path().join("data")).unwrap().map(Result::unwrap);
    let names: Vec<_> = files.map(|file| file.file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["lead-intake.db"], "and nothing of it stands in another");
}
