//! The service on PostgreSQL, as an operator starts it: nothing but the URL is different.

use serde_json::json;
use stand_ins::hook::{Fault, Hook};

use crate::support::postgres::{Server, is_here, shared};
use crate::support::{Service, ada, binary, soon};

#[tokio::test]
async fn leads_survive_a_restart_of_the_service_and_of_the_database() {
    if !is_here() {
        return;
    }
    let mut server = Server::start();
    let database = server.database().await;
    let hook = Hook::start().await;
    let url = hook.url();
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("CRM_WEBHOOK_URL", url.as_str()),
        ("LEAD_INTAKE__STORE__TIMEOUT", "1s"),
        ("LEAD_INTAKE__DESTINATIONS__CRM__RETRY", "1ms, 1ms, 1ms, 1ms"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let ended = binary(folder.path(), &variables).args(["leads", "list"]).output().await.unwrap();
    assert!(!ended.status.success(), "a command that looks makes no store");
    let mut service = Service::start(&variables).await;
    let first = service.accepted(&ada()).await;
    service.until_state(&first, "crm", "delivered").await;

    // The hook refuses, so the next lead is still on its way when everything stops.
    hook.script().always(Fault::status(401));
    let second = service.accepted(&ada()).await;
    service.until_logged("destination parked").await;
    server.tell("stop");
    let key = [("Idempotency-Key", "k")];
    let (status, body) = service.submit_with(&ada(), &key).await;
    assert_eq!((status, &body["success"]), (503, &json!(false)));
    assert_eq!(service.get("/health/ready").await.0, 503);
    server.tell("start");
    let ready = async { while service.get("/health/ready").await.0 != 200 {} };
    soon(ready).await;
    let (status, body) = service.submit_with(&ada(), &key).await;
    assert_eq!(status, 200, "{body}");
    let third = body["id"].as_str().unwrap().to_owned();
    let (_, list) = service.cli(&["leads", "list", "--json"]).await;
    assert_eq!(list.lines().count(), 3, "the one that was refused is there once: {list}");

    service.kill().await;
    hook.script().mend();
    let mut service = service.again().await;
    for id in [&first, &second, &third] {
        service.until_state(id, "crm", "delivered").await;
    }
    let (code, text) = service.cli(&["check"]).await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(service.terminate().await, 0);
    assert!(!service.folder.path().join("data").exists(), "no SQLite file was made beside it");
}

/// How a service ends that is started for this database, and what it says.
async fn a_start(database: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DATABASE_URL", database), ("BIND", "127.0.0.1:0")];
    let ended = soon(binary(folder.path(), &variables).output()).await.unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[tokio::test]
async fn a_start_without_its_database_says_what_to_do_and_ends_so_that_it_is_started_again() {
    if !is_here() {
        return;
    }
    let mut server = Server::start();
    let database = server.database().await;
    let variables = [("DATABASE_URL", database.as_str())];
    let mut service = Service::start(&variables).await;
    let id = service.accepted(&ada()).await;
    assert_eq!(service.terminate().await, 0);
    server.tell("stop");
    let (code, said) = a_start(&database).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("error: the store cannot be opened: the database test_"), "{said}");
    assert!(said.contains("see that it runs and can be reached from here"), "{said}");
    assert_eq!((said.lines().count(), said.matches("cannot be opened").count()), (1, 1), "once: {said}");
    server.tell("start");
    let service = service.again().await;
    assert!(service.cli(&["leads", "list", "--json"]).await.1.contains(&id));
}

#[tokio::test]
async fn a_start_ends_soon_where_the_database_takes_the_connection_and_never_answers() {
    // The system itself takes connections to whoever listens.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let (code, said) = a_start(&format!("postgres://lead:hunter2@127.0.0.1:{port}/leads")).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the database leads at 127.0.0.1 cannot be used"), "{said}");
    assert!(said.contains("no answer in 10 s") && !said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn a_host_that_takes_the_connection_and_never_answers_is_passed_over() {
    if !is_here() {
        return;
    }
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port={},", silent.local_addr().unwrap().port());
    let database = shared().database().await.replace("host=", "host=127.0.0.1&host=").replace("port=", &port);
    let service = Service::start(&[("DATABASE_URL", database.as_str())]).await;
    let id = service.accepted(&ada()).await;
    assert_eq!(service.lead(&id).await["lead"]["email"], ada()["email"]);
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_name_is_refused() {
    if !is_here() {
        return;
    }
    let database = shared().database().await;
    let name = database.split(['/', '?']).nth(3).unwrap();
    let latin = format!("{name}_latin");
    let make =
        format!("CREATE DATABASE {latin} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
    shared().connect("postgres").await.batch_execute(&make).await.unwrap();
    let (code, said) = a_start(&database.replace(name, &latin)).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("encoded in LATIN1") && said.contains("ENCODING 'UTF8'"), "{said}");
}

#[tokio::test]
async fn a_start_waits_for_another_process_that_migrates_for_longer_than_for_a_table() {
    if !is_here() {
        return;
    }
    let database = shared().database().await;
    let name = database.split(['/', '?']).nth(3).unwrap();
    let other = shared().connect(name).await;
    // "lead-int" as a number; and a table may be waited for for half a minute.
    other.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(x'6c6561642d696e74'::bigint)").await.unwrap();
    let migrates = other.batch_execute("SELECT pg_sleep(32); COMMIT");
    let folder = tempfile::tempdir().unwrap();
    let mut migrate = binary(folder.path(), &[("DATABASE_URL", database.as_str())]);
    let (migrated, ended) = tokio::join!(migrates, migrate.arg("migrate").output());
    migrated.unwrap();
    let ended = ended.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}
