//! The service over its life: start, answers of every kind, and a crash in the middle.

use serde_json::json;
use stand_ins::hook::{Fault, Hook};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::{Service, ada, binary, soon};

#[tokio::test]
async fn health_tells_how_everything_is() {
    let hook = Hook::start().await;
    let url = hook.url();
    let variables = [
        ("CRM_WEBHOOK_URL", url.as_str()),
        ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1h"),
        ("OPERATOR_TOKEN", "operator-1"),
    ];
    let service = Service::start(&variables).await;
    let health = service.health().await;
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&health["status"], &health["store"], &health["destinations"]),
        (&json!("ok"), &json!("ok"), &json!({"crm": "ok"}))
    );
    assert_eq!(service.get("/health/live").await.0, 200);
    assert_eq!(service.get("/health/ready").await.0, 200);

    hook.script().always(Fault::status(401));
    service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    let health = service.health().await;
    assert_eq!((&health["status"], &health["destinations"]["crm"]), (&json!("degraded"), &json!("parked")));

    assert_eq!(service.get("/metrics").await.0, 403, "the operator's token is asked for");
    let metrics =
        service.client().get(service.url("/metrics")).bearer_auth("operator-1").send().await.unwrap();
    let text = metrics.text().await.unwrap();
    assert!(text.contains("lead_intake_deliveries{destination=\"crm\",state=\"pending\"} 1"), "{text}");
    assert!(text.contains("lead_intake_destination_ok{destination=\"crm\"} 0"), "{text}");

    let ended = binary(service.folder.path(), &[]).args(["health", &service.address]).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    let ended = binary(service.folder.path(), &[]).args(["health", "127.0.0.1:1"]).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
}

