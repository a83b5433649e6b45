//! How a move can end before its time, and what the next one makes of it.

use std::path::Path;

use lead_intake::delivery::{Birth, Kind, Settlement};
use serde_json::json;

use super::filled::{HOUR, accept, dump, lead, many, open, settle, sqlite};
use super::{migrate, moved, said, say_the_same};
use crate::support::postgres::{is_here, shared};
use crate::support::{binary, soon};

const LEADS: usize = 3_000;

/// Where the target stops, in one place and for all: the lead that is never written.
const STOP: usize = 1_500;

/// What a store that is half of a move says to whoever wants to work in it.
async fn is_half(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let given = [("DATABASE_URL", url), ("BIND", "127.0.0.1:0")];
    for arguments in [&["serve"][..], &["deliveries", "replay", "--yes"]] {
        let ended = soon(binary(folder.path(), &given).args(arguments).output()).await.unwrap();
        let text = String::from_utf8([ended.stdout, ended.stderr].concat()).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{text}");
        assert!(text.contains("is half of a move") && text.contains("again until"), "{text}");
    }
    let ended = binary(folder.path(), &given).args(["check", "--json"]).output().await.unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.code() == Some(1) && text.contains("half_moved"), "{text}");
    said(url, &["leads", "list"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_was_killed_goes_on_where_it_stopped() {
    if !is_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    let ids = many(&file, LEADS).await;
    let (source, target) = (sqlite(&file), shared().database().await);
    said(&target, &["migrate"]).await;
    // The target waits for us at one lead, and there the move is killed.
    let name = target.split("@/").nth(1).unwrap().split('?').next().unwrap();
    let own = shared().connect(name).await;
    let stop = &ids[STOP];
    own.batch_execute(&format!(
        "SELECT pg_advisory_lock(7);
         CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
         CREATE TRIGGER wait BEFORE INSERT ON leads FOR EACH ROW WHEN (NEW.id = '{stop}') EXECUTE FUNCTION wait()"
    ))
    .await
    .unwrap();
    let mut child =
        binary(folder.path(), &[]).args(["migrate", "--from", &source, "--to", &target]).spawn().unwrap();
    let waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    soon(async { while own.query(waits, &[]).await.unwrap().is_empty() {} }).await;
    child.kill().await.unwrap();
    own.batch_execute("SELECT pg_advisory_unlock(7)").await.unwrap();
    own.batch_execute("DROP TRIGGER wait ON leads").await.unwrap();
    let there: i64 = own.query_one("SELECT count(*) FROM leads", &[]).await.unwrap().get(0);
    assert!(there > 0 && there <= i64::try_from(STOP).unwrap(), "{there}");
    is_half(&target).await;

    let answer = moved(&source, &target).await;
    let total = i64::try_from(LEADS).unwrap();
    assert_eq!((&answer["unchanged"], &answer["written"]), (&json!(there), &json!(total - there)));
    assert_eq!(moved(&source, &target).await["written"], json!(0));
    say_the_same(&source, &target).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_whose_target_fails_says_so_and_goes_on_when_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("leads.db"), folder.path().join("other.db"));
    let ids = many(&file, LEADS).await;
    let (source, target) = (sqlite(&file), sqlite(&other));
    open(&other).close().await;
    let own = rusqlite::Connection::open(&other).unwrap();
    let stop = &ids[STOP];
    own.execute_batch(&format!(
        "CREATE TRIGGER stop BEFORE INSERT ON leads WHEN NEW.id = '{stop}' BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    ))
    .unwrap();
    let (code, out, beside) = migrate(folder.path(), &["--from", &source, "--to", &target]).await;
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(beside.contains("the same command goes on") && beside.contains("the disk is full"), "{beside}");
    own.execute_batch("DROP TRIGGER stop").unwrap();
    let there: u32 = own.query_row("SELECT count(*) FROM leads", [], |row| row.get(0)).unwrap();
    let there = usize::try_from(there).unwrap();
    assert!(there > 0 && there <= STOP, "{there}");
    is_half(&target).await;
    let answer = moved(&source, &target).await;
    assert_eq!((&answer["unchanged"], &answer["written"]), (&json!(there), &json!(LEADS - there)));
    assert_eq!(dump(&file), dump(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_at_the_source_between_two_runs_is_brought_by_the_second() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("leads.db"), folder.path().join("other.db"));
    many(&file, 300).await;
    moved(&sqlite(&file), &sqlite(&other)).await;
    let store = open(&file);
    let claimed = Birth::Claimed { lease: HOUR };
    let fresh = lead();
    for claim in
        accept(store.as_ref(), &fresh, &[("crm", Kind::Crm, claimed), ("make", Kind::Crm, Birth::Due)]).await
    {
        store.finish_step(&claim.delivery, "person", "9").await.unwrap();
        settle(store.as_ref(), claim, Settlement::Dead).await;
    }
    let waiting = store.deliveries(lead_intake::store::DeliveryFilter {
        state: Some(lead_intake::delivery::State::Pending),
        limit: Some(3),
        ..Default::default()
    });
    let waiting: Vec<_> = waiting.await.unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(store.cancel(&waiting).await.unwrap(), 3);
    store.remember(&"crm".parse().unwrap(), "key", "2").await.unwrap();
    store.close().await;
    let answer = moved(&sqlite(&file), &sqlite(&other)).await;
    // The new lead has one of the three.
    assert_eq!((&answer["written"], &answer["unchanged"]), (&json!(3), &json!(298)));
    assert_eq!(dump(&file), dump(&other));

    let store = open(&file);
    store.remember(&"crm".parse().unwrap(), "key", "").await.unwrap();
    store.shown(store.unshown(10).await.unwrap()).await.unwrap();
    store.close().await;
    assert_eq!(moved(&sqlite(&file), &sqlite(&other)).await["written"], json!(1));
    assert_eq!(dump(&file), dump(&other));
}

/// Makes a copy whose target spoils what it is given by this trigger.
async fn spoiled(folder: &Path, trigger: &str) -> (i32, String, String, String) {
    let (file, other) = (folder.join("leads.db"), folder.join("other.db"));
    let ids = many(&file, 600).await;
    open(&other).close().await;
    let own = rusqlite::Connection::open(&other).unwrap();
    own.execute_batch(&trigger.replace("THIS", &ids[401])).unwrap();
    let (code, out, beside) = migrate(folder, &["--from", &sqlite(&file), "--to", &sqlite(&other)]).await;
    (code, out, beside, ids[401].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_keeps_something_else_is_found_out() {
    for (trigger, said) in [
        (
            "CREATE TRIGGER t AFTER INSERT ON attempts WHEN NEW.lead = (SELECT seq FROM leads WHERE id = 'THIS')
             BEGIN UPDATE attempts SET detail = NEW.detail || ' ' WHERE lead = NEW.lead; END",
            "in the table attempts",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON deliveries WHEN NEW.lead = (SELECT seq FROM leads WHERE id = 'THIS')
             BEGIN UPDATE deliveries SET attempts = attempts + 1 WHERE lead = NEW.lead; END",
            "in the table deliveries",
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON leads WHEN NEW.id = 'THIS'
             BEGIN UPDATE leads SET body = replace(body, 'ada@', 'eve@') WHERE id = NEW.id; END",
            "in the table leads",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (code, out, beside, lead) = spoiled(folder.path(), trigger).await;
        assert_eq!(code, 1, "{out}{beside}");
        assert!(beside.contains(&format!("{lead} is not the same")) && beside.contains(said), "{beside}");
        assert!(out.contains("NOT THE SAME"), "{out}");
        is_half(&sqlite(&folder.path().join("other.db"))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changed_in_a_copy_is_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("leads.db"), folder.path().join("other.db"));
    super::everything(&file).await;
    moved(&sqlite(&file), &sqlite(&other)).await;
    let own = rusqlite::Connection::open(&other).unwrap();
    own.execute_batch("PRAGMA foreign_keys = OFF; DELETE FROM deliveries WHERE lead = 1; DELETE FROM memory; UPDATE kept SET value = x'00' WHERE name = 'ip_hash_key'")
        .unwrap();
    assert_eq!(moved(&sqlite(&file), &sqlite(&other)).await["written"], json!(1));
    assert_eq!(dump(&file), dump(&other));
}
