//! What becomes of many commands that wait for the store at the same time.

use futures_util::FutureExt;
use futures_util::future::join_all;

use super::*;

pub(super) async fn an_entry_that_is_refused_leaves_nothing_and_fails_no_neighbour(engine: Engine) {
    let leads: Vec<_> = (0..30).map(|_| lead()).collect();
    let is_good = |at: usize| at % 3 != 1;
    let accepts = leads.iter().enumerate().map(|(at, lead)| {
        let mut entry = Entry::clone(&entry(lead, Birth::Due));
        if !is_good(at) {
            // A lead goes to a destination once: the second of these rows is refused, when all else is written.
            entry.deliveries.push(entry.deliveries[0].clone());
        }
        engine.store.accept(Arc::new(entry))
    });
    let ends = join_all(accepts).await;
    for (at, (lead, end)) in leads.iter().zip(ends).enumerate() {
        let is_there = engine.store.lead(lead.id).await.unwrap().is_some();
        assert_eq!((end.is_ok(), is_there), (is_good(at), is_good(at)), "{at}: {end:?}");
    }
}

/// How many commits stand in a write-ahead log (SQLite's file format, section 4.1): the last frame of each says how
/// large the database is after it.
fn commits(log: &[u8]) -> usize {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    let page = number(&log[8..12]) as usize;
    let frames = log[32..].chunks_exact(24 + page);
    frames.filter(|frame| frame[8..16] == log[16..24] && number(&frame[4..8]) > 0).count()
}

#[tokio::test]
async fn leads_that_wait_together_share_commits() {
    let engine = Engine::sqlite().await.unwrap();
    let Home::Folder(folder) = &engine.home else { panic!("SQLite lives in a folder") };
    let log = || commits(&std::fs::read(folder.path().join("leads.db-wal")).unwrap());
    let before = log();
    let ends = join_all((0..200).map(|_| engine.store.accept(entry(&lead(), Birth::Due)))).await;
    assert!(ends.iter().all(Result::is_ok));
    let made = log() - before;
    assert!((1..200).contains(&made), "{made} commits for 200 leads");
}

#[tokio::test]
async fn more_than_can_wait_for_the_file_is_refused_at_once() {
    let engine = Engine::sqlite().await.unwrap();
    let Home::Folder(folder) = &engine.home else { panic!("SQLite lives in a folder") };
    let holder = rusqlite::Connection::open(folder.path().join("leads.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut waiting = Vec::new();
    let refused = (0..100_000).find_map(|_| {
        let mut asked = engine.store.ready();
        let answer = asked.as_mut().now_or_never();
        waiting.push(asked);
        answer
    });
    assert!(matches!(refused, Some(Err(StoreError::Unavailable(_)))), "{refused:?}");
    waiting.pop();
    holder.execute_batch("ROLLBACK").unwrap();
    // Some of them may have waited too long; whoever comes now does not.
    join_all(waiting).await;
    engine.store.ready().await.unwrap();
}