#[tokio::test]
async fn a_destination_that_keeps_failing_is_shown_until_it_works() {
    let hook = Hook::start().await;
    hook.script().times(3, Fault::status(500));
    let url = hook.url();
    let variables =
        [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1h")];
    let service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    service.until_delivery(&id, "crm", |it| it["history"].as_array().unwrap().len() == 3).await;
    let health = service.health().await;
    assert_eq!((&health["status"], &health["destinations"]["crm"]), (&json!("degraded"), &json!("failing")));
    let id = service.accepted(&ada()).await;
    service.until_state(&id, "crm", "delivered").await;
    assert_eq!(service.health().await["status"], "ok");
}

/// A form's name comes with the submission, and anything can stand there.
#[tokio::test]
async fn a_form_s_name_that_is_no_plain_word_is_not_logged() {
    let service = Service::start(&[]).await;
    let mut lead = ada();
    lead["form_name"] = json!("of grace@example.com");
    service.accepted(&lead).await;
    assert_eq!(service.until_logged("accepted").await["form"], "(not a plain word)");
    assert!(!service.log().contains("grace@example.com"));
}

#[tokio::test]
async fn every_accept_and_attempt_is_logged_with_its_numbers() {
    let hook = Hook::start().await;
    hook.script().next(Fault::status(503));
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms")];
    let service = Service::start(&variables).await;
    let numbers = |line: &serde_json::Value, id: &str| {
        assert!(line["took_ms"].is_u64() && line["timestamp"].is_string(), "{line}");
        assert_eq!((&line["lead"], &line["destination"]), (&json!(id), &json!("crm")), "{line}");
        // A claim that is given back unsent takes a number, too.
        let is_first = line["attempt"].as_u64().unwrap() == 1;
        (line["level"].clone(), is_first, line["outcome"].clone(), line["code"].clone())
    };
    let key = [("Idempotency-Key", "k")];
    let (_, body) = service.submit_with(&ada(), &key).await;
    let id = body["id"].as_str().unwrap();
    let line = service.until_logged("accepted").await;
    assert_eq!(
        (&line["lead"], &line["form"], &line["deliveries"]),
        (&json!(id), &json!("contact"), &json!(1))
    );
    let line = service.until_logged("attempt failed").await;
    assert_eq!(numbers(&line, id), (json!("WARN"), true, json!("unknown"), json!("http_503")));
    assert!(line["retry_in_s"].is_u64(), "{line}");
    let line = service.until_logged("delivered").await;
    assert_eq!(numbers(&line, id), (json!("INFO"), false, json!("delivered"), json!(null)));
    service.submit_with(&ada(), &key).await;
    assert_eq!(service.until_logged("repeat").await["lead"], id);
    hook.script().next(Fault::status(422));
    let id = service.accepted(&ada()).await;
    let line = service.until_logged("dead letter").await;
    assert_eq!(numbers(&line, &id), (json!("ERROR"), true, json!("rejected"), json!("http_422")));
}

#[tokio::test]
async fn the_log_is_json_where_nobody_sits_at_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = binary(folder.path(), &[("BIND", "127.0.0.1:0")]).spawn().unwrap();
    let line = soon(BufReader::new(child.stderr.take().unwrap()).lines().next_line()).await.unwrap().unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(said["level"].is_string() && said["message"].is_string(), "{line}");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_destination_that_was_taken_out_is_shown_and_its_deliveries_can_be_cancelled() {
    let hook = Hook::start().await;
    hook.script().always(Fault::status(503));
    let url = hook.url();
    let mut first = Service::start(&[("CRM_WEBHOOK_URL", &url)]).await;
    first.accepted(&ada()).await;
    assert_eq!(first.terminate().await, 0);
    let database = format!("sqlite://{}", first.folder.path().join("data/lead-intake.db").display());
    let second = Service::start(&[("DATABASE_URL", &database)]).await;
    second.until_logged("deliveries wait for a destination that is no longer configured").await;
    assert_eq!(second.health().await["destinations"]["crm"], "removed");
    let (code, text) = second.cli(&["check"]).await;
    assert!(code == 1 && text.contains("destinations.crm"), "{text}");
    assert_eq!(
        second.cli(&["deliveries", "cancel", "--yes"]).await.0,
        2,
        "not everything at once by mistake"
    );
    let (code, text) = second.cli(&["deliveries", "cancel", "--destination", "crm", "--yes"]).await;
    assert_eq!((code, text.as_str()), (0, "1 cancelled.\n"));
    assert_eq!(second.health().await["status"], "ok");
}

#[tokio::test]
async fn a_key_makes_a_repeat_the_same_lead() {
    let hook = Hook::start().await;
    let url = hook.url();
    let service = Service::start(&[("CRM_WEBHOOK_URL", &url)]).await;
    let key = [("Idempotency-Key", "k-1")];
    let (_, first) = service.submit_with(&ada(), &key).await;
    let (status, repeat) = service.submit_with(&ada(), &key).await;
    assert_eq!((status, &repeat["id"]), (200, &first["id"]));
    let mut other = ada();
    other["name"] = json!("Somebody else");
    assert_eq!(service.submit_with(&other, &key).await.0, 422);
    let many = (0..20).map(|_| service.submit_with(&other, &[("Idempotency-Key", "k-2")]));
    let ids: std::collections::BTreeSet<_> = futures_util::future::join_all(many)
        .await
        .into_iter()
        .map(|(_, body)| body["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1, "twenty at once are one lead");
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list.lines().count(), 2);
}

#[tokio::test]
async fn browsers_are_let_in_from_allowed_websites_alone() {
    let service = Service::start(&[("ALLOWED_ORIGINS", "https://shop.test")]).await;
    let preflight = |origin: &'static str| {
        let request = service.client().request(reqwest::Method::OPTIONS, service.url("/api/submit"));
        request
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "content-type,idempotency-key")
            .send()
    };
    let answer = preflight("https://shop.test").await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.test");
    let headers = answer.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("idempotency-key") && headers.contains("content-type"));
    assert!(
        !preflight("https://evil.test").await.unwrap().headers().contains_key("access-control-allow-origin")
    );

    let request = service.client().post(service.url("/api/submit")).json(&ada());
    let answer = request.header("Origin", "https://shop.test").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert_eq!(answer.headers()["access-control-expose-headers"], "retry-after", "a script may read it");
    let own = format!("http://{}", service.address);
    assert_eq!(service.submit_with(&ada(), &[("Origin", own.as_str())]).await.0, 200);
    let (status, body) = service.submit_with(&ada(), &[("Origin", "https://evil.test")]).await;
    assert_eq!((status, &body["success"]), (403, &json!(false)));
    assert!(body["errors"]["formErrors"][0].as_str().unwrap().contains("ALLOWED_ORIGINS"));
}

