//! What a move refuses, in words, and without having touched anything.

use lead_intake::delivery::{Birth, Kind};
use serde_json::Value;

use super::filled::{accept, dump, lead, many, open, sqlite};
use super::{migrate, moved, said};
use crate::support::postgres::{Server, is_here, shared};
use crate::support::{Service, ada, binary};

#[tokio::test]
async fn two_places_that_are_no_two_stores_are_refused_and_no_password_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    open(&file).close().await;
    let (here, again) = (sqlite(&file), format!("sqlite://{}/./leads.db", folder.path().display()));
    let server = "postgres://lead:hunter2@127.0.0.1:1/leads";
    for (from, to, code, expected) in [
        (here.as_str(), again.as_str(), 2, "source and target are the same"),
        (server, server, 2, "source and target are the same: the database leads at 127.0.0.1"),
        ("sqlite://nowhere.db", &here, 1, "there is no store at nowhere.db: let --from"),
        ("mysql://lead:hunter2@x/y", &here, 2, "--from: this is no engine that lead-intake knows"),
        (&here, "postgres://lead:hunter2@[/y", 2, "--to: this is no PostgreSQL URL"),
        (
            &here,
            server,
            1,
            "--to: the store cannot be opened: the database leads at 127.0.0.1 cannot be used",
        ),
        (
            server,
            &here,
            1,
            "--from: the store cannot be opened: the database leads at 127.0.0.1 cannot be used",
        ),
        (&here, "sqlite:///dev/null/x.db", 1, "let --to name a file in a folder"),
    ] {
        let (ended, out, beside) = migrate(folder.path(), &["--from", from, "--to", to]).await;
        assert_eq!((ended, out.as_str()), (code, ""), "{from} {to}: {beside}");
        assert!(beside.contains(expected), "{from} {to}: {beside}");
        assert!(!beside.contains("hunter2"), "{beside}");
    }
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| name.to_string_lossy().starts_with("leads.db")), "{files:?}");
}

