//! A machine's clock that was ahead and is put right, over a file: what is still to come goes back with it.

use std::path::Path;

use lead_intake::delivery::standing::{Pace, Signal, Standing, Turn};

use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

const MINUTE: Duration = Duration::from_secs(60);

const PACE: Pace = Pace { every: Duration::from_secs(1), burst: 1 };

/// Waits of every kind, in a file of its own.
async fn waits() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.signal(&"parked".parse().unwrap(), Signal::Refused { rest: HOUR }).await.unwrap();
    store.signal(&"held".parse().unwrap(), Signal::Holds(HOUR)).await.unwrap();
    assert!(store.take_turn(&turn("one"), HOUR).await.unwrap());
    store.rest("calls", PACE, 5 * MINUTE).await.unwrap();
    store.close().await;
    folder
}

fn open(folder: &Path) -> Sqlite {
    Sqlite::open(&folder.join("leads.db"), Clock::system()).unwrap()
}

fn turn(holder: &str) -> Turn {
    Turn { name: "sheet".to_owned(), holder: holder.to_owned(), number: 1 }
}

async fn standing(store: &Sqlite, destination: &str) -> Standing {
    let destination = destination.parse().unwrap();
    store.claim_due(ClaimRequest { destination, limit: 0, lease: LEASE, rest: REST }).await.unwrap().standing
}

/// As a clock would have written it that was ahead by so many milliseconds.
fn write_ahead(folder: &Path, by: i64) {
    let file = rusqlite::Connection::open(folder.join("leads.db")).unwrap();
    for (sql, rows) in [
        ("UPDATE standings SET probe_at = probe_at + ?1, held_until = held_until + ?1", 2),
        ("UPDATE turns SET ends_at = ends_at + ?1", 1),
        ("UPDATE paces SET paid_at = paid_at + 1000 * ?1", 1),
    ] {
        assert_eq!(file.execute(sql, [by]).unwrap(), rows, "{sql}");
    }
    say_it_was(&file, by);
}

/// The latest moment that the store has seen, so much later.
fn say_it_was(file: &rusqlite::Connection, by: i64) {
    let kept: [u8; 8] =
        file.query_row("SELECT value FROM kept WHERE name = 'clock'", [], |row| row.get(0)).unwrap();
    let later = (i64::from_be_bytes(kept) + by).to_be_bytes();
    file.execute("UPDATE kept SET value = ?1 WHERE name = 'clock'", [later.as_slice()]).unwrap();
}

#[tokio::test]
async fn rests_pauses_turns_and_paces_last_no_longer_and_no_shorter() {
    let folder = waits().await;
    write_ahead(folder.path(), 6 * 3_600_000);
    let store = open(folder.path());
    for (destination, left) in [
        ("parked", standing(&store, "parked").await.probe_in),
        ("held", standing(&store, "held").await.held_for),
    ] {
        // The latest moment is kept to the minute.
        let about = HOUR / 2..HOUR + MINUTE;
        assert!(left.is_some_and(|left| about.contains(&left)), "{destination}: {left:?}");
    }
    assert!(!store.take_turn(&turn("another"), HOUR).await.unwrap(), "the turn is not over");
    assert!(store.take_turn(&turn("one"), HOUR).await.unwrap());
    assert_eq!(store.pace("calls", PACE, Duration::ZERO).await.unwrap(), None, "nor is the rest");
    let wait = store.pace("calls", PACE, 6 * MINUTE).await.unwrap();
    assert!(wait.is_some_and(|wait| wait > 2 * MINUTE), "{wait:?}");
}

#[tokio::test]
async fn a_clock_that_is_put_right_by_seconds_moves_nothing() {
    let folder = waits().await;
    let file = rusqlite::Connection::open(folder.path().join("leads.db")).unwrap();
    let moments = || -> (i64, i64, i64) {
        let sql = "SELECT (SELECT max(probe_at) FROM standings), (SELECT ends_at FROM turns), (SELECT paid_at FROM paces)";
        file.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    };
    let before = moments();
    say_it_was(&file, 30_000);
    let store = open(folder.path());
    store.ready().await.unwrap();
    store.close().await;
    assert_eq!(moments(), before);
}