#[tokio::test]
async fn with_a_star_every_website_is_let_in() {
    let service = Service::start(&[("ALLOWED_ORIGINS", "*")]).await;
    let request = service.client().post(service.url("/api/submit")).json(&ada());
    let answer = request.header("Origin", "https://any.test").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["access-control-allow-origin"]),
        (200, &"*".parse().unwrap())
    );
}

#[tokio::test]
async fn a_plain_form_is_sent_on_and_told_what_is_wrong() {
    let page = "https://example.com/thanks";
    let service = Service::start(&[("LEAD_INTAKE__FORMS__CONTACT__THANK_YOU", page)]).await;
    let post = |body: &'static str| {
        let request = service.client().post(service.url("/api/submit")).header("Accept", "text/html,*/*");
        request
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Referer", "https://example.com/contact")
            .body(body)
            .send()
    };
    let sent = post("email=ada%40example.com&name=Ada&form_name=contact&consent_given=on").await.unwrap();
    assert_eq!((sent.status().as_u16(), &sent.headers()["location"]), (303, &page.parse().unwrap()));
    let sent = post("email=ada%40example.com&name=Ada&form_name=other").await.unwrap();
    assert_eq!(sent.headers()["location"], "/thank-you");
    assert!(service.get("/thank-you").await.1.contains("<h1>Thank you</h1>"));
    let refused = post("email=%3Cb%3E&name=&form_name=contact").await.unwrap();
    assert_eq!(refused.status().as_u16(), 400);
    let text = refused.text().await.unwrap();
    assert!(text.contains("<b>Email</b>") && text.contains("<b>Name</b>"), "{text}");
}

#[tokio::test]
async fn the_address_is_kept_as_a_hash_alone_and_the_body_s_word_for_it_is_dropped() {
    let variables = [("TRUSTED_PROXIES", "127.0.0.0/8"), ("IP_HASH_KEY", "key-1")];
    let service = Service::start(&variables).await;
    let mut lead = ada();
    lead["ip_address"] = json!("6.6.6.6");
    let mut hashes = Vec::new();
    for address in ["203.0.113.7", "203.0.113.7", "203.0.113.8"] {
        let (_, body) =
            service.submit_with(&lead, &[("X-Forwarded-For", address), ("User-Agent", "test/1")]).await;
        let lead = service.lead(body["id"].as_str().unwrap()).await;
        assert!(!lead.to_string().contains("203.0.113") && !lead.to_string().contains("6.6.6.6"));
        assert_eq!(lead["lead"]["user_agent"], "test/1");
        hashes.push(lead["lead"]["ip_hash"].as_str().unwrap().to_owned());
    }
    assert!(hashes[0] == hashes[1] && hashes[0] != hashes[2]);
    let long = "x".repeat(600);
    let (_, body) = service.submit_with(&lead, &[("User-Agent", &long)]).await;
    let lead = service.lead(body["id"].as_str().unwrap()).await;
    assert_eq!(lead["lead"]["user_agent"], long[..500], "and no more of it is kept");
}

#[tokio::test]
async fn a_key_for_addresses_that_nobody_sets_is_made_once_and_kept() {
    let mut service = Service::start(&[]).await;
    let hash = async |service: &Service| {
        let id = service.accepted(&ada()).await;
        service.lead(&id).await["lead"]["ip_hash"].as_str().unwrap().to_owned()
    };
    let first = hash(&service).await;
    assert_eq!(service.terminate().await, 0);
    assert_eq!(hash(&service.again().await).await, first, "the same visitor after a restart");
    assert_ne!(hash(&Service::start(&[]).await).await, first, "another store has another key");
}

