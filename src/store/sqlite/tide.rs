//! A clock that goes back. Due dates, leases and rests are moments of the machine's clock: when that was ahead and is
//! put right, all that was written down meanwhile would wait for hours. So the latest moment that was seen is kept in
//! the store, and who sees an earlier one takes everything that is still to come back with the clock: what is left of
//! a wait stays as long as it was, or becomes shorter by what passed in between, to the minute.
//!
//! PostgreSQL has a clock of its own, for all processes; this is about a file.

use rusqlite::{Connection, OptionalExtension, params};
use tracing::warn;

use super::failed;
use super::write::change;
use crate::clock::Clock;
use crate::store::StoreError;

/// How far apart moments are kept, and how far a clock may go back without anybody caring, in milliseconds: an idle
/// service whose health nobody asks for writes once in this time.
const COARSE: i64 = 60_000;

/// What `kept` knows the latest moment by.
const NAME: &str = "clock";

/// The clock, and the latest moment that the store is known to have.
pub(super) struct Tide {
    clock: Clock,
    kept: Option<i64>,
}

/// What a transaction goes by.
pub(super) struct Turned {
    /// The time, in milliseconds since 1970.
    pub(super) now: i64,
    kept: Option<i64>,
}

impl Tide {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, kept: None }
    }

    /// The time, once the store is right by it.
    pub(super) fn turn(&self, db: &Connection) -> Result<Turned, StoreError> {
        let now = self.clock.now().as_millisecond();
        // A test's clock never goes back.
        let is_known = self.kept.is_some_and(|kept| (kept - COARSE..kept + COARSE).contains(&now));
        if is_known || self.clock.set_by_hand().is_some() {
            return Ok(Turned { now, kept: self.kept });
        }
        let kept = read(db)?;
        if let Some(kept) = kept.filter(|kept| now < kept - COARSE) {
            warn!(
                seconds = (kept - now) / 1_000,
                "the clock went back; what waits for a moment goes with it"
            );
            take_back(db, now, kept - now)?;
        }
        if kept.is_none_or(|kept| !(kept - COARSE..kept + COARSE).contains(&now)) {
            change(
                db,
                "INSERT INTO kept (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
                params![NAME, now.to_be_bytes()],
            )?;
            return Ok(Turned { now, kept: Some(now) });
        }
        Ok(Turned { now, kept })
    }

    /// The transaction is on the disk.
    pub(super) fn keep(&mut self, turned: &Turned) {
        self.kept = turned.kept;
    }
}

/// Writes the latest moment as it is.
pub(super) fn touch(db: &Connection) -> Result<(), StoreError> {
    change(db, "UPDATE kept SET value = value WHERE name = ?1", [NAME]).map(drop)
}

fn read(db: &Connection) -> Result<Option<i64>, StoreError> {
    let kept: Option<Vec<u8>> = db
        .query_row("SELECT value FROM kept WHERE name = ?1", [NAME], |row| row.get(0))
        .optional()
        .map_err(failed)?;
    Ok(kept.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes))
}

/// Everything that is still to come, by so many milliseconds.
fn take_back(db: &Connection, now: i64, by: i64) -> Result<(), StoreError> {
    for (table, moment, is_true, scale) in [
        ("deliveries", "due_at", "state = 'pending'", 1),
        ("standings", "probe_at", "true", 1),
        ("standings", "held_until", "true", 1),
        ("turns", "ends_at", "true", 1),
        ("paces", "paid_at", "true", 1_000),
    ] {
        let sql =
            format!("UPDATE {table} SET {moment} = max(?1, {moment} - ?2) WHERE {is_true} AND {moment} > ?1");
        change(db, &sql, params![now * scale, by * scale])?;
    }
    Ok(())
}