#[tokio::test]
async fn the_place_that_is_not_said_is_the_configured_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("leads.db"), folder.path().join("other.db"));
    many(&file, 3).await;
    for (configured, argument, given) in [(&other, "--from", &file), (&file, "--to", &other)] {
        let (configured, given) = (sqlite(configured), sqlite(given));
        let mut command = binary(folder.path(), &[("DATABASE_URL", &configured)]);
        let ended = command.args(["migrate", argument, &given, "--json"]).output().await.unwrap();
        let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!((&answer["same"], &answer["tables"][0]["to"]["rows"]), (&true.into(), &3.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_leads_of_its_own_is_no_target() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one.db", "two.db", "three.db"].map(|name| folder.path().join(name));
    many(&one, 5).await;
    let theirs = many(&two, 3).await;
    let before = dump(&two);
    let (code, _, beside) = migrate(folder.path(), &["--from", &sqlite(&one), "--to", &sqlite(&two)]).await;
    assert_eq!(code, 1);
    assert!(beside.contains("the target is in use") && beside.contains(&theirs[0]), "{beside}");
    assert_eq!(dump(&two), before);

    // Nor is a copy of another store; and one whose source has grown is no copy of what it was before.
    moved(&sqlite(&one), &sqlite(&three)).await;
    let before = dump(&three);
    for (source, alone) in [(&two, None), (&two, Some(theirs))] {
        if alone.is_some() {
            many(source, 9).await;
        }
        let (code, _, beside) =
            migrate(folder.path(), &["--from", &sqlite(source), "--to", &sqlite(&three)]).await;
        assert_eq!(code, 1);
        assert!(beside.contains("which the source lacks"), "{beside}");
        assert_eq!(dump(&three), before);
    }
}

/// Its first lead may come at any moment, and would be written over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_which_a_service_runs_is_no_target_even_without_a_lead() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leads.db");
    many(&file, 3).await;
    let mut targets = vec![sqlite(&folder.path().join("other.db"))];
    if is_here() {
        targets.push(shared().database().await);
    }
    for target in targets {
        // Several at once: each says that it works here.
        let variables = [("DATABASE_URL", target.as_str())];
        let start = || Service::start(&variables);
        let (service, _second, _third) = tokio::join!(start(), start(), start());
        let (code, _, beside) = migrate(folder.path(), &["--from", &sqlite(&file), "--to", &target]).await;
        assert!(code == 1 && beside.contains("the target is in use"), "{beside}");
        let id = service.accepted(&ada()).await;
        let (code, _, beside) = migrate(folder.path(), &["--from", &sqlite(&file), "--to", &target]).await;
        assert!(code == 1 && beside.contains("the target is in use"), "{beside}");
        assert_eq!(service.lead(&id).await["lead"]["email"], ada()["email"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_backup_of_the_source_is_not_brought_over_a_copy() {
    let folder = tempfile::tempdir().unwrap();
    let [file, older, other] = ["file.db", "older.db", "other.db"].map(|name| folder.path().join(name));
    many(&file, 4).await;
    std::fs::copy(&file, &older).unwrap();
    said(&sqlite(&file), &["deliveries", "cancel", "--state", "pending", "--yes"]).await;
    let newest = many(&file, 1).await.pop().unwrap();
    moved(&sqlite(&file), &sqlite(&other)).await;
    let before = dump(&other);
    let (code, _, beside) =
        migrate(folder.path(), &["--from", &sqlite(&older), "--to", &sqlite(&other)]).await;
    assert!(
        code == 1 && beside.contains(&format!("the target holds {newest}, which the source lacks")),
        "{beside}"
    );
    assert_eq!(dump(&other), before);
    // It is still a copy that a service may work in.
    said(&sqlite(&other), &["deliveries", "replay", "--yes"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_a_service_has_worked_in_a_copy_nothing_is_brought_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (folder.path().join("leads.db"), folder.path().join("other.db"));
    many(&file, 4).await;
    let (source, target) = (sqlite(&file), sqlite(&other));
    moved(&source, &target).await;
    // Looking is no work: the next run may still write.
    said(&target, &["leads", "list"]).await;
    said(&target, &["migrate"]).await;
    let store = open(&file);
    accept(store.as_ref(), &lead(), &[("crm", Kind::Crm, Birth::Withheld)]).await;
    store.close().await;
    assert_eq!(moved(&source, &target).await["written"], 1);

    let mut service = Service::start(&[("DATABASE_URL", &target)]).await;
    assert_eq!(service.terminate().await, 0);
    // As long as they are the same there is nothing to bring and nothing to refuse.
    assert_eq!(moved(&source, &target).await["written"], 0);
    said(&target, &["deliveries", "cancel", "--state", "withheld", "--yes"]).await;
    let before = dump(&other);
    let (code, _, beside) = migrate(folder.path(), &["--from", &source, "--to", &target]).await;
    assert_eq!(code, 1);
    assert!(beside.contains("the target is in use") && beside.contains("deliveries"), "{beside}");
    assert_eq!(dump(&other), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_copy_is_no_source() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = ["one.db", "two.db", "three.db"].map(|name| folder.path().join(name));
    many(&one, 2).await;
    moved(&sqlite(&one), &sqlite(&two)).await;
    // A copy that is whole can be moved on, and its mark stays behind.
    moved(&sqlite(&two), &sqlite(&three)).await;
    let own = rusqlite::Connection::open(&two).unwrap();
    own.execute("UPDATE kept SET value = CAST('filling' AS BLOB) WHERE name = 'move'", []).unwrap();
    let (code, _, beside) = migrate(folder.path(), &["--from", &sqlite(&two), "--to", &sqlite(&three)]).await;
    assert!(code == 1 && beside.contains("a move that has not ended"), "{beside}");
}

#[tokio::test]
async fn an_empty_database_is_no_source_and_stays_empty() {
    if !is_here() {
        return;
    }
    let server = Server::start();
    let database = server.database().await;
    let folder = tempfile::tempdir().unwrap();
    let (code, _, beside) = migrate(folder.path(), &["--from", &database, "--to", "sqlite://leads.db"]).await;
    assert!(code == 1 && beside.contains("there is no store at the database test_"), "{beside}");
    assert!(!folder.path().join("leads.db").exists());
    let name = database.split("@/").nth(1).unwrap().split('?').next().unwrap();
    let rows = server.connect(name).await.query("SELECT to_regclass('leads') IS NULL", &[]).await.unwrap();
    assert!(rows[0].get::<_, bool>(0));
}