#[tokio::test]
async fn every_answer_has_the_one_shape() {
    let service = Service::start(&[]).await;
    for (method, path, status) in [
        (reqwest::Method::GET, "/nowhere", 404),
        (reqwest::Method::GET, "/api/submit", 405),
        (reqwest::Method::PUT, "/health", 405),
    ] {
        let answer = service.client().request(method, service.url(path)).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let body: serde_json::Value = answer.json().await.unwrap();
        assert!(body["success"] == json!(false) && body["errors"]["formErrors"].is_array(), "{path}: {body}");
    }
    let (_, script) = service.get("/form.js").await;
    assert!(script.contains("Idempotency-Key"));
}

#[tokio::test]
async fn a_client_that_dawdles_is_let_go() {
    let variables =
        [("LEAD_INTAKE__SERVER__HEADER_TIMEOUT", "100ms"), ("LEAD_INTAKE__SERVER__BODY_TIMEOUT", "100ms")];
    let service = Service::start(&variables).await;
    let mut slow = TcpStream::connect(&service.address).await.unwrap();
    slow.write_all(b"POST /api/submit HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon(slow.read_to_end(&mut answer)).await.unwrap();
    let mut slow = TcpStream::connect(&service.address).await.unwrap();
    let head = "POST /api/submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    soon(slow.read_to_end(&mut answer)).await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn no_more_connections_are_served_at_once_than_the_settings_say() {
    let service = Service::start(&[("LEAD_INTAKE__SERVER__MAX_CONNECTIONS", "1")]).await;
    let ask = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    let answered = async |client: &mut TcpStream| {
        let mut answer = [0; 1_024];
        let length = soon(client.read(&mut answer)).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    };
    let mut first = TcpStream::connect(&service.address).await.unwrap();
    first.write_all(ask).await.unwrap();
    answered(&mut first).await;
    let mut second = TcpStream::connect(&service.address).await.unwrap();
    second.write_all(ask).await.unwrap();
    for _ in 0..50 {
        first.write_all(ask).await.unwrap();
        answered(&mut first).await;
        let unheard = second.try_read(&mut [0]).unwrap_err();
        assert_eq!(unheard.kind(), std::io::ErrorKind::WouldBlock, "the second one waits");
    }
    drop(first);
    answered(&mut second).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_nothing() {
    let hook = Hook::start().await;
    let url = hook.url();
    let service = Service::start(&[("CRM_WEBHOOK_URL", &url)]).await;
    let body = ada().to_string();
    let head = format!(
        "POST /api/submit HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(&service.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    service.until_logged("accepted").await;
    drop(client);
    soon(hook.until(|calls| calls.len() == 1)).await;
    service.until_logged("delivered").await;
}

#[tokio::test]
async fn a_crash_between_accept_and_settle_loses_nothing() {
    let hook = Hook::start().await;
    hook.script().next(Fault::TakeThenHang);
    let url = hook.url();
    // The lease is the attempt's time and 30 s of slack; the clock below is the real one, so the test
    // takes the restart's word for what is pending and then shortens the wait by hand.
    let mut service =
        Service::start(&[("CRM_WEBHOOK_URL", &url), ("LEAD_INTAKE__DESTINATIONS__CRM__TIMEOUT", "1s")]).await;
    let id = service.accepted(&ada()).await;
    soon(hook.until(|calls| calls.len() == 1)).await;
    service.kill().await;
    let file = service.folder.path().join("data/lead-intake.db");
    let store = rusqlite::Connection::open(file).unwrap();
    let changed = store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap();
    assert_eq!(changed, 1, "its lease is a due date in the future");
    drop(store);
    let again = service.again().await;
    let delivery = again.until_state(&id, "crm", "delivered").await;
    let codes: Vec<_> = delivery["history"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!(codes, ["lost", "ok"]);
    assert_eq!(hook.taken().len(), 1, "both calls carry the same id");
}

/// What ends a process may be the lead: it is not sent for ever.
#[tokio::test]
async fn a_lead_whose_attempts_end_the_process_again_and_again_is_a_dead_letter() {
    let hook = Hook::start().await;
    hook.script().always(Fault::Hang);
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms")];
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    for calls in 1..=2 {
        soon(hook.until(|came| came.len() == calls)).await;
        service.kill().await;
        let file = service.folder.path().join("data/lead-intake.db");
        let store = rusqlite::Connection::open(file).unwrap();
        store.execute("UPDATE deliveries SET due_at = 0 WHERE state = 'pending'", []).unwrap();
        drop(store);
        service = service.again().await;
        service.until_logged("an attempt was lost").await;
    }
    let delivery = service.until_state(&id, "crm", "dead").await;
    let codes: Vec<_> = delivery["history"].as_array().unwrap().iter().map(|it| it["code"].clone()).collect();
    assert_eq!(codes, ["lost", "lost", "lost"]);
    assert_eq!(hook.calls().len(), 2);
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_wrote_down_waits_no_longer_than_it_should() {
    let hook = Hook::start().await;
    let url = hook.url();
    let variables = [("CRM_WEBHOOK_URL", url.as_str()), ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1h, 1h")];
    hook.script().next(Fault::status(503));
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    service.until_logged("attempt failed").await;
    assert_eq!(service.terminate().await, 0);
    // As six hours ahead would have written it, when the wait was nearly over.
    let store = rusqlite::Connection::open(service.folder.path().join("data/lead-intake.db")).unwrap();
    let ahead = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64 + 6 * 3_600_000;
    let due = "UPDATE deliveries SET due_at = ?1 WHERE state = 'pending'";
    assert_eq!(store.execute(due, [ahead]).unwrap(), 1);
    let clock = "UPDATE kept SET value = ?1 WHERE name = 'clock'";
    assert_eq!(store.execute(clock, [ahead.to_be_bytes().as_slice()]).unwrap(), 1);
    let mut service = service.again().await;
    service.until_logged("the clock went back").await;
    service.until_state(&id, "crm", "delivered").await;
    // A moment that is right is left alone, at the next start, too.
    hook.script().next(Fault::status(503));
    let id = service.accepted(&ada()).await;
    service.until_logged("attempt failed").await;
    assert_eq!(service.terminate().await, 0);
    let due = service.delivery(&id, "crm").await["due_at"].clone();
    let again = service.again().await;
    assert_eq!(again.delivery(&id, "crm").await["due_at"], due);
}

#[tokio::test]
async fn a_store_that_cannot_commit_is_503_and_nothing_is_half_done() {
    let service = Service::start(&[("LEAD_INTAKE__STORE__TIMEOUT", "300ms")]).await;
    let file = service.folder.path().join("data/lead-intake.db");
    let held = rusqlite::Connection::open(file).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let key = [("Idempotency-Key", "k")];
    let (status, body) = service.submit_with(&ada(), &key).await;
    assert_eq!((status, &body["success"]), (503, &json!(false)));
    let (status, health) = service.get("/health").await;
    assert!(status == 503 && health.contains("\"unavailable\""), "{health}");
    assert_eq!(service.get("/health/ready").await.0, 503);
    held.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.submit_with(&ada(), &key).await.0, 200);
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list.lines().count(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn the_store_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::start(&[]).await;
    service.accepted(&ada()).await;
    let files: Vec<_> =
        std::fs::read_dir(service.folder.path().join("data")).unwrap().map(Result::unwrap).collect();
    assert!(files.iter().any(|file| file.file_name() == "lead-intake.db-wal"), "{files:?}");
    for file in files {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "no folder").unwrap();
    std::fs::write(folder.path().join("other.db"), "leads of another kind, kept in a text file ".repeat(50))
        .unwrap();
    std::fs::create_dir(folder.path().join("folder.db")).unwrap();
    let cases = [
        ("sqlite://file/leads.db", "the folder file cannot be made"),
        ("sqlite://folder.db", "the file folder.db cannot be made or opened"),
        ("sqlite:///proc/leads.db", "the file /proc/leads.db cannot be made or opened"),
        ("sqlite://other.db", "the file other.db is damaged, or is no SQLite database"),
    ];
    for (url, problem) in cases {
        let variables = [("DATABASE_URL", url), ("BIND", "127.0.0.1:0")];
        let ended = binary(folder.path(), &variables).output().await.unwrap();
        let said = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains(problem) && said.contains("DATABASE_URL"), "{said}");
    }
    let text = std::fs::read_to_string(folder.path().join("other.db")).unwrap();
    assert!(text.starts_with("leads of another kind"), "what is not ours is left alone");

    let ended =
        binary(folder.path(), &[("DATABASE_URL", "sqlite://typo.db")]).args(["leads", "list"]).output();
    let ended = ended.await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(1) && said.contains("there is no store at typo.db"), "{said}");
    assert!(!folder.path().join("typo.db").exists(), "a command that looks makes no store");
}

#[tokio::test]
async fn two_processes_on_one_file_lose_nothing_and_send_nothing_twice() {
    const EACH: usize = 40;
    let hook = Hook::start().await;
    let url = hook.url();
    let first = Service::start(&[("CRM_WEBHOOK_URL", &url)]).await;
    let database = format!("sqlite://{}", first.folder.path().join("data/lead-intake.db").display());
    let second = Service::start(&[("CRM_WEBHOOK_URL", &url), ("DATABASE_URL", &database)]).await;
    let lead = ada();
    let submits = (0..EACH).flat_map(|_| [first.accepted(&lead), second.accepted(&lead)]);
    let mut accepted = futures_util::future::join_all(submits).await;
    accepted.sort();
    soon(hook.until(|calls| calls.len() >= accepted.len())).await;
    let mut told: Vec<_> =
        hook.calls().iter().map(|call| call.body["id"].as_str().unwrap().to_owned()).collect();
    told.sort();
    assert_eq!(told, accepted, "each once");
    for service in [&first, &second] {
        let (_, list) = service.cli(&["leads", "list", "--json", "--limit", "1000"]).await;
        assert_eq!(list.lines().count(), accepted.len());
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_well() {
    let service = Service::start(&[("DATABASE_URL", "sqlite://leads.db")]).await;
    service.accepted(&ada()).await;
    for arguments in [
        &["leads", "list"][..],
        &["leads", "list", "--json"],
        &["leads", "export"],
        &["deliveries", "list"],
        &["check"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = binary(service.folder.path(), &[("DATABASE_URL", "sqlite://leads.db")]);
        let ended = command.args(arguments).stdout(writer).spawn().unwrap().wait_with_output().await.unwrap();
        assert_eq!(
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr)),
            (Some(0), "".into()),
            "{arguments:?}"
        );
    }
}

/// As on a disk that is full: what changes nothing could still be committed.
#[tokio::test]
async fn a_store_that_takes_no_writes_is_unavailable_at_once() {
    let service = Service::start(&[("DATABASE_URL", "sqlite://leads.db")]).await;
    assert_eq!(service.health().await["store"], "ok");
    let file = rusqlite::Connection::open(service.folder.path().join("leads.db")).unwrap();
    let full = "CREATE TRIGGER full_disk BEFORE UPDATE ON kept BEGIN SELECT RAISE(FAIL, 'full'); END";
    file.execute_batch(full).unwrap();
    let (status, _) = service.get("/health").await;
    assert_eq!((status, &service.health().await["store"]), (503, &serde_json::json!("unavailable")));
    assert_eq!(service.get("/health/ready").await.0, 503);
    file.execute_batch("DROP TRIGGER full_disk").unwrap();
    assert_eq!(service.get("/health").await.0, 200);
}

#[tokio::test]
async fn leads_are_exported_as_a_table_in_which_nothing_is_a_formula() {
    let service = Service::start(&[]).await;
    let mut lead = ada();
    lead["name"] = json!("=HYPERLINK(\"https://evil.example\",\"Ada, \")");
    lead["form_data"] = json!({"message": "two\nlines, \"quoted\"", "email": "-1+1", "size": 11});
    let first = service.accepted(&lead).await;
    lead["name"] = json!("Grace");
    lead["form_data"] = json!({"wish": "@SUM(A1)", "=1+1": "x"});
    lead["source"]["id"] = json!("lead_fake");
    lead["source"]["email"] = json!("evil@example.com");
    let second = service.accepted(&lead).await;
    let (code, text) = service.cli(&["leads", "export"]).await;
    assert_eq!(code, 0, "{text}");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let header: Vec<_> = table.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header[header.len() - 5..], ["message", "form_data.email", "size", "wish", "'=1+1"]);
    let rows: Vec<std::collections::HashMap<String, String>> =
        table.deserialize().map(Result::unwrap).collect();
    assert_eq!((&*rows[0]["id"], &*rows[1]["id"]), (&*first, &*second), "oldest first");
    assert_eq!(rows[0]["name"], "'=HYPERLINK(\"https://evil.example\",\"Ada, \")");
    assert_eq!((&*rows[0]["message"], &*rows[0]["form_data.email"]), ("two\nlines, \"quoted\"", "'-1+1"));
    assert_eq!(rows[1]["email"], ada()["email"].as_str().unwrap(), "not what its source is called");
    assert_eq!((&*rows[1]["wish"], &*rows[1]["phone"]), ("'@SUM(A1)", ada()["phone"].as_str().unwrap()));
    let (_, text) = service.cli(&["leads", "export", "--json", "--form", "contact"]).await;
    let ids: Vec<_> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["lead"]["id"].clone())
        .collect();
    assert_eq!(ids, [json!(first), json!(second)]);
}

#[tokio::test]
async fn what_a_filter_leaves_out_is_neither_listed_nor_cancelled() {
    let hook = Hook::start().await;
    hook.script().always(Fault::status(503));
    let url = hook.url();
    let service = Service::start(&[("CRM_WEBHOOK_URL", &url), ("ZAPIER_WEBHOOK_URL", &url)]).await;
    let mut quote = ada();
    quote["form_name"] = json!("quote");
    let (contact, quote) = (service.accepted(&ada()).await, service.accepted(&quote).await);
    let (both, only) = (format!("{contact}/crm"), format!("{quote}/zapier"));
    for (filter, count) in [
        (vec!["--form", "quote"], 2),
        (vec!["--destination", "crm"], 2),
        (vec!["--lead", &contact], 2),
        (vec!["--state", "dead"], 0),
        (vec!["--since", "2100-01-01T00:00:00Z"], 0),
        (vec!["--until", "2000-01-01T00:00:00Z"], 0),
        (vec!["--since", "2000-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"], 4),
        (vec!["--error", "no such word"], 0),
        (vec![both.as_str()], 1),
        (vec![both.as_str(), only.as_str()], 2),
        (vec![both.as_str(), "--form", "quote"], 0),
    ] {
        let arguments = [vec!["deliveries", "list", "--json"], filter.clone()].concat();
        let (code, text) = service.cli(&arguments).await;
        assert_eq!((code, text.lines().count()), (0, count), "{filter:?}: {text}");
        let arguments = [vec!["deliveries", "cancel"], filter.clone()].concat();
        // Nobody sits at a terminal: who does not say so has not agreed.
        let (code, text) = service.cli(&arguments).await;
        assert!(code == i32::from(count > 0) && (count == 0 || text.contains("--yes")), "{filter:?}: {text}");
    }
    let (_, text) = service.cli(&["deliveries", "list", "--state", "cancelled", "--json"]).await;
    assert_eq!(text, "");
    let (_, text) = service.cli(&["deliveries", "cancel", &only, "--yes"]).await;
    assert_eq!(text, "1 cancelled.\n");
    for (filter, count) in [
        (vec!["--form", "quote"], 1),
        (vec!["--since", "2100-01-01T00:00:00Z"], 0),
        (vec!["--until", "2000-01-01T00:00:00Z"], 0),
    ] {
        let arguments = [vec!["leads", "list", "--json"], filter.clone()].concat();
        assert_eq!(service.cli(&arguments).await.1.lines().count(), count, "{filter:?}");
    }
}
