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

pub(super) async fn neighbours_that_go_different_ways_each_go_their_own(engine: Engine) {
    let births = [
        Birth::Due,
        Birth::Withheld,
        Birth::Delivered(Receipt::of("A7")),
        Birth::Claimed { lease: LEASE },
        Birth::Delivered(Receipt::of("A8")),
    ];
    let entries: Vec<_> = (0..60_usize)
        .map(|at| {
            let mut entry = Entry::clone(&entry(&lead(), births[at % births.len()].clone()));
            if at % 4 == 1 {
                let planned = |name: &str, birth| Planned {
                    destination: name.parse().unwrap(),
                    kind: Kind::Mail,
                    birth,
                };
                entry.deliveries.insert(0, planned("mail", births[at % 2].clone()));
            }
            if at % 7 == 0 {
                entry.deliveries.clear();
            }
            Arc::new(entry)
        })
        .collect();
    let ends = join_all(entries.iter().map(|entry| engine.store.accept(Arc::clone(entry)))).await;
    assert!(ends.iter().all(|end| matches!(end, Ok(Accepted::New(_)))), "{ends:?}");
    let now = engine.clock.now();
    for entry in entries {
        let record = engine.store.lead(entry.lead.id).await.unwrap().unwrap();
        let is = record.deliveries.into_iter();
        let mut is: Vec<_> = is
            .map(|it| (it.id.destination.to_string(), it.kind, it.state, it.due_at, it.attempts, it.receipt))
            .collect();
        is.sort_by(|one, other| one.0.cmp(&other.0));
        let mut planned: Vec<_> = entry
            .deliveries
            .iter()
            .map(|planned| {
                let (state, due, attempts, receipt) = match &planned.birth {
                    Birth::Due => (State::Pending, Some(now), 0, None),
                    Birth::Claimed { lease } => (State::Pending, Some(now + *lease), 1, None),
                    Birth::Withheld => (State::Withheld, None, 0, None),
                    Birth::Delivered(receipt) => (State::Delivered, None, 0, Some(receipt.clone())),
                };
                (planned.destination.to_string(), planned.kind, state, due, attempts, receipt)
            })
            .collect();
        planned.sort_by(|one, other| one.0.cmp(&other.0));
        assert_eq!(is, planned);
    }
}

pub(super) async fn many_that_are_said_twice_at_once_are_each_one_lead(engine: Engine) {
    let leads: Vec<_> = (0..400).map(|_| lead()).collect();
    let twice = leads.iter().chain(&leads).map(|lead| engine.store.accept(entry(lead, Birth::Due)));
    let ends = join_all(twice).await;
    let new = ends.iter().filter(|end| matches!(end, Ok(Accepted::New(_)))).count();
    let repeats = ends.iter().filter(|end| matches!(end, Ok(Accepted::Repeat))).count();
    assert_eq!((new, repeats), (400, 400));
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
    let Home::Folder(folder) = &*engine.home else { panic!("SQLite lives in a folder") };
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
    let Home::Folder(folder) = &*engine.home else { panic!("SQLite lives in a folder") };
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
