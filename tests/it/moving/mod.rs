//! A whole store moves to another, by the real binary: everything arrives, a move that stopped goes on, and a target
//! that is in use is left alone.

mod ends;
mod filled;
mod model;
mod refused;
mod schema;

use std::path::Path;

use serde_json::{Value, json};
use stand_ins::hook::{Fault, Hook};

use self::filled::{dump, everything, sqlite};
use crate::support::postgres::{is_here, shared};
use crate::support::{Service, ada, binary};

/// Runs `migrate`; its exit code, what it printed and what it said beside it.
async fn migrate(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let ended = binary(folder, &[]).arg("migrate").args(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (ended.status.code().unwrap_or(-1), text(ended.stdout), text(ended.stderr))
}

/// Moves, and both are the same; what the command answers.
async fn moved(from: &str, to: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, beside) = migrate(folder.path(), &["--from", from, "--to", to, "--json"]).await;
    assert_eq!(code, 0, "{out}{beside}");
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&answer["same"], &answer["difference"]), (&json!(true), &json!(null)), "{answer}");
    answer
}

/// What a command says of a store.
async fn said(url: &str, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let ended = binary(folder.path(), &[("DATABASE_URL", url)]).args(arguments).output().await.unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// A text with what PostgreSQL keeps in the place of a zero character.
fn as_postgres(text: &str) -> String {
    text.replace("\\u0000", "\u{fffd}").replace('\0', "\u{fffd}")
}

/// What people can ask of both is the same.
async fn say_the_same(one: &str, other: &str) {
    for arguments in [
        &["leads", "export"][..],
        &["leads", "export", "--json"],
        &["leads", "list", "--limit", "9999"],
        &["deliveries", "list", "--json", "--limit", "9999"],
    ] {
        let (one, other) = (said(one, arguments).await, said(other, arguments).await);
        let (one, other) = (as_postgres(&one), as_postgres(&other));
        assert!(one == other, "{arguments:?}:\n{one}\n{other}");
        assert!(one.lines().count() > 1, "{one}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_moves_to_postgres_and_back() {
    if !is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("first.db"), folder.path().join("new folder/last.db"));
    let leads = everything(&first).await;
    let own = shared().database().await;
    // The way back leads through a pooler, where there is one.
    let pooled = shared().pooled(&own).unwrap_or_else(|| own.clone());

    let answer = moved(&sqlite(&first), &own).await;
    assert_eq!((&answer["written"], &answer["unchanged"]), (&json!(leads), &json!(0)));
    let again = moved(&sqlite(&first), &own).await;
    assert_eq!((&again["written"], &again["unchanged"]), (&json!(0), &json!(leads)));
    assert_eq!(answer["tables"], again["tables"]);
    for table in answer["tables"].as_array().unwrap() {
        assert_eq!(table["from"], table["to"]);
        assert!(table["from"]["rows"].as_u64().unwrap() > 0, "nothing in {table}");
    }

    let back = moved(&pooled, &sqlite(&last)).await;
    assert_eq!(back["tables"], answer["tables"]);
    let (first_rows, last_rows) = (dump(&first), dump(&last));
    assert_eq!(first_rows.keys().collect::<Vec<_>>(), last_rows.keys().collect::<Vec<_>>());
    for (table, rows) in &first_rows {
        assert_eq!(rows, &last_rows[table], "{table}");
    }
    say_the_same(&sqlite(&first), &own).await;
    say_the_same(&sqlite(&first), &sqlite(&last)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn between_files_not_even_a_zero_character_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.db"), folder.path().join("two.db"));
    everything(&one).await;
    moved(&sqlite(&one), &sqlite(&two)).await;
    let held = |path: &Path| {
        let db = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT count(*) FROM attempts WHERE instr(detail, char(0)) > 0";
        db.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap()
    };
    assert_eq!((held(&one), held(&two)), (1, 1));
    say_the_same(&sqlite(&one), &sqlite(&two)).await;
}

/// Somebody moves from SQLite to PostgreSQL, as README says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_on_the_target_goes_on_where_the_one_on_the_source_stopped() {
    if !is_here() {
        return;
    }
    let hook = Hook::start().await;
    let (url, target) = (hook.url(), shared().database().await);
    let variables = |database| {
        [
            ("DATABASE_URL", database),
            ("CRM_WEBHOOK_URL", url.as_str()),
            ("LEAD_INTAKE__DESTINATIONS__CRM__PROBE", "1ms"),
        ]
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    let lost = filled::in_flight(&file).await;
    let source = sqlite(&file);
    let key = [("Idempotency-Key", "k")];
    let mut old = Service::start(&variables(&source)).await;
    old.until_state(&lost, "crm", "delivered").await;
    let delivered = old.accepted(&ada()).await;
    old.until_state(&delivered, "crm", "delivered").await;
    // While the hook refuses, two wait; the first run brings one of them.
    hook.script().always(Fault::status(401));
    let (_, first) = old.submit_with(&ada(), &key).await;
    let first = first["id"].as_str().unwrap().to_owned();
    old.until_logged("destination parked").await;
    moved_or_behind(&source, &target).await;
    let second = old.accepted(&ada()).await;
    assert_eq!(old.terminate().await, 0);
    moved(&source, &target).await;
    say_the_same(&source, &target).await;
    let hashes = said(&source, &["leads", "show", &first, "--json"]).await;

    hook.script().mend();
    let new = Service::start(&variables(&target)).await;
    for id in [&first, &second] {
        new.until_state(id, "crm", "delivered").await;
    }
    let (status, body) = new.submit_with(&ada(), &key).await;
    assert_eq!((status, body["id"].as_str().unwrap()), (200, first.as_str()));
    // One after the move is the newest, and its visitor has the hash that the old service gave.
    let third = new.accepted(&ada()).await;
    let newest = said(&target, &["leads", "list", "--limit", "1", "--json"]).await;
    assert!(newest.contains(&third), "{newest}");
    let hash = |lead: &str| serde_json::from_str::<Value>(lead).unwrap()["lead"]["ip_hash"].clone();
    assert!(hash(&newest).is_string() && hash(&newest) == hash(&hashes), "{newest}");
    new.until_state(&third, "crm", "delivered").await;
    let taken = hook.taken();
    assert!(taken.len() == 5 && taken.values().all(|count| *count == 1), "{taken:?}");

    // From now on the target is ahead: the old store is not brought over it.
    let before = said(&target, &["leads", "export", "--json"]).await;
    let (code, _, beside) = migrate(folder.path(), &["--from", &source, "--to", &target]).await;
    assert_eq!(code, 1);
    assert!(beside.contains("the target is in use") && beside.contains(&first), "{beside}");
    assert_eq!(said(&target, &["leads", "export", "--json"]).await, before);
}

/// A run while the service still works: whether it finds a difference depends on what the service does.
async fn moved_or_behind(from: &str, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (code, out, beside) = migrate(folder.path(), &["--from", from, "--to", to]).await;
    let is_behind = code == 1 && beside.contains("stop it and run this command again");
    assert!(code == 0 || is_behind, "{out}{beside}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_was_under_way_at_the_source_is_known_as_lost_at_the_target() {
    if !is_here() {
        return;
    }
    let hook = Hook::start().await;
    let (url, target) = (hook.url(), shared().database().await);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    let lead = filled::in_flight(&file).await;
    moved(&sqlite(&file), &target).await;
    let service = Service::start(&[("DATABASE_URL", &target), ("CRM_WEBHOOK_URL", &url)]).await;
    let delivery = service.until_state(&lead, "crm", "delivered").await;
    let history = delivery["history"].as_array().unwrap();
    assert_eq!((&history[0]["outcome"], &history[0]["code"]), (&json!("unknown"), &json!("lost")));
    assert_eq!((history.len(), &history[1]["number"]), (2, &json!(2)));
}
